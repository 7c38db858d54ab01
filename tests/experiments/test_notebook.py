"""What the notebooks show of the code."""

from petseg_utils.experiments.notebook import show_source
from petseg_utils.models.unet import UNetDecoder
from petseg_utils.training import loop


def test_code_is_shown_without_its_docstring_and_can_be_read_as_it_stands(capsys):
    show_source(UNetDecoder.forward)
    shown = capsys.readouterr().out
    assert shown.startswith("def forward(self, features") and '"""' not in shown
    compile(shown, "shown", "exec")


def test_the_training_loop_fits_on_a_page(capsys):
    show_source(loop.fit)
    shown = capsys.readouterr().out
    assert "optimizer.step()" in shown and len(shown.splitlines()) <= 40
