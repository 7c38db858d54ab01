"""Photos without a pet: where they come from, and what is proposed on them."""

import numpy as np
import pandas as pd

from petseg_utils.data.datasets import list_pictures
from petseg_utils.experiments import no_pet
from petseg_utils.models.cards import read_card, sha256
from petseg_utils.segmenter import Segmenter
from petseg_utils.training.checkpoints import find_checkpoint


def test_photos_without_a_pet_are_parts_beside_pets_scenes_and_free_photos(study, monkeypatch):
    monkeypatch.setattr(no_pet, "DRAWN", 3)
    monkeypatch.setattr(Segmenter, "load", classmethod(lambda *_, **__: Blind()))
    table = no_pet.nothing_proposed({"drawn pets": study.data_dir})
    assert table["n_images"].iloc[1:].tolist() == [len(no_pet.SHOWN), 3, table["n_images"].iloc[:-1].sum()]
    assert table["nothing"].iloc[2] == 1 and table["nothing"].iloc[1] < 1  # a clear drawing, and white pages
    for part in no_pet.parts_beside_pets(list_pictures(study.data_dir, "test")):
        assert min(part.shape[:2]) >= 20


def test_the_surer_a_part_must_be_the_fewer_are_left(study):
    table = no_pet.compare_peaks({"drawn pets": study.data_dir}).set_index("peak")
    assert table["nothing"].is_monotonic_increasing and table["lost"].is_monotonic_increasing
    assert table["iou"].between(0, 1).all() and (table["n_images"] > 0).all() and table["n_empty"].between(1, 99).all()


def test_the_threshold_of_the_weights_that_ship_is_the_one_that_held_out_photos_speak_for():
    table = pd.read_csv(no_pet.PEAKS_COMPARED)
    card = read_card(path := find_checkpoint("decoder", None))
    assert set(table["weights"]) == {sha256(path)}
    assert table.loc[table["iou"].idxmax(), "peak"] == card["peak"]
    said = no_pet.peaks_in_words(table, card["peak"])
    assert "the best of those compared" in said and "not the best" not in said
    table.loc[table["peak"] == 0.0, "iou"] = 1.0
    assert "not the best of those compared" in no_pet.peaks_in_words(table, card["peak"])


def test_a_part_is_kept_where_it_is_sure_somewhere():
    chance = np.zeros((8, 8), np.float32)
    chance[:3, :3], chance[5:, 5:] = 0.7, 0.7
    chance[1, 1] = 0.96
    assert no_pet.kept(chance, 0.95).sum() == 9 and no_pet.kept(chance, 0.98).sum() == 0
    assert no_pet.kept(chance, 0.0).sum() == 18


class Blind:
    """Takes all that is nearly white for a cat."""

    def predict(self, image):
        return (image.min(2) > 250).astype(np.uint8)
