"""What helps on breeds with few pictures: variants of model 3, cross-validated on their labelled pictures.

Usage: python -m petseg_utils.experiments.small_breeds [--study oxford-cpu] [--folds 4] [--csv OUT]

All breeds count as small but the three with the most pictures.  The validation split holds too few of their pictures
to base a choice on.  So each of their pictures, from training and validation together, is predicted by a decoder that
did not learn from its fold; the test split plays no part.  A variant needs one decoder per fold, so all of them are
narrower than the study's and trained more briefly.  Variants are compared with the first one picture by picture.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from petseg_utils.data.pictures import PictureSet, join, load_splits
from petseg_utils.experiments.comparisons import paired_resamples
from petseg_utils.experiments.variants import add_row, command_line, made_of, trained_briefly
from petseg_utils.models.encoders import resolve
from petseg_utils.scores.intervals import bootstrap_intervals, paired_difference, with_interval
from petseg_utils.scores.metrics import picture_confusions, protocol_matrix, scores
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.results import PRIMARY
from petseg_utils.study import Study, TrainingSettings, load_study
from petseg_utils.training.process import set_up_process
from petseg_utils.training.train import train

LARGE = 3  # the breeds with the most pictures; all others are small


def folds_of(pictures: PictureSet, folds: int) -> list[list[str]]:
    """Deal the names of the pictures of small breeds out to `folds` folds, breed by breed."""
    large = pictures.table["breed"].value_counts().index[:LARGE]
    few = pictures.table[~pictures.table["breed"].isin(large)].sort_values(["breed", "name"])["name"].tolist()
    return [few[fold::folds] for fold in range(folds)]


def without(pictures: PictureSet, names: list[str]) -> PictureSet:
    """Return the pictures except those with these names."""
    rest = ~pictures.table["name"].isin(names)
    return pictures.subset(pictures.table["name"][rest].tolist())


def confusions_by_fold(
    variant: str, settings: TrainingSettings, study: Study, splits: dict[str, PictureSet], folds: list[list[str]]
) -> np.ndarray:
    """Return the confusion counts of each held-out picture, ``(n, 5, 3)``, fold after fold."""
    everything, counts = join(splits["train"], splits["validation"]), []
    for number, held_out in enumerate(folds):
        parts = {split: without(splits[split], held_out) for split in ("train", "validation")}
        folder = study.runs_dir / "small_breeds" / f"{variant.replace(' ', '-')}-fold{number}"
        network = train("decoder", study, study.seeds[0], parts, settings=settings, folder=folder, progress=False)
        pictures = everything.subset(held_out)
        counts.append(picture_confusions(pictures.labels, predict(network, pictures).classes))
    return np.concatenate(counts)


def breeds_in_words(table: pd.DataFrame) -> str:
    """Say what a table that `main` wrote shows of each variant, compared with the first; Markdown."""
    first, others = table.iloc[0], table.iloc[1:]
    lines = [
        f"* A decoder {first['decoder']} reaches mIoU **{with_interval(first['miou'], first['low'], first['high'])}** "
        f"on {first['pictures']} pictures, each held out in one of {first['folds']} folds. "
        f"{first['wrong_species']:.1%} of the pets' pixels get the other species' name."
    ]
    for _, row in others.iterrows():
        change = with_interval(row["change"], row["change low"], row["change high"], "+.3f")
        verdict = "worse" if row["change high"] < 0 else "better" if row["change low"] > 0 else "no difference shown"
        lines.append(f"* {row['decoder'][:1].upper()}{row['decoder'][1:]}: {change}, {verdict}.")
    return "\n".join(lines)


def main() -> None:
    """Train each variant once per fold, and score the folds together."""
    parser = command_line(__doc__, "oxford-cpu")
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    set_up_process()
    study = load_study(options.study)
    splits = load_splits(study)
    brief = trained_briefly(study.settings("decoder"))
    variants = {
        "trained briefly on cached features": brief,
        "without Dice in the loss": replace(brief, dice=0.0),
        "pictures varied, not cached": replace(brief, cache=False, mixed_precision="auto"),
    }
    folds, first = folds_of(join(splits["train"], splits["validation"]), options.folds), None
    rows: list[dict] = []
    for variant, settings in variants.items():
        counts = confusions_by_fold(variant, settings, study, splits, folds)
        first = counts if first is None else first
        low, high = bootstrap_intervals(counts, PRIMARY, n_resamples=study.bootstrap_resamples)["miou"]
        change = paired_difference(counts, first, PRIMARY, n_resamples=paired_resamples(study))
        matrix = protocol_matrix(counts.sum(0), PRIMARY)
        row = {
            "decoder": variant,
            "miou": scores(matrix)["miou"],
            "low": low,
            "high": high,
            "change": change["difference"],
            "change low": change["low"],
            "change high": change["high"],
            "wrong_species": (matrix[1, 2] + matrix[2, 1]) / matrix[1:].sum(),
            "pictures": len(counts),
            "folds": len(folds),
            "encoder": resolve(study.encoder),
        }
        add_row(rows, row | made_of(splits), options.csv)


if __name__ == "__main__":
    main()
