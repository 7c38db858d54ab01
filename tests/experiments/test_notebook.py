"""What the notebooks show of the code."""

import inspect
import re

import pytest

from petseg_utils.experiments.notebook import show_source
from petseg_utils.models.unet import UNetDecoder, UNetEncoder
from petseg_utils.training import loop


def code_of(*arguments, **options) -> str:
    """The code that `show_source` shows, without its head and its fence."""
    return re.fullmatch(
        r"`.*`, lines \d+ to \d+\n\n```python\n(.*)\n```", show_source(*arguments, **options).data, re.DOTALL
    )[1]


@pytest.mark.parametrize("thing", [UNetDecoder.forward, UNetEncoder, loop.fit])
def test_code_is_shown_without_docstrings_and_can_be_read_as_it_stands(thing):
    shown = code_of(thing)
    assert '"""' not in shown and "\n\n\n" not in shown
    compile(shown, "shown", "exec")


def test_code_stands_under_its_place():
    module = inspect.getsource(inspect.getmodule(UNetDecoder)).splitlines()
    place, first, last = re.match(r"`(.*)`, lines (\d+) to (\d+)", show_source(UNetDecoder.forward).data).groups()
    assert place == "petseg_utils/models/unet.py"
    assert module[int(first) - 1].startswith("    def forward(self, features: list")
    assert module[int(last) - 1].strip() == "return self.head(x)"


def test_code_is_cut_to_the_lines_that_matter():
    assert code_of(UNetDecoder.forward, first="*skips", last="for ").splitlines() == [
        "*skips, x = features",
        "for upsample, block, skip in zip(self.upsample, self.blocks, reversed(skips), strict=True):",
    ]
    assert code_of(UNetDecoder, first="def forward").endswith("return self.head(x)")
    with pytest.raises(ValueError, match="No line of the code to be shown holds 'nothing like it'"):
        show_source(UNetDecoder, last="nothing like it")


def test_the_training_loop_fits_on_a_page():
    shown = code_of(loop.fit)
    assert "optimizer.step()" in shown and 15 <= len(shown.splitlines()) <= 40
