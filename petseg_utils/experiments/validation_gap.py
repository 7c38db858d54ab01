"""Why does a model score differently on validation and on test pictures?  Both, breed by breed.

Usage: python -m petseg_utils.experiments.validation_gap  (the decoder's checkpoints of PETSEG_STUDY)
"""

import numpy as np
import pandas as pd

from petseg_utils.data.labels import CLASSES
from petseg_utils.data.pictures import PictureSet, load_splits
from petseg_utils.scores.metrics import picture_confusions, protocol_matrix, scores
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.results import PRIMARY
from petseg_utils.study import Study, load_study
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.process import set_up_process

MODEL = "decoder"
PARTS = ("validation", "test")
FREQUENT = 3  # breeds
CELLS = [f"{target} as {predicted}" for target in CLASSES for predicted in CLASSES]


def by_breed(study: Study, splits: dict[str, PictureSet]) -> pd.DataFrame:
    """Return the confusion counts of the study's decoder on validation and test pictures, border ignored, by breed.

    Returns
    -------
    DataFrame
        One row per split and breed: ``split``, ``breed``, ``pictures``, ``seeds``, and a column for each cell of the
        confusion matrix, such as ``cat as background``: pixels, summed over the breed's pictures and the seeds.
    """
    networks, rows = [load(find_checkpoint(MODEL, study, seed))[0] for seed in study.seeds], []
    for split in PARTS:
        pictures = splits[split]
        counts = sum(picture_confusions(pictures.labels, predict(network, pictures).classes) for network in networks)
        matrices = protocol_matrix(np.asarray(counts), PRIMARY)
        for breed, group in pictures.table.groupby("breed"):
            cells = dict(zip(CELLS, matrices[group.index].sum(0).ravel().tolist(), strict=True))
            rows.append({"split": split, "breed": breed, "pictures": len(group), "seeds": len(networks)} | cells)
    return pd.DataFrame(rows)


def miou_of(rows: pd.DataFrame) -> float:
    """Return the mean IoU of some rows of `by_breed` together, 0..1."""
    return float(scores(rows[CELLS].to_numpy().sum(0).reshape(len(CLASSES), -1))["miou"])


def gap_sentence(table: pd.DataFrame) -> str:
    """Say how far validation is from test, and which breeds make the difference; from `by_breed`'s table."""
    whole = table.groupby("breed")["pictures"].sum().sort_values(ascending=False)
    frequent = table["breed"].isin(whole.index[:FREQUENT])
    said = []
    for split in PARTS:
        rows, few = table[table["split"] == split], table[(table["split"] == split) & ~frequent]
        all_of_them, rare = rows["pictures"].sum(), few["pictures"].sum()
        share = rare / all_of_them
        said.append(
            f"On the {all_of_them} {split} photos the decoder has mIoU {miou_of(rows):.3f}: "
            f"{miou_of(rows.drop(few.index)):.3f} on the {all_of_them - rare} of the {FREQUENT} most frequent breeds, "
            f"{miou_of(few):.3f} on the {rare} others, {share:.0%} of all."
        )
    said.append(f"The most frequent are {', '.join(whole.index[:FREQUENT])}.")
    rows = table[table["split"] == PARTS[0]]
    without = {index: miou_of(rows.drop(index)) for index in rows.index[rows["pictures"] == 1]}
    worst = max(without, key=lambda index: without[index])
    change = without[worst] - miou_of(rows)
    said.append(
        f"With so few photos, one counts: without its only {rows['breed'][worst]}, validation would be at "
        f"{without[worst]:.3f} ({change:+.3f})."
    )
    return " ".join(said)


if __name__ == "__main__":
    set_up_process()
    chosen = load_study()
    made = by_breed(chosen, load_splits(chosen))
    chosen.figures_dir.mkdir(parents=True, exist_ok=True)
    made.to_csv(chosen.figures_dir / "breeds.csv", index=False)
    print(gap_sentence(made))
