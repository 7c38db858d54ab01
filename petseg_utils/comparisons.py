"""Which differences between models are real?  Predictions are remade on the same pictures and compared pairwise."""

import contextlib
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from torch import nn

from petseg_utils.checkpoints import find_checkpoint, load
from petseg_utils.clicks import clicked_classes, first_clicks, open_pictures
from petseg_utils.evaluation import BATCH, predict
from petseg_utils.intervals import paired_difference
from petseg_utils.metrics import picture_confusions, pooled_miou, protocol_matrix, scores
from petseg_utils.pictures import PictureSet, load_splits
from petseg_utils.plotting import SPECIES
from petseg_utils.results import PRIMARY, PROMPTED
from petseg_utils.study import PetsegError, Study, load_study
from petseg_utils.unlabelled import unlabelled_folder

CLICKED = f"{PROMPTED}, one click"
LEVEL = 0.95


@dataclass(frozen=True)
class Remade:
    """What a model says of the test pictures, said anew.

    Parameters
    ----------
    counts : ndarray
        ``int (n, 5, 3)`` from `metrics.picture_confusions`, summed over the seeds picture by picture.
    by_seed : list of ndarray
        The same of each seed.
    classes : ndarray
        ``uint8 (n, size, size)``, of the first seed.
    encoder : str or None
        The frozen encoder, where the model has one.
    seconds : float
        Least time for a picture in a batch, the encoder's included; NaN where it was not taken.
    parameters : int
        All weights, frozen ones too.
    """

    counts: np.ndarray
    by_seed: list[np.ndarray]
    classes: np.ndarray
    encoder: str | None
    seconds: float
    parameters: int


def compared_models(study: Study) -> tuple[str, ...]:
    """The study's segmenters, in the order of the notebooks; self-training only where its pictures are."""
    more = ("clip_selftrained",) if study.clip_selftrained and unlabelled_folder() else ()
    return ("unet", "autoencoder_unet", "clip", *more, PROMPTED)


def remake(networks: dict[str, list[nn.Module]], pictures: PictureSet) -> dict[str, Remade]:
    """Predict pictures anew with every model, one after the other.

    The prompted model is there twice: before anybody clicks, and after one click at random on the pet, as ``point, one
    click``.

    Parameters
    ----------
    networks : dict
        Model's name to its networks, one per seed.
    pictures : PictureSet
        The test split.
    """
    found, seconds = {}, least_seconds({model: seeds[0] for model, seeds in networks.items()}, pictures)
    for model, seeds in networks.items():
        first = seeds[0]
        frozen = hasattr(first.encoder, "identity")
        parameters = sum(p.numel() for p in first.parameters())
        parameters += sum(p.numel() for p in first.encoder.parameters()) if frozen else 0
        encoder = first.encoder.identity if frozen else None
        classes = [predict(network, pictures).classes for network in seeds]
        found[model] = _remade(classes, pictures, encoder, seconds[model], parameters)
        if model == PROMPTED:
            clicked = [predict_clicked(network, pictures) for network in seeds]
            found[CLICKED] = _remade(clicked, pictures, encoder, np.nan, parameters)
    return found


def _remade(classes: list[np.ndarray], pictures: PictureSet, encoder: str | None, seconds: float, parameters: int):
    counts = [picture_confusions(pictures.labels, one) for one in classes]
    return Remade(sum(counts), counts, classes[0], encoder, seconds, parameters)


def least_seconds(networks: dict[str, nn.Module], pictures: PictureSet, repeats: int = 6) -> dict[str, float]:
    """Seconds for a picture: each model's fastest of some passes over one batch, the models taking turns.

    Other work of the machine can only make a pass slower, and comes and goes.
    """
    batch = replace(
        pictures, table=pictures.table.iloc[:BATCH], images=pictures.images[:BATCH], labels=pictures.labels[:BATCH]
    )
    taken = [{model: predict(network, batch).seconds for model, network in networks.items()} for _ in range(repeats)]
    return pd.DataFrame(taken).min().to_dict()


def predict_clicked(model: nn.Module, pictures: PictureSet) -> np.ndarray:
    """Classes ``uint8 (n, size, size)`` after one click at random on each pet.

    See `clicks.clicked_classes`.  The clicks are the first ones of `clicks.click_values`.
    """
    classes = np.zeros(pictures.labels.shape, np.uint8)
    for opened in open_pictures(model, pictures):
        classes[opened.rows.start : opened.rows.stop] = clicked_classes(model, opened, first_clicks(opened, 0))
    return classes


