"""Training on shares of the labels: what is repeated, and what is kept by name."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from petseg_utils.experiments import variants
from petseg_utils.experiments.few_labels import run_shares, small_study, write_label_runs
from petseg_utils.models.encoders import DETAIL_LITE, TWICE_LITE, Encoder, load_encoder


def test_the_encoder_sees_each_picture_once_though_an_epoch_repeats_it(study, splits, monkeypatch):
    seen, forward = Counter(), Encoder.forward

    def counting(self, images):
        seen.update(image.numpy().tobytes() for image in images)
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", counting)
    settings = replace(study.settings("decoder"), cache=True)
    rows = run_shares("on a half", "decoder", study, splits, settings, shares=(0.5,))
    assert rows["pictures"].tolist() == [len(splits["train"]) // 2]
    sides = 2  # as it is, and mirrored, to learn from
    assert len(seen) == sides * (len(splits["train"]) // 2) + len(splits["validation"])
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("spec", [TWICE_LITE, DETAIL_LITE, "auto", "clip:ViT-B-16//me@home/a+b.pt"])
def test_an_encoder_that_names_sizes_gets_those_of_the_small_pictures(study, spec):
    large = replace(study, image_size=224, encoder=spec, labels=replace(study.labels, image_size=96))
    small = small_study(large)
    assert small.image_size == 96 and small.encoder == spec.replace("@224+448", "@96+192")
    assert small.labels == large.labels
    if "@" in small.encoder and not spec.startswith("clip:"):
        assert load_encoder(small.encoder, small.image_size).scale == small.picture_scale == 2


def test_shares_of_labels_make_equal_steps_and_their_rows_are_kept(study, splits, monkeypatch):
    seen = []
    monkeypatch.setattr(variants, "train", lambda *given, **options: seen.append((given, options)))
    monkeypatch.setattr(variants.pd, "read_csv", lambda path: pd.DataFrame({"miou": [0.25, 0.5, 0.3]}))
    rows = run_shares("from scratch", "unet", study, splits, study.models["unet"])
    assert rows["pictures"].tolist() == [4, len(splits["train"])] and (rows["miou"] == 0.5).all()
    for given, options in seen:
        assert options["length"] == len(splits["train"])  # as many examples an epoch, however few pictures
        assert given[3]["validation"] is splits["validation"]
    assert [len(given[3]["train"]) for given, _ in seen] == [4, len(splits["train"])]
    monkeypatch.undo()
    write_label_runs(study, splits, rows)
    written = pd.read_csv(study.figures_dir / "labels.csv")
    assert written["miou"].tolist() == [0.5, 0.5] and set(written["data"]) == {splits["train"].fingerprint}
