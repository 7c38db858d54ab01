"""Figures of what a frozen encoder sees: its maps as colours, and which patches look alike to it."""

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
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.prompts import centre_click


def encode(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> list[Tensor]:
    """Feature maps ``(k, C, h, w)`` of some pictures."""
    return encoder(to_tensor(pictures.at(encoder.scale)[rows]))


def pca_colours(features: Tensor) -> np.ndarray:
    """Feature maps as colours: the first three principal components of all cells together, as red, green and blue.

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
    """Pictures above their feature maps, one row a map, as the colours of `pca_colours`."""
    lines = [blank_padding(pictures, rows)]
    names = ["picture"]
    for number, features in enumerate(encode(encoder, pictures, rows), 1):
        lines.append(list(pca_colours(features)))
        names.append(f"map {number}\n{features.shape[2]} x {features.shape[3]}")
    return picture_grid(lines, [""] * len(rows), names)


def show_neighbours(encoder: Encoder, pictures: PictureSet, rows: list[int]) -> Figure:
    """How much cells of other pictures resemble the one in the middle of the first animal, by their features' cosine.

    The features are those of the encoder's last map but one; the first of the `rows` is the picture asked about.
    """
    stride = encoder.strides[-2]
    features = F.normalize(encode(encoder, pictures, rows)[-2], dim=1)
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
    """Validation mIoU of decoders (``decoder``, ``miou``) as dots; the first row is the one with every part."""
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