def paired_table(found: dict[str, Remade], study: Study) -> pd.DataFrame:
    """Difference in mIoU of each pair of models, border ignored, with its paired bootstrap interval.

    Several seeds are pooled: their counts are added up picture by picture, so pictures stay the unit that is drawn.
    A difference is called real where an interval at the level ``1 - 0.05 / pairs`` leaves zero out (Bonferroni), so
    that all verdicts together are wrong once in twenty times; and where it has the same sign with every seed.

    Returns
    -------
    DataFrame
        ``study``, ``a``, ``b`` (a has the higher score), ``encoder a``, ``encoder b``, ``difference`` (a minus b, 0 to
        1), ``low``, ``high`` (95 %), ``real``, ``prompted`` (one of them is the prompted model), ``pictures``,
        ``seeds``, largest difference first.
    """
    pairs = list(combinations(found, 2))
    strict = 1 - (1 - LEVEL) / max(1, len(pairs))
    rows = []
    for one, other in pairs:
        a, b = sorted((one, other), key=lambda name: -pooled_miou(found[name].counts, PRIMARY))
        options = {"n_resamples": study.bootstrap_resamples}
        pair = (found[a].counts, found[b].counts, PRIMARY)
        shown, sure = paired_difference(*pair, **options), paired_difference(*pair, **options, level=strict)
        each = zip(found[a].by_seed, found[b].by_seed, strict=True)
        agree = all(pooled_miou(first, PRIMARY) > pooled_miou(second, PRIMARY) for first, second in each)
        row = {"study": study.name, "a": a, "b": b, "encoder a": found[a].encoder, "encoder b": found[b].encoder}
        row |= {name: shown[name] for name in ("difference", "low", "high")}
        row |= {
            "real": bool(agree and sure["low"] > 0),
            "prompted": bool({PROMPTED, CLICKED} & {a, b}),
        }
        rows.append(row | {"pictures": len(found[a].counts), "seeds": len(found[a].by_seed)})
    return pd.DataFrame(rows).sort_values("difference", ascending=False, ignore_index=True)


def timing_table(found: dict[str, Remade], study: Study) -> pd.DataFrame:
    """What a picture costs each model that nobody helped, beside its mIoU, border ignored.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``encoder``, ``mIoU``, ``ms`` a picture in batches of 16, the encoder's share included,
        ``parameters``, ``pictures``.
    """
    rows = [
        {"study": study.name, "model": name, "encoder": one.encoder, "mIoU": pooled_miou(one.counts, PRIMARY)}
        | {"ms": 1000 * one.seconds, "parameters": one.parameters, "pictures": len(one.counts)}
        for name, one in found.items()
        if name != CLICKED
    ]
    return pd.DataFrame(rows)


def breed_table(found: dict[str, Remade], pictures: PictureSet) -> pd.DataFrame:
    """IoU of each breed's own species, border ignored, a column per model; calling it the other species is a miss.

    Returns
    -------
    DataFrame
        Index ``breed``; ``species``, ``pictures``, and a column per model, by the mean over models.
    """
    rows = []
    for breed, group in pictures.table.groupby("breed"):
        species = int(group["species"].iloc[0])
        row = {"breed": breed, "species": SPECIES[species], "pictures": len(group)}
        for name, one in found.items():
            matrix = protocol_matrix(one.counts[group.index].sum(0), PRIMARY)
            row[name] = float(scores(matrix)["iou"][species])
        rows.append(row)
    table = pd.DataFrame(rows).set_index("breed")
    return table.loc[table[list(found)].mean(axis=1).sort_values().index]


def what_went_wrong(counts: np.ndarray, species: int) -> str:
    """A word on one picture's prediction, from its counts ``(5, 3)``: the largest kind of mistake.

    Compared are pet pixels that were missed, pet pixels that got the other species' name, and background pixels that
    were taken for pet, border left out.
    """
    matrix = protocol_matrix(counts, PRIMARY)
    other = SPECIES[3 - species]
    kinds = {
        "part of it missed": matrix[species, 0],
        f"called a {other}": matrix[species, 3 - species],
        "background taken for pet": matrix[0, 1:].sum(),
    }
    pet = max(1, matrix[species].sum())
    if matrix[species, 0] > 0.8 * pet:
        return "not found"
    if max(kinds.values()) < 0.05 * pet:
        return "the outline only"
    return max(kinds, key=kinds.get)


def mistake_counts(found: dict[str, Remade], pictures: PictureSet) -> pd.DataFrame:
    """How many pictures of each model have which largest mistake, by `what_went_wrong`; first seeds only."""
    columns = {}
    for name, one in found.items():
        pairs = zip(one.by_seed[0], pictures.table["species"], strict=True)
        said = pd.Series([what_went_wrong(counts, species) for counts, species in pairs])
        columns[name] = said.replace(
            {f"called a {name}": "the other species" for name in SPECIES.values()}
        ).value_counts()
    return pd.DataFrame(columns).fillna(0).astype(int)


def compare_checkpoints(study: Study, splits: dict[str, PictureSet]) -> pd.DataFrame:
    """`paired_table` of the checkpoints that are there, first seeds, without training what is not.

    Writes ``pairs.csv`` and ``timing.csv`` into the study's folder of figures.

    Raises
    ------
    PetsegError
        If fewer than two finished ones are there.
    """
    networks = {}
    for model in ("unet", "autoencoder_unet", "clip", "clip_selftrained", PROMPTED):
        with contextlib.suppress(PetsegError):
            network, card = load(find_checkpoint(model, study))
            if card.get("training_seconds"):
                networks[model] = [network]
    if len(networks) < 2:
        raise PetsegError(f"Study {study.name!r} has fewer than two finished checkpoints to compare: train some.")
    found = remake(networks, splits["test"])
    pairs = paired_table(found, study)
    study.figures_dir.mkdir(parents=True, exist_ok=True)
    pairs.to_csv(study.figures_dir / "pairs.csv", index=False, float_format="%.4f")
    timing_table(found, study).to_csv(study.figures_dir / "timing.csv", index=False, float_format="%.4f")
    return pairs


if __name__ == "__main__":
    chosen = load_study()
    print(compare_checkpoints(chosen, load_splits(chosen)).to_string())
