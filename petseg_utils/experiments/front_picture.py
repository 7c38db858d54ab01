"""The picture of the front page and the README: a photo that needs no click, and a drawing that needs two clicks."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from skimage.data import chelsea

from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_hair
from petseg_utils.experiments.plotting import STYLE, new_figure
from petseg_utils.models.prompts import Click
from petseg_utils.segmenter import Segmenter

CAPTION = (
    "A photo: the cat is found without a click, and cut out. A drawing: a cushion of the dog's colours is taken for a "
    "part of it, and two clicks on the cushion remove most of it."
)
NOT_THE_PET = (Click(60, 250, positive=False), Click(60, 340, positive=False))  # on the cushion of the drawing


def drawn_dog() -> tuple[np.ndarray, np.ndarray]:
    """Return a drawn dog beside a cushion, RGB ``uint8 (H, W, 3)``, and the dog's mask, ``bool (H, W)``."""
    breed = next(breed for breed in BREEDS if breed.name == "ginger_bounder")
    picture, alpha = draw_hair(breed, 3, 3)
    return picture[:, :682], alpha[:, :682] > 127  # the same aspect ratio as the photo


def front_picture(*, upright: bool = False) -> Figure:
    """Draw what the shipped click model makes of a photo and of a drawing, step by step.

    Parameters
    ----------
    upright : bool
        Whether the steps go below each other, for a phone, instead of side by side.

    Returns
    -------
    Figure
        Six pictures; what is not selected is faded.
    """
    model = Segmenter.load("point")
    cat, dog = chelsea(), drawn_dog()[0]
    photo, drawing = model.open(cat), model.open(dog)
    proposed = faded(dog, drawing.mask)
    for click in NOT_THE_PET:
        drawing.add(click)
    corrected = faded(dog, drawing.mask)
    rows = [
        [
            ("a photo", cat),
            ("found without a click", faded(cat, photo.mask)),
            ("cut out", on_board(cat, photo.alpha())),
        ],
        [("a drawing", dog), ("found, and a cushion with it", proposed), ("after two clicks", corrected)],
    ]
    with plt.rc_context(STYLE):
        if upright:
            figure, axes = new_figure(3, 2, 4.2, 4.9)
            axes = axes.T
        else:
            figure, axes = new_figure(2, 3, 9.6, 4.4)
        for axis, (title, picture) in zip(axes.flat, rows[0] + rows[1], strict=True):
            axis.imshow(picture, interpolation="antialiased")
            axis.set_title(title, fontsize=8 if upright else 10)
            axis.set_axis_off()
        for click in NOT_THE_PET:  # a disc with a minus
            axes[1, 1].plot(click.x, click.y, "o", color="#A3261B", markeredgecolor="white", markersize=11)
            axes[1, 1].plot(click.x, click.y, marker="_", color="white", markersize=6, markeredgewidth=2)
        return figure


def faded(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a picture that is nearly white where the mask ``bool (H, W)`` is false."""
    return np.where(mask[..., None], image, np.uint8(192) + image // 4)


def on_board(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return a picture on a grey and white checkerboard, as opaque as alpha ``uint8 (H, W)`` says."""
    height, width = alpha.shape
    squares = (np.indices((height, width)) // max(1, max(height, width) // 40)).sum(0) % 2
    share = alpha[..., None] / 255
    return np.rint(share * image + (1 - share) * (205 + 50 * squares[..., None])).astype(np.uint8)
