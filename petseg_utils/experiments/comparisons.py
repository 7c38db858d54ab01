"""Which differences between models are real?  All models predict the same pictures again and are compared in pairs."""

import contextlib
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from petseg_utils.data.pictures import PictureSet, load_splits
from petseg_utils.data.tensors import BATCH
from petseg_utils.experiments.plotting import GREY, new_figure
from petseg_utils.experiments.score_charts import COLOURS, axis_titles
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.models.names import count_of, titled
from petseg_utils.scores.clicks import clicked_classes, first_clicks, open_pictures
from petseg_utils.scores.intervals import paired_difference
from petseg_utils.scores.metrics import picture_confusions, pooled_miou
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.results import CLICKED, PRIMARY, PROMPTED
from petseg_utils.study import PetsegError, Study, load_study
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.recipes import RECIPES

SEGMENTERS = ("unet", "autoencoder_unet", "decoder", "decoder_selftrained", PROMPTED)  # in the order of the notebooks
LEVEL = 0.95
PAIRED_RESAMPLES = 10_000  # Bonferroni takes quantiles far out (0.25 % for 10 pairs), where 1,000 say little
TABLE_RESAMPLES = 1000  # a study with fewer is a trial run, which should be quick


def paired_resamples(study: Study) -> int:
    """Return how many resamples a paired comparison takes: at least 10,000, but in a trial run no more than usual."""
    own = study.bootstrap_resamples
    return own if own < TABLE_RESAMPLES else max(own, PAIRED_RESAMPLES)


@dataclass(frozen=True)
class Remade:
    """A model's predictions on the test pictures, computed again.

    Parameters
    ----------
    counts : ndarray
        ``int (n, 5, 3)`` from `metrics.picture_confusions`, summed over the seeds picture by picture.
    by_seed : list of ndarray
        The same for each seed.
    classes : ndarray
        ``uint8 (n, size, size)``, predicted with the first seed.
    encoder : str or None
        The frozen encoder, if the model has one.
    seconds : float
        Shortest time per picture when predicting a batch, including the encoder's; NaN where it was not measured.
    parameters : int
        Number of all weights, including frozen ones.
    """

    counts: np.ndarray
    by_seed: list[np.ndarray]
    classes: np.ndarray
    encoder: str | None
    seconds: float
    parameters: int


def compared_models(study: Study) -> tuple[str, ...]:
    """Return the study's segmenters in the order of the notebooks; self-training only if its pictures are there."""
    selftrained = "decoder_selftrained" in study.models and study.unlabelled_dir
    return tuple(name for name in SEGMENTERS if selftrained or name != "decoder_selftrained")


def remake(networks: dict[str, list[nn.Module]], pictures: PictureSet) -> dict[str, Remade]:
    """Predict the pictures again with every model, one after the other.

    The click model appears as ``point, one click``, after one click at random on the pet: before the click, its masks
    are those of the decoder that it is built on.

    Parameters
    ----------
    networks : dict
        Model name to its networks, one per seed.
    """
    remade = {}
    alone = {name: seeds[0] for name, seeds in networks.items() if not isinstance(seeds[0], PointSegmenter)}
    seconds = least_seconds(alone, pictures)
    for name, seeds in networks.items():
        if name in alone:
            classes = [predict(network, pictures).classes for network in seeds]
            remade[name] = _remade(classes, pictures, seeds[0], seconds[name])
        else:
            clicked = [predict_clicked(cast(PointSegmenter, network), pictures) for network in seeds]
            remade[CLICKED] = _remade(clicked, pictures, seeds[0], np.nan)
    return remade


def _remade(classes: list[np.ndarray], pictures: PictureSet, network: nn.Module, seconds: float) -> Remade:
    counts = [picture_confusions(pictures.labels, of_seed) for of_seed in classes]
    parameters, encoder = sum(weights.numel() for weights in network.parameters()), None
    if isinstance(network, FrozenSegmenter):
        parameters += sum(weights.numel() for weights in network.encoder.parameters())
        encoder = network.encoder.identity
    return Remade(np.sum(counts, axis=0), counts, classes[0], encoder, seconds, parameters)


