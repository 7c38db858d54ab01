"""Runs with few labels are as long as those with many, and are kept by name."""

from dataclasses import replace

import pandas as pd

from petseg_utils.experiments import few_labels


def test_shares_of_labels_make_equal_steps_and_their_rows_are_kept(study, splits, monkeypatch):
    seen = []
    monkeypatch.setattr(few_labels, "train", lambda *given, **options: seen.append((given, options)))
    monkeypatch.setattr(few_labels.pd, "read_csv", lambda path: pd.DataFrame({"miou": [0.25, 0.5, 0.3]}))
    rows = few_labels.run_shares("from scratch", "unet", study, splits, study.models["unet"])
    assert rows["pictures"].tolist() == [4, len(splits["train"])] and (rows["miou"] == 0.5).all()
    for given, options in seen:
        assert options["length"] == len(splits["train"])  # as many examples an epoch, however few pictures
        assert given[3]["validation"] is splits["validation"]
    assert [len(given[3]["train"]) for given, _ in seen] == [4, len(splits["train"])]
    monkeypatch.undo()
    few_labels.update_label_runs(study, splits, rows)
    few_labels.update_label_runs(study, splits, rows.assign(start="frozen"))
    both = few_labels.update_label_runs(study, splits, rows.assign(miou=0.75))
    assert len(both) == 4
    assert both.groupby("start")["miou"].mean().to_dict() == {"from scratch": 0.75, "frozen": 0.5}
    longer = replace(study, labels=replace(study.labels, epochs=9))
    assert len(few_labels.update_label_runs(longer, splits, rows)) == 2  # runs of other lengths are not compared


def test_pretraining_counts_as_better_only_where_every_run_is():
    rows = [("random", 12.0, 0.50, 0.48, 0.52), ("plain", 20.0, 0.53, 0.51, 0.55), ("with skips", 32.5, 0.49, 0.4, 0.5)]
    table = pd.DataFrame(
        [*rows, ("masked", 19.0, 0.56, 0.53, 0.6)], columns=["pretraining", "psnr", "miou", "low", "high"]
    )
    said = few_labels.variant_sentence(table)
    assert "gains +12.5 dB over plain, and the mask's mIoU -0.040. Masking changes mIoU by +0.030" in said
    assert said.endswith("the *random* encoder (0.500) in every run: **masked**.")
    runs = [("from scratch", 10, 0.4), ("from scratch", 10, 0.5), ("frozen", 10, 0.51), ("frozen", 10, 0.6)]
    runs += [("fine-tuned", 10, 0.3), ("fine-tuned", 10, 0.39), ("from scratch", 99, 0.7), ("frozen", 99, 0.7)]
    lines = few_labels.label_sentences(pd.DataFrame(runs, columns=["start", "pictures", "miou"])).splitlines()
    assert "**10** labels *frozen* is best at 0.555; from scratch gives 0.450" in lines[0]
    assert "better than from scratch: frozen; worse: fine-tuned." in lines[0]
    assert "better than from scratch: none; worse: none." in lines[1]


def test_the_start_that_is_best_on_average_is_called_best():
    runs = [("from scratch", 10, 0.5), ("from scratch", 10, 0.5), ("frozen", 10, 0.4), ("frozen", 10, 0.7)]
    runs += [("fine-tuned", 10, 0.1), ("fine-tuned", 10, 0.8)]
    said = few_labels.label_sentences(pd.DataFrame(runs, columns=["start", "pictures", "miou"]))
    assert "*frozen* is best at 0.550" in said
