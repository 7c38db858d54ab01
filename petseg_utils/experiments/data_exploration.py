"""Figures of the data (notebook 01)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING, SPECIES
from petseg_utils.data.overlays import overlay
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import Letterbox, make_augmentation
from petseg_utils.experiments.plotting import blank_padding, class_legend, new_figure, picture_grid, with_masks
from petseg_utils.models.prompts import distance_to


def class_balance(splits: dict[str, PictureSet]) -> Figure:
    """Draw the number of pictures per species and split, and per breed."""
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
    """Draw the pictures' widths against their heights, and their aspect ratios."""
    figure, (left, right) = new_figure(1, 2)
    width, height = pictures.table["width"], pictures.table["height"]
    for species, name in SPECIES.items():
        of = pictures.table["species"] == species
        left.scatter(width[of], height[of], s=8, alpha=0.5, color=CLASS_COLOURS[name], label=name)
    left.set(title="Picture sizes", xlabel="width, pixels", ylabel="height, pixels")
    left.legend()
    ratio = width / height
    right.hist(ratio, bins=np.geomspace(ratio.min() * 0.99, ratio.max() * 1.01, 30), color=CLASS_COLOURS["background"])
    right.axvline(1, color="black", linewidth=1)
    right.set(title="Aspect ratios: portrait < 1 < landscape", xlabel="width / height", ylabel="pictures")
    return figure


def foreground_share(pictures: PictureSet) -> np.ndarray:
    """Return the pet's share of each picture, ``float (n,)``, 0 to 1; padding and border pixels are not counted."""
    pet = ((pictures.labels == 1) | (pictures.labels == 2)).sum((1, 2))
    return pet / ((pictures.labels != PADDING) & (pictures.labels != BORDER)).sum((1, 2))


def foreground_shares(pictures: PictureSet) -> Figure:
    """Draw how much of a picture is pet, by species."""
    figure, axis = new_figure(height=2.8)
    shares, species = foreground_share(pictures), pictures.table["species"].to_numpy()
    for value, name in SPECIES.items():
        axis.hist(shares[species == value], np.linspace(0, 1, 26), alpha=0.6, color=CLASS_COLOURS[name], label=name)
    axis.axvline(shares.mean(), color="black", linewidth=1, label=f"mean {shares.mean():.2f}")
    axis.set(title="How much of the picture is pet", xlabel="share of the pixels outside the border", ylabel="pictures")
    axis.legend()
    return figure


def mean_masks(pictures: PictureSet) -> Figure:
    """Show where pets are: for each pixel of the square, the share of pictures that have the pet there."""
    figure, axes = new_figure(1, 2, width=7, height=3.2)
    for axis, (species, name) in zip(axes, SPECIES.items(), strict=True):
        mean = (pictures.labels[pictures.table["species"].to_numpy() == species] == species).mean(0)
        drawn = axis.imshow(mean, cmap="cividis", vmin=0, vmax=1)
        axis.set(title=f"{name}: mean mask", xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(drawn, ax=axes, label="share of pictures with the pet here")
    return figure


def border_widths(pictures: PictureSet) -> np.ndarray:
    """Return the width of each picture's border band in model pixels, ``float (n,)``; NaN where there is no border.

    In a band of width w (even, at least 2) the pixels' distances to the outside are 1, 2, …, w / 2, …, 2, 1, so their
    mean is (w + 2) / 4.
    """
    widths = np.full(len(pictures), np.nan)
    for row, label in enumerate(pictures.labels):
        band = label == BORDER
        if band.any():
            widths[row] = 4 * distance_to(~band)[band].mean() - 2
    return widths


def border_band(pictures: PictureSet) -> Figure:
    """Draw how wide the border band is, and how much of the picture it takes up."""
    figure, (left, right) = new_figure(1, 2, height=2.8)
    size = pictures.labels.shape[1]
    left.hist(border_widths(pictures), bins=25, color=CLASS_COLOURS["background"])
    left.set(title="Width of the border band", xlabel=f"pixels of the {size} px square", ylabel="pictures")
    share = (pictures.labels == BORDER).sum((1, 2)) / (pictures.labels != PADDING).sum((1, 2))
    right.hist(100 * share, bins=25, color=CLASS_COLOURS["background"])
    right.set(title="Pixels in the border band", xlabel="% of the picture", ylabel="pictures")
    return figure


def rules_of_averaging(values: dict[str, float]) -> Figure:
    """Draw the score of one prediction under several rules of averaging, as bars; the first rule is ours."""
    figure, axis = new_figure(width=7, height=0.9 + 0.45 * len(values))
    bars = axis.barh(list(values), list(values.values()), color=["#333333", *["#B5B5B5"] * (len(values) - 1)])
    axis.bar_label(bars, fmt=" %.3f")
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12), xlabel="mIoU")
    axis.grid(False, axis="y")
    return figure


def show_samples(pictures: PictureSet) -> Figure:
    """Show up to six pictures of each species, all of different breeds, with their masks over them."""
    first = pictures.table.drop_duplicates("breed").sort_values("species", kind="stable")
    rows = np.concatenate([first.index[first["species"] == species][:6] for species in SPECIES])
    rows = np.resize(rows, len(rows) + len(rows) % 2)  # if their number is odd, the first picture is shown twice
    half = np.split(rows, 2)
    lines, names = [], []
    for part in half:
        lines += [blank_padding(pictures, part), with_masks(pictures, part, pictures.labels)]
        names += ["picture", "mask"]
    figure = picture_grid(lines, [""] * len(half[0]), names)
    class_legend(figure)
    return figure


def show_letterbox(image: np.ndarray, size: int) -> Figure:
    """Show a picture ``uint8 (H, W, 3)`` as it is, squashed to a square, and letterboxed."""
    squashed = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    height, width = image.shape[:2]
    boxed = Letterbox(height, width, size).image(image)
    names = [
        f"picture, {width} x {height}",
        f"squashed, {size} x {size}",
        f"letterboxed, {size} x {size}",
    ]
    return picture_grid([[image, squashed, boxed]], names, [""], size=2.8)


def show_augmentation(pictures: PictureSet, row: int) -> Figure:
    """Show one training picture as it is, and as the model sees it in training: augmented, six times."""
    augment = make_augmentation()
    images, masks = [pictures.images[row]], [pictures.labels[row]]
    for seed in range(6):
        augment.set_random_seed(seed)
        out = augment(image=np.array(pictures.images[row]), mask=np.array(pictures.labels[row]))
        images.append(out["image"])
        masks.append(out["mask"])
    over = [overlay(image, mask) for image, mask in zip(images, masks, strict=True)]
    titles = ["as it is", *(f"draw {number}" for number in range(1, len(images)))]
    figure = picture_grid([images, over], titles, ["picture", "mask"], 1.3)
    class_legend(figure)
    return figure
