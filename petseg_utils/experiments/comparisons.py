"""Which differences between models are shown?  Predictions are remade on the same pictures and compared pairwise."""

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

SEGMENTERS = ("unet", "autoencoder_unet", "decoder", "decoder_selftrained", PROMPTED)  # as the notebooks have them
LEVEL = 0.95
PAIRED_RESAMPLES = 10_000  # Bonferroni looks at the outermost 0.5 % of the resamples, where 1,000 of them are too few
TABLE_RESAMPLES = 1000  # a study with fewer is a trial run, which is to be quick


def paired_resamples(study: Study) -> int:
    """Resamples for a paired comparison: 10,000 at least, but no more than usual in a study that is a trial run."""
    own = study.bootstrap_resamples
    return own if own < TABLE_RESAMPLES else max(own, PAIRED_RESAMPLES)


@dataclass(frozen=True)
class Remade:
    """A model's predictions on the test pictures, made anew.

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
    selftrained = "decoder_selftrained" in study.models and study.unlabelled_dir
    return tuple(name for name in SEGMENTERS if selftrained or name != "decoder_selftrained")


def remake(networks: dict[str, list[nn.Module]], pictures: PictureSet) -> dict[str, Remade]:
    """Predict pictures anew with every model, one after the other.

    The click model is there after one click at random on the pet, as ``point, one click``: before it, its masks are
    those of the decoder that it stands on.

    Parameters
    ----------
    networks : dict
        Model's name to its networks, one per seed.
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
    """Seconds for a picture: each model's fastest of six passes over one batch, the models taking turns.

    Other work of the machine can only make a pass slower, and comes and goes.
    """
    batch = replace(
        pictures, table=pictures.table.iloc[:BATCH], images=pictures.images[:BATCH], labels=pictures.labels[:BATCH]
    )
    taken = [{name: predict(network, batch).seconds for name, network in networks.items()} for _ in range(6)]
    return pd.DataFrame(taken).min().to_dict()


def predict_clicked(model: PointSegmenter, pictures: PictureSet) -> np.ndarray:
    """Classes ``uint8 (n, size, size)`` after one click at random on each pet.

    See `clicks.clicked_classes`.  The clicks are the first ones of `clicks.click_values`.
    """
    classes = np.zeros(pictures.labels.shape, np.uint8)
    for opened in open_pictures(model, pictures):
        classes[opened.part] = clicked_classes(model, opened, first_clicks(opened, 0))
    return classes


def paired_table(remade: dict[str, Remade], study: Study) -> pd.DataFrame:
    """Difference in mIoU of each pair of models, border ignored, with its paired bootstrap interval.

    Several seeds are pooled: their counts are added up picture by picture, so pictures stay the unit that is drawn.
    A difference is shown where an interval at the level ``1 - 0.05 / pairs`` leaves zero out (Bonferroni), so that at
    most one of twenty such studies has a wrong verdict or more; and where it has the same sign with every seed.

    Returns
    -------
    DataFrame
        ``study``, ``a``, ``b`` (a has the higher score), ``encoder a``, ``encoder b``, ``difference`` (a minus b, 0 to
        1), ``low``, ``high`` (95 %), ``real`` (it is shown), ``every seed`` (whether a leads with each), ``compared``
        (how many pairs the verdict allows for), ``prompted`` (one of them was clicked), ``pictures``, ``seeds``,
        ``resamples``, ``recipe a`` and ``recipe b`` (versions), largest difference first.
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
    """A sentence where pairs of a file were compared with fewer resamples than pairs are today; else nothing."""
    made = int(pairs["resamples"].min()) if "resamples" in pairs else TABLE_RESAMPLES  # before there was that column
    if made >= PAIRED_RESAMPLES:
        return ""
    return (
        f"These pairs were compared with {made:,} resamples, where {PAIRED_RESAMPLES:,} are the rule by now: the ends "
        "of their intervals are less exact, and so are the verdicts that hang on them."
    )


def recipe_version(name: str) -> int:
    """Version of the recipe that a compared model was trained by; 1 for somebody's own model."""
    recipe = RECIPES.get(PROMPTED if name == CLICKED else name)
    return recipe.version if recipe else 1


def timing_table(remade: dict[str, Remade], study: Study) -> pd.DataFrame:
    """What a picture costs each model that nobody helped, beside its mIoU, border ignored.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``encoder``, ``mIoU``, ``ms`` a picture in batches of 16, the encoder's share included,
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
    """`paired_table` of the models whose checkpoints of all seeds are there, without training what is not.

    Those that a former version of a recipe made are left out.

    Writes ``pairs.csv`` and ``timing.csv`` into the study's folder of figures.

    Raises
    ------
    PetsegError
        If fewer than two finished ones are there.
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
    """Quality against cost: mIoU against milliseconds a picture; the area of a dot grows with the number of parameters.

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
        handle.set_sizes([40])  # the dots' own sizes would overlap in the list
    return figure


def pairs_chart(pairs: pd.DataFrame) -> Figure:
    """Differences of a `paired_table` with their intervals; grey where not shown."""
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
