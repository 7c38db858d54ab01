"""Why validation and test differ is told from counts by breed."""

import numpy as np
import pandas as pd

from petseg_utils.experiments.validation_gap import CELLS, MODEL, by_breed, gap_sentence, miou_of
from petseg_utils.scores.metrics import picture_confusions, pooled_miou
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.results import PRIMARY
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.train import train


def test_counts_by_breed_give_the_splits_own_score(study, splits):
    train(MODEL, study, study.seeds[0], splits, progress=False)
    table = by_breed(study, splits)
    network = load(find_checkpoint(MODEL, study, study.seeds[0]))[0]
    for split in ("validation", "test"):
        pictures, rows = splits[split], table[table["split"] == split]
        counts = picture_confusions(np.array(pictures.labels), predict(network, pictures).classes)
        assert abs(miou_of(rows) - pooled_miou(counts, PRIMARY)) < 1e-9
        assert rows["pictures"].sum() == len(pictures) and rows["breed"].is_unique


def invented(split: str, breed: str, pictures: int, right: int, wrong: int) -> dict:
    """Counts of a breed of cats; the background is without error."""
    cells = dict.fromkeys(CELLS, 0) | {"background as background": 100, "cat as cat": right, "cat as background": wrong}
    return {"split": split, "breed": breed, "pictures": pictures, "seeds": 1} | cells


def test_the_sentence_names_the_breed_that_makes_the_difference():
    many = [invented(split, breed, 10, 90, 10) for split in ("validation", "test") for breed in "abc"]
    rows = [*many, invented("validation", "rare", 1, 0, 100), invented("test", "rare", 1, 90, 10)]
    said = gap_sentence(pd.DataFrame(rows))
    assert "On the 31 validation photos" in said and "on the 1 others, 3% of all" in said
    assert "The most frequent are a, b, c." in said and "without its only rare, validation would be at" in said
    assert "(+0." in said  # the rare breed alone pulled it down
    turned = [row | {"cat as cat": row["cat as background"], "cat as background": row["cat as cat"]} for row in rows]
    assert "(-0." in gap_sentence(pd.DataFrame(turned))
