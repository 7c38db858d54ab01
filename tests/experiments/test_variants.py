"""The commands that train variants write tables like those that are committed."""

import sys
from dataclasses import replace
from itertools import chain

import pandas as pd
import pytest

from petseg_utils.experiments import encoder_variants, small_breeds, unet_length, variants
from petseg_utils.models.encoders import LITE
from petseg_utils.study import ROOT


@pytest.fixture
def table(data, tmp_path, monkeypatch):
    """What one of the commands writes for the smoke study."""

    def written(command, *options: str) -> pd.DataFrame:
        path = tmp_path / "table.csv"
        monkeypatch.setattr(sys, "argv", ["command", "--study", "smoke", "--csv", str(path), *options])
        command.main()
        return pd.read_csv(path)

    return written


def columns_of(path: str) -> list[str]:
    return pd.read_csv(ROOT / "figures" / path).columns.tolist()


def test_unets_of_each_width_and_length_are_told_and_trained_once(table, monkeypatch):
    rows = table(unet_length, "--widths", "4,6", "--epochs", "1")
    assert rows.columns.tolist() == columns_of("oxford-gpu/unet.csv")
    assert rows["width"].tolist() == [4, 6] and (rows["epochs"] == 1).all() and rows["miou"].between(0, 1).all()
    monkeypatch.delattr(unet_length, "train")
    assert table(unet_length, "--widths", "4,6", "--epochs", "1").equals(rows)


def test_decoders_on_each_encoder_are_told_with_its_cost(table, monkeypatch):
    monkeypatch.setattr(encoder_variants, "trained_briefly", lambda settings: replace(settings, cache=True))
    monkeypatch.setattr(encoder_variants, "TRIED", ((LITE, True), (LITE, False)))
    rows = table(encoder_variants)
    assert rows.columns.tolist() == [*columns_of("oxford-cpu/encoders.csv"), "data", "torch", "commit"]
    assert rows["cache"].tolist() == ["mirrored pictures", "none, pictures varied"] and (rows["encoding_ms"] > 0).all()


def test_breeds_with_few_pictures_are_each_held_out_once(table, splits, monkeypatch):
    monkeypatch.setattr(small_breeds, "trained_briefly", lambda settings: replace(settings, cache=True))
    rows = table(small_breeds, "--folds", "2")
    assert rows.columns.tolist() == columns_of("oxford-cpu/small_breeds.csv")
    assert len(rows) == 3 and (rows["folds"] == 2).all() and (rows["pictures"] == 3).all()  # one of 4 breeds is small
    assert rows["change"][0] == rows["change low"][0] == rows["change high"][0] == 0


def test_a_fold_is_learned_by_nobody_who_predicts_it(splits):
    whole = small_breeds.join(splits["train"], splits["validation"])
    folds = small_breeds.folds_of(whole, 2)
    small = whole.table["breed"].value_counts().index[small_breeds.LARGE :]
    assert sorted(chain(*folds)) == sorted(whole.table["name"][whole.table["breed"].isin(small)])
    for held_out in folds:
        rest = small_breeds.without(whole, held_out)
        assert not set(held_out) & set(rest.table["name"]) and len(rest) == len(whole) - len(held_out)


def test_a_variant_is_trained_once_and_anew_where_it_would_be_another(study, splits, tmp_path, monkeypatch):
    settings = replace(study.settings("unet"), epochs=1)
    first = variants.best_epoch("unet", study, 0, splits, settings, tmp_path)
    trained = []
    monkeypatch.setattr(variants, "train", lambda *arguments, **options: trained.append(options["settings"]))
    assert variants.best_epoch("unet", study, 0, splits, settings, tmp_path).equals(first) and not trained
    other = replace(settings, learning_rate=0.01)
    variants.best_epoch("unet", study, 0, splits, other, tmp_path)
    assert trained == [other]
