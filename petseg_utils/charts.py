"""Charts: what is in the data, and how well a model does.  Each returns a figure for `plotting.save_figure`."""

from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from petseg_utils.metrics import BORDER, CLASSES, PADDING, picture_confusions, protocol_matrix, scores
from petseg_utils.pictures import PictureSet
from petseg_utils.plotting import CLASS_COLOURS, MODEL_COLOURS, SPECIES, new_figure
from petseg_utils.unet import UNet, receptive_field


def class_balance(splits: dict[str, PictureSet]) -> Figure:
    """Pictures per species and split, and pictures per breed."""
    figure, (left, right) = new_figure(1, 2, width=9, height=3.4, width_ratios=(1, 2))
    for offset, (species, name) in zip((-0.2, 0.2), SPECIES.items(), strict=True):
        counts = [int((pictures.table["species"] == species).sum()) for pictures in splits.values()]
        bars = left.bar(np.arange(len(splits)) + offset, counts, 0.4, color=CLASS_COLOURS[name], label=name)
        left.bar_label(bars, fontsize=8)
    left.set(title="Pictures a split", xticks=range(len(splits)), xticklabels=list(splits))
    left.legend()
    table = pd.concat([pictures.table for pictures in splits.values()])
    breeds = table.groupby(["species", "breed"]).size().sort_values(ascending=False)
    colours = [CLASS_COLOURS[SPECIES.get(species, "background")] for species, _ in breeds.index]
    right.bar(range(len(breeds)), breeds.to_numpy(), color=colours)
    right.set(title=f"Pictures a breed ({len(breeds)} breeds)", xlabel="breeds, most pictures first", xticks=[])
    return figure


def photo_sizes(pictures: PictureSet) -> Figure:
    """Width against height of the photos, and their aspect ratios."""
    figure, (left, right) = new_figure(1, 2)
    width, height = pictures.table["width"], pictures.table["height"]
    for species, name in SPECIES.items():
        of = pictures.table["species"] == species
        left.scatter(width[of], height[of], s=8, alpha=0.5, color=CLASS_COLOURS[name], label=name)
    left.set(title="Photo sizes", xlabel="width, pixels", ylabel="height, pixels")
    left.legend()
    ratio = width / height
    right.hist(ratio, bins=np.geomspace(ratio.min() * 0.99, ratio.max() * 1.01, 30), color=CLASS_COLOURS["background"])
    right.axvline(1, color="black", linewidth=1)
    right.set(title="Aspect ratios: portrait < 1 < landscape", xlabel="width / height", ylabel="pictures")
    return figure


def foreground_share(pictures: PictureSet) -> np.ndarray:
    """Share of each picture, padding left out, that is pet; border pixels count as neither; ``float (n,)``, 0 to 1."""
    pet = ((pictures.labels == 1) | (pictures.labels == 2)).sum((1, 2))
    return pet / ((pictures.labels != PADDING) & (pictures.labels != BORDER)).sum((1, 2))


def foreground_shares(pictures: PictureSet) -> Figure:
    """How much of the picture is pet, by species."""
    figure, axis = new_figure(height=2.8)
    shares, species = foreground_share(pictures), pictures.table["species"].to_numpy()
    for value, name in SPECIES.items():
        axis.hist(shares[species == value], np.linspace(0, 1, 26), alpha=0.6, color=CLASS_COLOURS[name], label=name)
    axis.axvline(shares.mean(), color="black", linewidth=1, label=f"mean {shares.mean():.2f}")
    axis.set(title="How much of the picture is pet", xlabel="share of the pixels outside the border", ylabel="pictures")
    axis.legend()
    return figure


