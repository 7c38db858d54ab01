"""Charts of trainings."""

from dataclasses import replace

import numpy as np
import pandas as pd

from petseg_utils.experiments.study_records import committed_records
from petseg_utils.experiments.training_charts import score_over_time, scores_by_time, training_curves
from petseg_utils.scores.results import PRIMARY, select
from petseg_utils.training.checkpoints import run_folder


def test_a_model_that_has_no_colour_of_its_own_is_drawn_in_grey():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1, 0.5], "validation_loss": [1, 0.6], "miou": [0.3, 0.5]})
    losses, scores = training_curves({0: history}, "mine").axes
    assert losses.lines[1].get_color() == scores.lines[0].get_color() == "#555555"


def test_scores_are_drawn_over_all_minutes_that_a_model_took(study):
    for model, seconds in (("autoencoder", 90.0), ("autoencoder_unet", 60.0), ("unet", 30.0), ("point", 30.0)):
        folder = run_folder(model, study, study.seeds[0])
        folder.mkdir(parents=True)
        rows = pd.DataFrame({"epoch": [1, 2], "seconds": [seconds, seconds], "miou": [0.3, 0.5]})
        rows.to_csv(folder / "history.csv", index=False)
    (axis,) = score_over_time(replace(study, seeds=study.seeds[:1]), ["unet", "autoencoder_unet", "point"]).axes
    minutes = {line.get_label(): list(line.get_xdata()) for line in axis.lines}
    assert minutes == {"U-Net": [0.5, 1.0], "U-Net on autoencoder": [4.0, 5.0]}  # after the autoencoder's three


def test_a_ring_is_a_run_on_a_gpu_and_pretraining_counts():
    on_cpu, on_gpu = committed_records("oxford-cpu"), committed_records("oxford-gpu", "unet")
    (axis,) = scores_by_time([*on_cpu, *on_gpu]).axes
    words = {text.get_text(): text for text in axis.texts}
    assert {"U-Net, 24 epochs, CPU", "U-Net, 200 epochs, GPU", "U-Net on autoencoder, 24 epochs, CPU"} <= set(words)
    assert not any("click" in text for text in words)
    groups = dict(zip(words, axis.collections, strict=True))
    assert (
        len(groups["U-Net, 200 epochs, GPU"].get_facecolors())
        == 0
        < len(groups["U-Net, 24 epochs, CPU"].get_facecolors())
    )
    ours = [record for record in select(on_cpu, protocol=PRIMARY) if record["model"] == "autoencoder_unet"]
    took = [(r["training_seconds"] + r["trained_on"]["pretraining"]["training_seconds"]) / 60 for r in ours]
    drawn = groups["U-Net on autoencoder, 24 epochs, CPU"].get_offsets()
    assert np.allclose(drawn, [(minutes, r["scores"]["miou"]) for minutes, r in zip(took, ours, strict=True)])
