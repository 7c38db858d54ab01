"""Figures of what a frozen encoder sees: its feature maps as colours, and which patches look alike to it."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import to_tensor
from petseg_utils.experiments.plotting import MODEL_COLOURS, blank_padding, new_figure, picture_grid
from petseg_utils.experiments.variants import CHANCE
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.prompts import centre_click


def encode(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> list[Tensor]:
    """Return the feature maps ``(k, C, h, w)`` of some pictures."""
    return encoder(to_tensor(pictures.at(encoder.scale)[rows]))


def pca_colours(features: Tensor) -> np.ndarray:
    """Return feature maps as colours: the first three principal components of all cells together as red, green, blue.

    Parameters
    ----------
    features : Tensor
        ``(N, C, h, w)``.

    Returns
    -------
    ndarray
        ``float (N, h, w, 3)`` within 0..1; the middle 96 % of each component's values fill the range.
    """
    cells = features.movedim(1, -1).flatten(0, 2)
    cells = cells - cells.mean(0)
    directions = torch.linalg.svd(cells, full_matrices=False).Vh[:3]
    # An axis may point either way; the largest entry positive makes it the same on every machine.
    directions = directions * directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    colours = cells @ directions.T
    low, high = colours.quantile(0.02, dim=0), colours.quantile(0.98, dim=0)
    colours = ((colours - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return colours.unflatten(0, (features.shape[0], *features.shape[2:])).numpy()


def show_features(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> Figure:
    """Show pictures above their feature maps, one row per map, in the colours of `pca_colours`."""
    lines = [blank_padding(pictures, rows)]
    names = ["picture"]
    for number, features in enumerate(encode(encoder, pictures, rows), 1):
        lines.append(list(pca_colours(features)))
        names.append(f"map {number}\n{features.shape[2]} x {features.shape[3]}")
    return picture_grid(lines, [""] * len(rows), names)


def variance_shares(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> pd.DataFrame:
    """Return how much of the variance of each feature map's cells lies between pictures, and between pet and ground.

    Cells whose middle lies on a border or on padding are left out.  The shares are shares of sums of squared distances,
    as in an analysis of variance.

    Returns
    -------
    DataFrame
        One row per map: ``map``, ``cells`` along an edge; ``between pictures``, the share of all variance that is left
        if each cell is replaced by its picture's mean, 0..1; ``pet or ground``, the share of the variance in pictures
        that is left if each cell is replaced by the mean of the pet, or of the ground, of its picture.
    """
    table = []
    for number, (features, stride) in enumerate(zip(encode(encoder, pictures, rows), encoder.strides, strict=True), 1):
        labels = torch.from_numpy(np.array(pictures.labels[rows]))[:, stride // 2 :: stride, stride // 2 :: stride]
        cells = [part.flatten(1).T[known] for part, known in zip(features, (labels < PADDING).flatten(1), strict=True)]
        pets = [(label[label < PADDING] > 0) for label in labels]
        whole = torch.cat(cells).mean(0)
        between = sum(len(part) * (part.mean(0) - whole).square().sum() for part in cells)
        within = sum((part - part.mean(0)).square().sum() for part in cells)
        kinds = [(part, part[pet == kind]) for part, pet in zip(cells, pets, strict=True) for kind in (True, False)]
        told = sum(len(some) * (some.mean(0) - part.mean(0)).square().sum() for part, some in kinds if len(some))
        shares = {"between pictures": float(between / (between + within)), "pet or ground": float(told / within)}
        table.append({"map": number, "cells": features.shape[-1]} | shares)
    return pd.DataFrame(table)


def alike_on_pets(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> tuple[float, float]:
    """Return how often the cell most like one in the middle of a pet is on a pet too, and how many of all cells are.

    Each picture is the query in turn, compared as in `show_neighbours`; every other picture gives one answer.

    Returns
    -------
    tuple of float
        Share of the answers that are on a pet, and share of all cells outside border and padding that are, each 0..1.
    """
    features, stride = centred(encode(encoder, pictures, rows)[-2]), encoder.strides[-2]
    labels = np.array(pictures.labels[rows])
    cells = labels[:, stride // 2 :: stride, stride // 2 :: stride].reshape(len(rows), -1)
    flat, hits = features.flatten(2), []
    for asked, label in enumerate(labels):
        middle = centre_click(np.isin(label, (1, 2)))
        alike = torch.einsum("c,ncl->nl", features[asked, :, int(middle.y) // stride, int(middle.x) // stride], flat)
        alike[torch.from_numpy(cells >= PADDING)] = -2
        best = cells[np.arange(len(rows)), alike.argmax(1).numpy()]
        hits += [value in (1, 2) for other, value in enumerate(best) if other != asked]
    return float(np.mean(hits)), float(np.isin(cells, (1, 2)).sum() / (cells < PADDING).sum())


def centred(features: Tensor) -> Tensor:
    """Subtract the mean over all cells from feature maps ``(N, C, h, w)``, and scale each cell to length 1.

    The cells of a vision transformer have much in common, so that without this any two of them are alike.
    """
    return F.normalize(features - features.mean((0, 2, 3), keepdim=True), dim=1)


def show_neighbours(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> Figure:
    """Show how similar cells of other pictures are to the one in the middle of the first animal (cosine of features).

    What all cells have in common is subtracted first (see `centred`).  The features are those of the encoder's
    second-to-last map; the first of the `rows` is the query picture.
    """
    stride = encoder.strides[-2]
    features = centred(encode(encoder, pictures, rows)[-2])
    middle = centre_click(np.isin(pictures.labels[rows[0]], (1, 2)))
    place = int(middle.y) // stride, int(middle.x) // stride
    alike = torch.einsum("c,nchw->nhw", features[0, :, place[0], place[1]], features).numpy()
    heat = [np.kron(cosines, np.ones((stride, stride))) for cosines in alike]
    heat = [np.where(pictures.labels[row] == PADDING, np.nan, map_) for row, map_ in zip(rows, heat, strict=True)]
    titles = ["the patch asked about", *[f"most alike: {np.nanmax(map_):.2f}" for map_ in heat[1:]]]
    figure = picture_grid([blank_padding(pictures, rows), heat], titles, ["picture", "likeness"])
    axes = figure.axes
    for column, map_ in enumerate(heat):
        axes[len(rows) + column].images[0].set(cmap="cividis", clim=(0, 1))
        y, x = place if column == 0 else (at // stride for at in np.unravel_index(np.nanargmax(map_), map_.shape))
        corner = (x * stride - 0.5, y * stride - 0.5)
        axes[column].add_patch(Rectangle(corner, stride, stride, fill=False, edgecolor="#D55E00", linewidth=2))
    return figure


def ablation_chart(table: pd.DataFrame) -> Figure:
    """Draw validation mIoU of decoders (``decoder``, ``miou``) as dots; the first row is the one with every part."""
    figure, axis = new_figure(width=7, height=0.9 + 0.4 * len(table))
    rows, whole = range(len(table)), table["miou"].iloc[0]
    axis.axvline(whole, color="#333333", linewidth=1, linestyle=":")
    axis.hlines(rows, whole, table["miou"], color="#999999")
    axis.scatter(table["miou"], rows, color=["#333333", *[MODEL_COLOURS["decoder"]] * (len(table) - 1)], zorder=3)
    for row, value in zip(rows, table["miou"], strict=True):
        axis.annotate(f"{value:.3f}", (value, row), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axis.set(xlabel="validation mIoU; dotted: with every part", yticks=rows, yticklabels=table["decoder"])
    axis.set(ylim=(-0.7, len(table) - 0.5))
    axis.margins(x=0.15)
    axis.grid(False, axis="y")
    axis.invert_yaxis()
    return figure


def ablation_in_words(table: pd.DataFrame) -> str:
    """Say which parts of the table of `ablation_chart` were missed by more than `CHANCE`."""
    scores = table.set_index("decoder")["miou"].map("{:.3f}".format).astype(float)  # as shown in the chart
    change = (scores - scores.iloc[0])[scores.index.str.startswith("without ")].sort_values().round(3)
    change.index = change.index.str.removeprefix("without ")
    missed = [f"*{name}* ({loss:+.3f})" for name, loss in change[change < -CHANCE].items()]
    return (
        f"With every part mIoU is {scores.iloc[0]:.3f}; without one it changes by {change.min():+.3f} to "
        f"{change.max():+.3f}. Missed by more than {CHANCE} mIoU: {', '.join(missed) or '**no part**'}. Each is one "
        f"short run, and differences up to {CHANCE} may be chance."
    )
