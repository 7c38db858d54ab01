"""Training on shares of the labels: what is repeated, and what is not."""

from collections import Counter
from dataclasses import replace

from petseg_utils.experiments.few_labels import run_shares
from petseg_utils.models.encoders import Encoder


def test_the_encoder_sees_each_picture_once_though_an_epoch_repeats_it(study, splits, monkeypatch):
    seen, forward = Counter(), Encoder.forward

    def counting(self, images):
        seen.update(image.numpy().tobytes() for image in images)
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", counting)
    settings = replace(study.settings("decoder"), cache=True)
    rows = run_shares("on a half", "decoder", study, splits, settings, shares=(0.5,))
    assert rows["pictures"].tolist() == [len(splits["train"]) // 2]
    sides = 2  # as it is, and mirrored
    assert len(seen) == sides * (len(splits["train"]) // 2 + len(splits["validation"]))
    assert set(seen.values()) == {1}
