"""What is selected of a photo, from a network's numbers: before any click, and whose side the first click takes.

In NumPy, so that whoever runs a network, by torch or by ONNX Runtime, gets the same.
"""

import cv2
import numpy as np

LARGEST = 8.0  # logits of the proposal and of the selection are limited to this
FINE = 4  # stride of the decoder's cells, which predict the logits of their own 4 x 4 pixels
CENTRE = 0.97  # a drawn click is this high only at its own pixel and the ones next to it
# What lies under a click is averaged over similar cells around it, see `similarity`.  If a pet is less likely there
# than DOUBT, the click is on the background.
UNDER_REACH = 8.0  # standard deviation of the Gaussian of distance, in cells
UNDER_DIFFERENCE = 3.0  # how fast the similarity falls with the mean squared difference of the channels
DOUBT = 0.4


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of the classes, ``float32 (N, C, H, W)``, from their logits."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, of the same shape."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def pet_chance(logits: np.ndarray) -> np.ndarray:
    """Probability of being a pet, of either species, ``float32 (N, H, W)``, from class logits ``(N, 3, H, W)``.

    Its own logit is limited to -8..8, as in `click_head.pet_logit`.
    """
    pets = np.logaddexp.reduce(logits[:, 1:].astype(np.float32), axis=1)
    return sigmoid(np.clip(pets - logits[:, 0], -LARGEST, LARGEST))


def unsure_parts(pet: np.ndarray, peak: float) -> np.ndarray:
    """Parts of a mask in which a model is nowhere sure of a pet, ``bool (H, W)``: they are better left out.

    A part is a connected one of pixels that are likelier pet than not.  Of a real pet a model is mostly sure at least
    somewhere, of a cushion or a shadow nowhere.

    Parameters
    ----------
    pet : ndarray
        ``float (H, W)``: probability of each pixel to be of a pet.
    peak : float
        How sure it must be at one pixel of a part at least; 0 leaves every part in.

    References
    ----------
    Canny: "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), 1986 (thresholding with hysteresis).
    """
    likely = pet > 0.5
    if not peak or not likely.any():
        return np.zeros_like(likely)
    _, parts = cv2.connectedComponents(likely.astype(np.uint8))
    return likely & ~np.isin(parts, parts[pet >= peak])


def clicked_side(cells: np.ndarray, pet: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Whether the first click is on the pet or beside it: 1 or -1, ``float32 (N,)``; 1 where nothing was clicked.

    The class under a click is not read off one pixel, which may be wrong, but averaged over all cells, weighted by
    their `similarity` to the clicked one.  People mean the pet more often, so a doubtful click counts for it.

    Parameters
    ----------
    cells : ndarray
        ``float (N, C, H / 4, W / 4)``, the decoder's features.
    pet : ndarray
        ``float (N, H, W)``: probability of each pixel to be of a pet, see `pet_chance`.
    prompts : ndarray
        ``float (N, 4, H, W)``, from `prompts.prompt_maps`.
    """
    sides = np.ones(len(cells), np.float32)
    for row, clicked in enumerate(by_cells(prompts[:, 0]).max((2, 4)) > CENTRE):
        if not clicked.any():
            continue
        weights = similarity(cells[row], int(clicked.argmax()))
        chance = by_cells(pet[row : row + 1]).mean((2, 4))[0]
        if (weights * chance).sum() < DOUBT * weights.sum():
            sides[row] = -1
    return sides


def by_cells(values: np.ndarray) -> np.ndarray:
    """Pixels ``(N, H, W)`` by their cells, ``(N, H / 4, 4, W / 4, 4)``: to reduce over axes 2 and 4."""
    number, height, width = values.shape
    return values.reshape(number, height // FINE, FINE, width // FINE, FINE)


def similarity(cells: np.ndarray, at: int) -> np.ndarray:
    """Similarity of one cell to every cell, ``float (h, w)`` in 0..1: high where a cell is near and alike.

    Parameters
    ----------
    cells : ndarray
        ``float (C, h, w)``, the decoder's features.
    at : int
        Which cell, counted along the rows.
    """
    cells = cells.astype(np.float32)
    row, column = divmod(at, cells.shape[2])
    rows, columns = np.indices(cells.shape[1:])
    near = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * UNDER_REACH**2))
    return near * np.exp(-UNDER_DIFFERENCE * ((cells - cells[:, row, column, None, None]) ** 2).mean(0))