def least_seconds(networks: dict[str, nn.Module], pictures: PictureSet) -> dict[str, float]:
    """Return the seconds per picture: each model's fastest of six passes over one batch, the models taking turns.

    Other work on the machine comes and goes, and can only make a pass slower.
    """
    batch = replace(
        pictures, table=pictures.table.iloc[:BATCH], images=pictures.images[:BATCH], labels=pictures.labels[:BATCH]
    )
    taken = [{name: predict(network, batch).seconds for name, network in networks.items()} for _ in range(6)]
    return pd.DataFrame(taken).min().to_dict()


def predict_clicked(model: PointSegmenter, pictures: PictureSet) -> np.ndarray:
    """Return the classes ``uint8 (n, size, size)`` after one click at random on each pet.

    See `clicks.clicked_classes`.  The clicks are the first ones of `clicks.click_values`.
    """
    classes = np.zeros(pictures.labels.shape, np.uint8)
    for opened in open_pictures(model, pictures):
        classes[opened.part] = clicked_classes(model, opened, first_clicks(opened, 0))
    return classes


def paired_table(remade: dict[str, Remade], study: Study) -> pd.DataFrame:
    """Return the mIoU difference of each pair of models, border ignored, with its paired bootstrap interval.

    Several seeds are pooled: their counts are added up picture by picture, so that pictures remain the resampled unit.
    A difference counts as shown if its interval at the level ``1 - 0.05 / pairs`` excludes zero (Bonferroni), so that
    at most one in twenty such studies has any wrong verdict; and if it has the same sign with every seed.

    Returns
    -------
    DataFrame
        ``study``, ``a``, ``b`` (a has the higher score), ``encoder a``, ``encoder b``, ``difference`` (a minus b, 0 to
        1), ``low``, ``high`` (95 %), ``real`` (it is shown), ``every seed`` (whether a leads with each), ``compared``
        (how many pairs the verdict allows for), ``prompted`` (one of them was clicked), ``pictures``, ``seeds``,
        ``resamples``, ``recipe a`` and ``recipe b`` (versions); the largest difference first.
    """
    by_score = sorted(remade, key=lambda name: -pooled_miou(remade[name].counts, PRIMARY))
    pairs = list(combinations(by_score, 2))
    strict = 1 - (1 - LEVEL) / max(1, len(pairs))
    rows = []
    for a, b in pairs:
        counts, resamples = (remade[a].counts, remade[b].counts), paired_resamples(study)
        shown, sure = (
            paired_difference(*counts, PRIMARY, n_resamples=resamples, level=level) for level in (LEVEL, strict)
        )
        each = zip(remade[a].by_seed, remade[b].by_seed, strict=True)
        agree = all(pooled_miou(first, PRIMARY) > pooled_miou(second, PRIMARY) for first, second in each)
        rows.append(
            {
                "study": study.name,
                "a": a,
                "b": b,
                "encoder a": remade[a].encoder,
                "encoder b": remade[b].encoder,
                **shown,
                "real": bool(agree and sure["low"] > 0),
                "every seed": agree,
                "compared": len(pairs),
                "prompted": CLICKED in (a, b),
                "pictures": len(remade[a].counts),
                "seeds": len(remade[a].by_seed),
                "resamples": resamples,
                "recipe a": recipe_version(a),
                "recipe b": recipe_version(b),
            }
        )
    return pd.DataFrame(rows).sort_values("difference", ascending=False, ignore_index=True)


def fewer_resamples(pairs: pd.DataFrame) -> str:
    """Return a sentence if a file's pairs were compared with fewer resamples than is usual now; else an empty text."""
    made = int(pairs["resamples"].min()) if "resamples" in pairs else TABLE_RESAMPLES  # older files lack the column
    if made >= PAIRED_RESAMPLES:
        return ""
    return (
        f"These pairs were compared with {made:,} resamples, where {PAIRED_RESAMPLES:,} are the rule by now: the ends "
        "of their intervals are less exact, and so are the verdicts that hang on them."
    )


def recipe_version(name: str) -> int:
    """Return the version of the recipe that a compared model was trained with; 1 for a user's own model."""
    recipe = RECIPES.get(PROMPTED if name == CLICKED else name)
    return recipe.version if recipe else 1


