"""From a network's output to a selection: the proposal before any click, and what the first click is on.

Everything is in NumPy, so that a network gives the same selection whether torch or ONNX Runtime runs it.
"""

import cv2
import numpy as np

LARGEST = 8.0  # logits of the proposal and of the selection are limited to -8..8
FINE = 4  # stride of the decoder's cells; each predicts the logits of its own 4 x 4 pixels
CENTRE = 0.97  # a drawn click reaches this height only at its own pixel and the ones next to it
# The probability of a pet under a click is averaged over similar cells around it, see `similarity`.  If it is less than
# DOUBT, the click is on the background.
UNDER_REACH = 8.0  # standard deviation of the Gaussian of distance, in cells
UNDER_DIFFERENCE = 3.0  # how fast the similarity falls with the mean squared difference over the channels
DOUBT = 0.4


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the class probabilities, ``float32 (N, C, H, W)``, from the logits."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, in the same shape."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def pet_chance(logits: np.ndarray) -> np.ndarray:
    """Return the probability of a pet of either species, ``float32 (N, H, W)``, from class logits ``(N, 3, H, W)``.

    The logit of this probability is limited to -8..8, as in `click_head.pet_logit`.
    """
    pets = np.logaddexp.reduce(logits[:, 1:].astype(np.float32), axis=1)
    return sigmoid(np.clip(pets - logits[:, 0], -LARGEST, LARGEST))


def unsure_parts(pet: np.ndarray, peak: float) -> np.ndarray:
    """Return the parts of a mask in which a model is nowhere sure of a pet, ``bool (H, W)``: better left out.

    A part is a connected component of the pixels that are likelier pet than not.  On a real pet, a model is usually
    sure in at least one place; on a cushion or a shadow, nowhere.

    Parameters
    ----------
    pet : ndarray
        ``float (H, W)``: probability that each pixel belongs to a pet.
    peak : float
        Probability that at least one pixel of a part must reach for the part to be kept; 0 keeps every part.

    References
    ----------
    Canny: "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), 1986 (thresholding with hysteresis).
    """
    likely = pet > 0.5
    if not peak or not likely.any():
        return np.zeros_like(likely)
    _, parts = cv2.connectedComponents(likely.astype(np.uint8))
    return likely & ~np.isin(parts, parts[pet >= peak])


def settled(classes: np.ndarray, peak: float) -> np.ndarray:
    """Return class probabilities with each part of the mask settled as a whole, ``float32 (3, H, W)``.

    The `unsure_parts` become background.  In every other part the less likely species gives way to the likelier one,
    unless the model is sure of it somewhere: so that no animal is part cat, part dog, but a cat and a dog that touch
    keep their names.  Pixels beside a part are renamed with it, because masks that are smoothed reach beyond it.

    Parameters
    ----------
    classes : ndarray
        ``float32 (3, H, W)``: the probabilities of background, cat and dog.
    peak : float
        Probability from which a model counts as sure; with 0, nothing is changed.
    """
    result, pet = classes.copy(), 1 - classes[0]
    if not peak:
        return result
    unsure = unsure_parts(pet, peak)
    ground = classes[0, unsure]
    result[0, unsure] = 1 - ground
    result[1:, unsure] *= ground / (1 - ground)
    kept = (pet > 0.5) & ~unsure
    if not kept.any():
        return result
    _, numbers = cv2.connectedComponents(kept.astype(np.uint8))
    parts, pets = numbers[kept], classes[1:, kept]  # of the pixels of all parts
    likelier_dog = np.bincount(parts, pets[1] - pets[0]) > 0  # for each part
    sure = np.zeros((2, len(likelier_dog)), bool)
    for of_part, chance in zip(sure, pets, strict=True):
        of_part[parts[chance >= peak]] = True
    gives_way = ~np.where(likelier_dog, sure[0], sure[1])  # the other species is nowhere sure
    # Each pixel belongs to a part or is nearest to one.
    _, nearest = cv2.distanceTransformWithLabels((~kept).astype(np.uint8), cv2.DIST_L2, 3)
    part_of = np.zeros(nearest.max() + 1, int)
    part_of[nearest[kept]] = parts
    near = part_of[nearest]
    renamed = ~unsure & gives_way[near] & ((classes[2] > classes[1]) != likelier_dog[near])
    result[1:, renamed] = result[:0:-1, renamed]
    return result


def clicked_side(cells: np.ndarray, pet: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return 1 where the first click is on a pet and -1 where it is not, ``float32 (N,)``; 1 where nothing was clicked.

    One pixel may be wrong, so the probability of a pet under a click is averaged over all cells, weighted by their
    `similarity` to the clicked one.  People mean the pet more often than not, so a doubtful click counts as on the pet.

    Parameters
    ----------
    cells : ndarray
        ``float (N, C, H / 4, W / 4)``, the decoder's features.
    pet : ndarray
        ``float (N, H, W)``: probability that each pixel belongs to a pet, see `pet_chance`.
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
    """Group pixels ``(N, H, W)`` by cell, ``(N, H / 4, 4, W / 4, 4)``, to be reduced over axes 2 and 4."""
    number, height, width = values.shape
    return values.reshape(number, height // FINE, FINE, width // FINE, FINE)


def similarity(cells: np.ndarray, at: int) -> np.ndarray:
    """Return the similarity of one cell to every cell, ``float (h, w)`` in 0..1: high where a cell is near and alike.

    Parameters
    ----------
    cells : ndarray
        ``float (C, h, w)``, the decoder's features.
    at : int
        Index of the cell, counted row by row.
    """
    cells = cells.astype(np.float32)
    row, column = divmod(at, cells.shape[2])
    rows, columns = np.indices(cells.shape[1:])
    near = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * UNDER_REACH**2))
    return near * np.exp(-UNDER_DIFFERENCE * ((cells - cells[:, row, column, None, None]) ** 2).mean(0))