def mean_masks(pictures: PictureSet) -> Figure:
    """Where pets sit: for each pixel of the square, the share of pictures that have the pet there."""
    figure, axes = new_figure(1, 2, width=7, height=3.2)
    for axis, (species, name) in zip(axes, SPECIES.items(), strict=True):
        mean = (pictures.labels[pictures.table["species"].to_numpy() == species] == species).mean(0)
        drawn = axis.imshow(mean, cmap="cividis", vmin=0, vmax=1)
        axis.set(title=f"{name}: mean mask", xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(drawn, ax=axes, label="share of pictures with the pet here")
    return figure


def border_widths(pictures: PictureSet) -> np.ndarray:
    """Width of each picture's border band in model pixels, ``float (n,)``; NaN where there is no border.

    In a band of width w (even, 2 at least) pixels lie 1, 2, …, w / 2, …, 2, 1 from what is outside, so their mean
    distance is (w + 2) / 4.
    """
    widths = np.full(len(pictures), np.nan)
    for row, label in enumerate(pictures.labels):
        band = (label == BORDER).astype(np.uint8)
        if band.any():
            widths[row] = 4 * cv2.distanceTransform(band, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[band > 0].mean() - 2
    return widths


def border_band(pictures: PictureSet) -> Figure:
    """How wide the border band is, and how much of the picture it takes."""
    figure, (left, right) = new_figure(1, 2, height=2.8)
    size = pictures.labels.shape[1]
    left.hist(border_widths(pictures), bins=25, color=CLASS_COLOURS["background"])
    left.set(title="Width of the border band", xlabel=f"pixels of the {size} px square", ylabel="pictures")
    share = (pictures.labels == BORDER).sum((1, 2)) / (pictures.labels != PADDING).sum((1, 2))
    right.hist(100 * share, bins=25, color=CLASS_COLOURS["background"])
    right.set(title="Pixels in the border band", xlabel="% of the picture", ylabel="pictures")
    return figure


def architecture(model: UNet) -> Figure:
    """The U as a drawing: a bar per stage, as wide as its channels (log scale), skips as arrows."""
    figure, axis = new_figure(height=3.6)
    channels = model.encoder.channels
    for stage, count in enumerate(channels):
        half = np.log2(count) / 2
        sides = (0,) if stage == len(channels) - 1 else (-8, 8)
        for x in sides:
            axis.barh(-stage, 2 * half, 0.55, left=x - half, color=MODEL_COLOURS["unet"], alpha=0.85 if x <= 0 else 0.5)
            axis.text(x, -stage, f"{count}", ha="center", va="center", color="white", fontweight="bold")
        if len(sides) > 1:
            axis.annotate(
                "", (8 - half, -stage), (-8 + half, -stage), arrowprops={"arrowstyle": "->", "color": "#555555"}
            )
            axis.text(0, -stage + 0.08, f"skip, 1/{2**stage} of the size", ha="center", va="bottom", fontsize=8)
    axis.text(
        0, -len(channels) + 0.5, f"bottleneck, sees {receptive_field(len(channels))} pixels", ha="center", fontsize=8
    )
    axis.set(ylim=(-len(channels) + 0.3, 0.7), xlim=(-13, 13), xticks=[-8, 8], yticks=[])
    axis.set_xticklabels(["encoder: convolve, pool", "decoder: upsample, join, convolve"])
    axis.set_title("U-Net: channels at each stage")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return figure


def training_curves(histories: dict[int, pd.DataFrame], model: str = "unet") -> Figure:
    """Loss and validation mIoU per epoch, a line per seed; the epoch that was kept is marked."""
    figure, (left, right) = new_figure(1, 2)
    for position, (_, history) in enumerate(histories.items()):
        shade = max(0.3, 1 - 0.3 * position)
        left.plot(history["epoch"], history["train_loss"], color="#555555", alpha=shade, linestyle="--")
        left.plot(history["epoch"], history["validation_loss"], color=MODEL_COLOURS[model], alpha=shade)
        right.plot(history["epoch"], history["miou"], color=MODEL_COLOURS[model], alpha=shade)
        best = history.loc[history["miou"].idxmax()]
        right.plot(best["epoch"], best["miou"], "o", color="black", markersize=5)
    left.legend(["training", "validation"])
    left.set(
        title="Loss" if model != "unet" else "Loss (cross-entropy)",
        xlabel="epoch",
        ylabel="nats a pixel",
        ylim=(0, None),
    )
    right.set(title="Validation mIoU; a dot marks the epoch kept", xlabel="epoch", ylabel="mIoU", ylim=(0, 1))
    return figure


def score_intervals(
    table: pd.DataFrame, names: tuple[str, ...] = ("mIoU", "mean Dice", "accuracy", "boundary IoU")
) -> Figure:
    """Scores with their 95 % intervals, a panel per score, a row per study and protocol of a `results_table`."""
    figure, axes = new_figure(1, len(names), width=9.5, height=0.9 + 0.34 * len(table), sharey=True)
    rows = np.arange(len(table))[::-1]
    names_shown = (table["model"] + ", " if table["model"].nunique() > 1 else "") + table["study"] + ", "
    for axis, name in zip(axes, names, strict=True):
        value = table[name].to_numpy()
        spans = [value - table[f"{name} low"], table[f"{name} high"] - value]
        colours = [MODEL_COLOURS.get(model, "#555555") for model in table["model"]]
        axis.errorbar(value, rows, xerr=spans, fmt="none", ecolor="#555555", capsize=3)
        axis.scatter(value, rows, color=colours, zorder=3)
        axis.set(
            title=name,
            yticks=rows,
            yticklabels=names_shown + table["protocol"],
            ylim=(-0.6, len(table) - 0.4),
        )
        axis.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    return figure


def confusion(pictures: PictureSet, predicted: np.ndarray) -> Figure:
    """Where the pixels of each true class went, in percent of that class; border and padding left out."""
    matrix = protocol_matrix(picture_confusions(pictures.labels, predicted).sum(0), "ignore_border")
    share = 100 * matrix / matrix.sum(1, keepdims=True).clip(1)
    figure, axis = new_figure(width=4.6, height=3.6)
    axis.imshow(share, cmap="Greys", vmin=0, vmax=130)
    for (row, column), value in np.ndenumerate(share):
        axis.text(column, row, f"{value:.1f} %", ha="center", va="center", color="white" if value > 70 else "black")
    axis.set(xticks=range(3), yticks=range(3), xticklabels=CLASSES, yticklabels=CLASSES)
    axis.set(xlabel="predicted", ylabel="true", title="Where each class's pixels go")
    axis.grid(False)
    return figure


def error_by_distance(pictures: PictureSet, predicted: np.ndarray, edges: tuple[int, ...]) -> pd.DataFrame:
    """Error rate of pixels by their distance to the border band.

    Parameters
    ----------
    pictures : PictureSet
        The split.
    predicted : ndarray
        ``uint8 (n, size, size)``.
    edges : tuple of int
        Bounds of the distance bins in model pixels; the last bin is open.

    Returns
    -------
    DataFrame
        ``distance`` (text), ``side`` (``pet`` or ``background``), ``error`` (0 to 1, NaN where there are no pixels),
        ``pixels``.
    """
    wrong, total = np.zeros((2, len(edges))), np.zeros((2, len(edges)))
    for label, guess in zip(pictures.labels, predicted, strict=True):
        if not (label == BORDER).any():
            continue
        distance = cv2.distanceTransform((label != BORDER).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        bins = np.digitize(distance, edges[1:])
        for side, inside in enumerate(((label == 1) | (label == 2), label == 0)):
            total[side] += np.bincount(bins[inside], minlength=len(edges))
            wrong[side] += np.bincount(bins[inside & (guess != label)], minlength=len(edges))
    names = [f"{low}-{high}" for low, high in pairwise(edges)] + [f"over {edges[-1]}"]
    return pd.concat(
        pd.DataFrame(
            {"distance": names, "side": side, "error": wrong[i] / np.where(total[i], total[i], np.nan)}
            | {"pixels": total[i].astype(int)}
        )
        for i, side in enumerate(("pet", "background"))
    )


def errors_by_distance(table: pd.DataFrame, size: int) -> Figure:
    """The table of `error_by_distance`, drawn."""
    figure, axis = new_figure(height=2.9)
    for offset, side in ((-0.2, "pet"), (0.2, "background")):
        rows = table[table["side"] == side]
        axis.bar(
            np.arange(len(rows)) + offset, 100 * rows["error"], 0.4, color=CLASS_COLOURS[side], label=f"{side} pixels"
        )
        names = rows["distance"]
    axis.set(xticks=range(len(names)), xticklabels=names, ylabel="% predicted wrongly")
    axis.set(title="Errors by distance to the border band", xlabel=f"distance in pixels of the {size} px square")
    axis.legend()
    return figure


def pet_against_rest(matrix: np.ndarray) -> float:
    """IoU of pet against rest from a ``(3, 3)`` matrix: cat taken for dog counts as right.  0 to 1."""
    pet, missed, false = matrix[1:, 1:].sum(), matrix[1:, 0].sum(), matrix[0, 1:].sum()
    return float(pet / max(1, pet + missed + false))


def scores_by_size(pictures: PictureSet, predicted: np.ndarray, edges: tuple[float, ...]) -> pd.DataFrame:
    """Scores of groups of pictures by how much of them is pet; `edges` are shares from 0 to 1."""
    shares = foreground_share(pictures)
    counts = picture_confusions(pictures.labels, predicted)
    rows = []
    for low, high in pairwise(edges):
        inside = (shares >= low) & ((shares < high) | (high == edges[-1]))
        matrix = protocol_matrix(counts[inside].sum(0), "ignore_border")
        values = scores(matrix)
        names = {"pet share": f"{low:.0%} to {high:.0%}", "pictures": int(inside.sum())}
        rows.append(names | {"mIoU": float(values["miou"]), "IoU pet against rest": pet_against_rest(matrix)})
    return pd.DataFrame(rows)


def size_chart(table: pd.DataFrame) -> Figure:
    """The table of `scores_by_size`, drawn."""
    figure, axis = new_figure(height=2.9)
    for name, colour in (("mIoU", MODEL_COLOURS["unet"]), ("IoU pet against rest", CLASS_COLOURS["pet"])):
        axis.plot(table["pet share"], table[name], "o-", color=colour, label=name)
    axis.set_xticks(range(len(table)), [f"{row['pet share']}\nn = {row['pictures']}" for _, row in table.iterrows()])
    axis.set(
        title="Scores by size of the pet, border ignored",
        xlabel="how much of the picture is pet",
        ylabel="score",
        ylim=(0, 1),
    )
    axis.legend()
    return figure


def grid_heatmap(table: pd.DataFrame) -> Figure:
    """Validation mIoU by learning rate and batch size, from columns ``learning_rate``, ``batch_size``, ``miou``."""
    grid = table.pivot(index="batch_size", columns="learning_rate", values="miou")
    figure, axis = new_figure(width=5, height=1.2 + 0.7 * len(grid))
    axis.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        axis.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if value < 0.55 else "black")
    axis.set(xticks=range(grid.shape[1]), xticklabels=[f"{rate:g}" for rate in grid.columns], xlabel="learning rate")
    axis.set(yticks=range(grid.shape[0]), yticklabels=list(grid.index), ylabel="batch size", title="Validation mIoU")
    axis.grid(False)
    return figure


def rules_of_averaging(values: dict[str, float]) -> Figure:
    """The same prediction under several rules of averaging, as bars; the first rule is ours."""
    figure, axis = new_figure(width=7, height=0.9 + 0.45 * len(values))
    bars = axis.barh(list(values), list(values.values()), color=["#333333", *["#B5B5B5"] * (len(values) - 1)])
    axis.bar_label(bars, fmt=" %.3f")
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12), xlabel="mIoU")
    axis.grid(False, axis="y")
    return figure
