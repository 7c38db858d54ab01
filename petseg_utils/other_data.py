"""Pictures from elsewhere: how a study's models do on photos that its data set does not hold."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from petseg_utils.datasets import list_pictures
from petseg_utils.evaluation import predict
from petseg_utils.intervals import resampled_sums
from petseg_utils.metrics import picture_confusions, protocol_matrix
from petseg_utils.pictures import PictureSet, decode
from petseg_utils.study import PetsegError, Study


def other_folder() -> Path | None:
    """The folder that ``PETSEG_OOD`` names; None if it names none.

    Raises
    ------
    PetsegError
        If there is no such folder.
    """
    if not (named := os.environ.get("PETSEG_OOD")):
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise PetsegError(f"PETSEG_OOD names {folder.name!r}, which is no folder.")
    return folder


def other_pictures(study: Study, *, progress: bool = True) -> PictureSet | None:
    """The test split of the folder from elsewhere, in one of the layouts of `datasets`; None without a folder."""
    folder = other_folder()
    return decode(list_pictures(folder, "test"), study.image_size, progress=progress) if folder else None


def compare_sets(
    study: Study, networks: dict[str, nn.Module], sets: dict[str, PictureSet], n_resamples: int
) -> pd.DataFrame:
    """Score models on several picture sets.

    A set may hold one species only, and then mIoU over three classes would hang on a few pixels given to the absent
    one.  So the pet's outline and its name are scored apart.

    Parameters
    ----------
    study : Study
        Whose models they are.
    networks : dict
        Model's name to network.
    sets : dict
        What to call a picture set, to the set.
    n_resamples : int
        Bootstrap resamples of pictures.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``pictures`` (the set's name), ``n_images``, ``species`` (those in it), ``score`` (``pet
        IoU``: pet against rest; ``right name``: share of the pixels found on a pet that have its species; border and
        padding left out), ``value``, ``low`` and ``high``: 95 % interval over pictures.
    """
    rows = []
    for title, pictures in sets.items():
        species = " and ".join({1: "cats", 2: "dogs"}[one] for one in sorted(pictures.table["species"].unique()))
        for name, network in networks.items():
            counts = picture_confusions(pictures.labels, predict(network, pictures).classes)
            matrices = protocol_matrix(counts, "ignore_border")
            whole, drawn = outline_and_name(matrices.sum(0)), outline_and_name(resampled_sums(matrices, n_resamples, 0))
            for score, value in whole.items():
                low, high = np.nanquantile(drawn[score], [0.025, 0.975])
                row = {"study": study.name, "model": name, "pictures": title, "n_images": len(pictures)}
                rows.append(row | {"species": species, "score": score, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def outline_and_name(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """``pet IoU`` and ``right name`` of confusion matrices ``(..., 3, 3)``, see `compare_sets`."""
    pet, named = matrix[..., 1:, 1:].sum((-2, -1)), matrix[..., 1, 1] + matrix[..., 2, 2]
    union = matrix.sum((-2, -1)) - matrix[..., 0, 0]
    with np.errstate(invalid="ignore"):
        return {"pet IoU": pet / union, "right name": named / pet}


def by_set(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `compare_sets` for reading: a row per model and score, a column per picture set."""
    cells = table.apply(lambda row: f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", axis=1)
    titles = table.apply(lambda row: f"{row['pictures']} ({row['n_images']}, {row['species']})", axis=1)
    flat = table.assign(cell=cells, title=titles)
    flat = flat.set_index(["model", "score", "title"])["cell"].unstack("title")
    return flat.reindex(pd.MultiIndex.from_frame(table[["model", "score"]].drop_duplicates()))[titles.unique()]
