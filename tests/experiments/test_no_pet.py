"""Photos without a pet: where they come from, and what is proposed on them."""

import numpy as np

from petseg_utils.experiments import no_pet
from petseg_utils.segmenter import Segmenter


def test_photos_without_a_pet_are_parts_beside_pets_scenes_and_free_photos(study, monkeypatch):
    monkeypatch.setattr(no_pet, "DRAWN", 3)
    monkeypatch.setattr(Segmenter, "load", classmethod(lambda *_, **__: Blind()))
    table = no_pet.nothing_proposed({"drawn pets": study.data_dir})
    assert table["n_images"].iloc[1:].tolist() == [len(no_pet.SHOWN), 3, table["n_images"].iloc[:-1].sum()]
    assert table["nothing"].iloc[2] == 1 and table["nothing"].iloc[1] < 1  # a clear drawing, and white pages
    for part in no_pet.parts_beside_pets(study.data_dir):
        assert min(part.shape[:2]) >= 20


class Blind:
    """Takes all that is nearly white for a cat."""

    def predict(self, image):
        return (image.min(2) > 250).astype(np.uint8)
