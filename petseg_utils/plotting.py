"""The look of every figure, and the figures that show pictures.

Colours are Okabe and Ito's, which people with colour-blindness tell apart (https://jfly.uni-koeln.de/color/).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from petseg_utils.metrics import BORDER, PADDING
from petseg_utils.pictures import PictureSet
from petseg_utils.study import Study
from petseg_utils.transforms import Letterbox, make_augmentation

CLASS_COLOURS = {"background": "#8C8C8C", "cat": "#E69F00", "dog": "#0072B2", "pet": "#CC79A7", "border": "#FFFFFF"}
MODEL_COLOURS = {
    "unet": "#009E73",
    "autoencoder_unet": "#CC79A7",
    "clip": "#D55E00",
    "clip_selftrained": "#882200",
    "point": "#56B4E9",
}
SPECIES = {1: "cat", 2: "dog"}
GRID = "#E3E3E3"
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def new_figure(rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.2, **options):
    """A figure and its axes in the project's style; sizes in inches, `options` go to ``plt.subplots``."""
    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def save_figure(figure: Figure, name: str, study: Study, caption: str, *, photos: bool = False) -> None:
    """Save a figure as PNG, show it with its caption, and close it.

    Parameters
    ----------
    figure : Figure
        What to save.
    name : str
        File name without its ending.
    study : Study
        Decides the folder: ``figures/<study>/``, or the runs folder where the figure must not be published.
    caption : str
        What is seen; also the figure's alternative text.
    photos : bool
        Whether the figure shows pictures.  Only the embedded pictures may be published.
    """
    from IPython.display import Image, Markdown, display

    folder = study.figures_dir if study.draws_its_data or not photos else study.runs_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    display(Image(path.read_bytes(), alt=caption), Markdown(f"*{caption}*"))


def say(text: str) -> None:
    """Show a sentence as Markdown, for prose that holds computed numbers."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Picture ``uint8 (H, W, 3)`` with its label ``uint8 (H, W)`` laid over: cat, dog and border in their colours."""
    out = image.astype(float)
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        colour = np.array([int(CLASS_COLOURS[name][i : i + 2], 16) for i in (1, 3, 5)])
        out[label == value] = (1 - opacity) * out[label == value] + opacity * colour
    out[label == PADDING] = 255  # padding carries no meaning: let it vanish into the page
    return out.round().astype(np.uint8)


def picture_grid(rows: list[list[np.ndarray]], titles: list[str], row_names: list[str], size: float = 1.55) -> Figure:
    """Pictures in rows and columns; `titles` stand over the columns, `row_names` beside the rows."""
    figure, axes = new_figure(len(rows), len(rows[0]), size * len(rows[0]) + 0.5, size * len(rows) + 0.5, squeeze=False)
    for line, (pictures, row_name) in enumerate(zip(rows, row_names, strict=True)):
        for column, picture in enumerate(pictures):
            axis = axes[line, column]
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if line == 0:
                axis.set_title(titles[column], fontsize=8, loc="center")
        axes[line, 0].set_ylabel(row_name)
    return figure


def class_legend(figure: Figure, names: tuple[str, ...] = ("cat", "dog", "border")) -> None:
    """Which colour is which class, under a figure of overlays."""
    patches = [Patch(facecolor=CLASS_COLOURS[name], edgecolor="#555555", linewidth=0.5, label=name) for name in names]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(names))


def show_samples(pictures: PictureSet, n_each: int = 6) -> Figure:
    """The first pictures of each species by breed, with their masks over them."""
    first = pictures.table.drop_duplicates("breed").sort_values("species", kind="stable")
    rows = np.concatenate([first.index[first["species"] == species][:n_each] for species in SPECIES])
    rows = np.resize(rows, len(rows) + len(rows) % 2)  # an odd number shows the first picture twice
    half = np.split(rows, 2)
    lines, names = [], []
    for part in half:
        lines += [[blank_padding(pictures, row) for row in part]]
        lines += [[overlay(pictures.images[row], pictures.labels[row]) for row in part]]
        names += ["picture", "mask"]
    figure = picture_grid(lines, [""] * len(half[0]), names)
    class_legend(figure)
    return figure


def blank_padding(pictures: PictureSet, row: int) -> np.ndarray:
    """A picture whose padding is white, for showing."""
    return overlay(pictures.images[row], np.where(pictures.labels[row] == PADDING, PADDING, 0))


def show_letterbox(image: np.ndarray, size: int) -> Figure:
    """A photo ``uint8 (H, W, 3)``, the same squashed to a square, and letterboxed."""
    from PIL import Image

    squashed = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    boxed = Letterbox(*image.shape[:2], size).image(image)
    names = [
        f"photo, {image.shape[1]} x {image.shape[0]}",
        f"squashed, {size} x {size}",
        f"letterboxed, {size} x {size}",
    ]
    return picture_grid([[image, squashed, boxed]], names, [""], size=2.8)


def show_augmentation(pictures: PictureSet, row: int, n: int = 6) -> Figure:
    """One training picture as the model meets it: as it is, and augmented `n` times."""
    augment = make_augmentation()
    images, masks = [pictures.images[row]], [pictures.labels[row]]
    for seed in range(n):
        augment.set_random_seed(seed)
        out = augment(image=np.array(pictures.images[row]), mask=np.array(pictures.labels[row]))
        images.append(out["image"])
        masks.append(out["mask"])
    over = [overlay(image, mask) for image, mask in zip(images, masks, strict=True)]
    figure = picture_grid([images, over], ["as it is"] + [f"draw {i + 1}" for i in range(n)], ["picture", "mask"], 1.3)
    class_legend(figure)
    return figure


def show_predictions(pictures: PictureSet, predicted: np.ndarray, rows: list[int], titles: list[str]) -> Figure:
    """Pictures beside their true and their predicted masks ``uint8 (n, size, size)``, one column each."""
    lines = [
        [blank_padding(pictures, row) for row in rows],
        [overlay(pictures.images[row], pictures.labels[row]) for row in rows],
        [
            overlay(pictures.images[row], np.where(pictures.labels[row] == PADDING, PADDING, predicted[row]))
            for row in rows
        ],
    ]
    figure = picture_grid(lines, titles, ["picture", "true", "predicted"])
    class_legend(figure)
    return figure