def timing_table(remade: dict[str, Remade], study: Study) -> pd.DataFrame:
    """Return the time per picture of each model that takes no clicks, beside its mIoU, border ignored.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``encoder``, ``mIoU``, ``ms`` per picture in batches of 16, including the encoder's time,
        ``parameters``, ``pictures``.
    """
    rows = [
        {"study": study.name, "model": name, "encoder": entry.encoder, "mIoU": pooled_miou(entry.counts, PRIMARY)}
        | {"ms": 1000 * entry.seconds, "parameters": entry.parameters, "pictures": len(entry.counts)}
        for name, entry in remade.items()
        if name != CLICKED
    ]
    return pd.DataFrame(rows)


def compare_checkpoints(study: Study, splits: dict[str, PictureSet]) -> pd.DataFrame:
    """Return the `paired_table` of the models with checkpoints of all seeds; train nothing that is missing.

    Models trained with an older version of their recipe are left out.

    Writes ``pairs.csv`` and ``timing.csv`` into the study's folder of figures.

    Raises
    ------
    PetsegError
        If fewer than two trained models are found.
    """
    networks = {}
    for name in SEGMENTERS:
        with contextlib.suppress(PetsegError):
            loaded = [load(find_checkpoint(name, study, seed)) for seed in study.seeds]
            if all(
                card.get("training_seconds") and card.get("version", 1) == recipe_version(name) for _, card in loaded
            ):
                networks[name] = [network for network, _ in loaded]
    if len(networks) < 2:
        raise PetsegError(f"Study {study.name!r} has fewer than two finished checkpoints to compare: train some.")
    remade = remake(networks, splits["test"])
    pairs = paired_table(remade, study)
    study.figures_dir.mkdir(parents=True, exist_ok=True)
    pairs.to_csv(study.figures_dir / "pairs.csv", index=False, float_format="%.4f")
    timing_table(remade, study).to_csv(study.figures_dir / "timing.csv", index=False, float_format="%.4f")
    return pairs


def cost_chart(table: pd.DataFrame) -> Figure:
    """Draw quality against cost: mIoU by milliseconds per picture; a dot's area grows with the number of parameters.

    Parameters
    ----------
    table : DataFrame
        From `timing_table`, or rows with the same columns made from records.
    """
    figure, axis = new_figure(width=8.5, height=3.6)
    areas = 40 + 500 * table["parameters"] / table["parameters"].max()
    for (_, row), area, name in zip(table.iterrows(), areas, axis_titles(table), strict=True):
        label = f"{name}\n{count_of(row['parameters'])} weights, {row['ms']:.0f} ms"
        axis.scatter(row["ms"], row["mIoU"], s=area, color=COLOURS[row["model"]], alpha=0.75, label=label)
    low = table["mIoU"].min()
    axis.set(xlim=(0, 1.15 * table["ms"].max()), ylim=(low - 0.25 * (1 - low), 1))
    axis.set(title="Quality against cost", xlabel="ms a picture, batches of 16", ylabel="mIoU, border ignored")
    legend = figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8, labelspacing=1)
    handles: Any = legend.legend_handles
    for handle in handles:
        handle.set_sizes([40])  # at the dots' own sizes, the legend's entries would overlap
    return figure


def pairs_chart(pairs: pd.DataFrame) -> Figure:
    """Draw the differences of a `paired_table` with their intervals; grey where a difference is not shown."""
    figure, axis = new_figure(width=8.5, height=1.1 + 0.32 * len(pairs))
    rows = np.arange(len(pairs))[::-1]
    colours = ["#0072B2" if shown else GREY for shown in pairs["real"]]
    axis.hlines(rows, pairs["low"], pairs["high"], colors=colours, linewidth=2)
    axis.scatter(pairs["difference"], rows, color=colours, zorder=3)
    axis.axvline(0, color="black", linewidth=1)
    names = [f"{titled(row['a'])} minus {titled(row['b'])}" for _, row in pairs.iterrows()]
    axis.set(yticks=rows, yticklabels=names, ylim=(-0.7, len(pairs) - 0.3))
    axis.set(title="Paired differences in mIoU: blue is shown", xlabel="difference in mIoU")
    return figure


if __name__ == "__main__":
    chosen = load_study()
    print(compare_checkpoints(chosen, load_splits(chosen)).to_string())
