"""Pictures from elsewhere: how a study's models do on photos that its data set does not hold."""

import numpy as np
import pandas as pd
from torch import nn

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.labels import SPECIES
from petseg_utils.data.pictures import PictureSet, decode
from petseg_utils.models.names import titled
from petseg_utils.scores.intervals import percentile_interval, resampled_sums
from petseg_utils.scores.metrics import picture_confusions, protocol_matrix
from petseg_utils.scores.predictions import predict
from petseg_utils.study import Study


def elsewhere_pictures(study: Study, *, progress: bool = True) -> PictureSet | None:
    """The test split of the study's folder from elsewhere, in one of the layouts of `datasets`; None without one."""
    if study.elsewhere_dir is None:
        return None
    return decode(list_pictures(study.elsewhere_dir, "test"), study.image_size, study.cache_dir, progress=progress)


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
        species = " and ".join(f"{SPECIES[number]}s" for number in sorted(pictures.table["species"].unique()))
        for name, network in networks.items():
            counts = picture_confusions(pictures.labels, predict(network, pictures).classes)
            matrices = protocol_matrix(counts, "ignore_border")
            whole, drawn = outline_and_name(matrices.sum(0)), outline_and_name(resampled_sums(matrices, n_resamples, 0))
            for score, value in whole.items():
                low, high = percentile_interval(drawn[score])
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
    table = table.assign(model=table["model"].map(titled))
    flat = table.assign(cell=cells, title=titles)
    flat = flat.set_index(["model", "score", "title"])["cell"].unstack("title")
    return flat.reindex(pd.MultiIndex.from_frame(table[["model", "score"]].drop_duplicates()))[titles.unique()]
