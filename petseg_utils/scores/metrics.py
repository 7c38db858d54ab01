"""How good is a segmentation?  Scores, and three ways to treat the trimap's border.

Each picture is counted once; every region score under every protocol is made of sums and ratios of those counts::

    picture_confusions -> protocol_matrix -> sum over pictures -> scores

Boundary IoU depends on where pixels lie, which these counts do not tell, so `boundary_counts` makes its own counts.

Two conventions hold throughout.  A split's score is that of its summed counts, not an average over pictures.  A class
in neither target nor prediction scores NaN and is left out of means: it was neither found nor missed.  `protocol` is
always one of `PROTOCOLS`; arguments of the wrong form raise ValueError.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from petseg_utils.data.labels import BORDER, CLASSES, PADDING

# The row in which each label value is counted: background, cat, dog, border, padding.
_NO_ROW = 255
_ROW_OF_LABEL = np.full(256, _NO_ROW, np.uint8)
_ROW_OF_LABEL[[0, 1, 2, BORDER, PADDING]] = range(5)

# Each protocol: its classes, the class that each of the five rows counts as, the class that each prediction counts as.
_IGNORED = 255
_READINGS = {
    "ignore_border": (CLASSES, (0, 1, 2, _IGNORED, _IGNORED), (0, 1, 2)),
    "border_as_background": (CLASSES, (0, 1, 2, 0, 0), (0, 1, 2)),
    "binary_border_as_pet": (("background", "pet"), (0, 1, 1, 1, _IGNORED), (0, 1, 1)),
}
PROTOCOLS = tuple(_READINGS)

# Zero divided by zero gives NaN, which is the score of an absent class here, so it deserves no warning.
_nan_without_warning = np.errstate(invalid="ignore")


def picture_confusions(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Count, for each picture, how many pixels of each label were predicted as each class.

    Parameters
    ----------
    labels, predictions : ndarray of uint8, shape (N, H, W)
        Labels are 0 background, 1 cat, 2 dog, `PADDING` or `BORDER`; predictions 0, 1 or 2; else ValueError.

    Returns
    -------
    ndarray of int64, shape (N, 5, 3)
        Numbers of pixels; rows are background, cat, dog, border, padding; columns are the predicted classes.
    """
    counts = [_pair_counts(rows, prediction, 5, 3) for rows, prediction in _pictures(labels, predictions)]
    return np.array(counts, dtype=np.int64).reshape(-1, 5, 3)


def protocol_classes(protocol: str) -> tuple[str, ...]:
    """Return the names of the K classes that a protocol scores, in the order of its matrices."""
    return _reading(protocol)[0]


def protocol_matrix(confusions: np.ndarray, protocol: str) -> np.ndarray:
    """Turn counts ``(..., 5, 3)`` into confusion matrices under a protocol, which says how each pixel counts.

    - ``ignore_border``, the primary one: border and padding are left out.
    - ``border_as_background``, the original work's: border and padding count as background.
    - ``binary_border_as_pet``: pet against background; border counts as pet, padding is left out.

    The border is the trimap's uncertain third value (Parkhi et al., "Cats and Dogs", CVPR 2012).

    Returns
    -------
    ndarray, shape (..., K, K)
        Confusion matrices, rows target, columns prediction; the same dtype as the counts.
    """
    classes, class_of_row, class_of_prediction = _reading(protocol)
    confusions = np.asarray(confusions)
    if confusions.shape[-2:] != (5, 3):
        raise ValueError(f"confusions must have shape (..., 5, 3), not {confusions.shape}")
    # Products with 0/1 matrices add up the rows and columns that share a class; an ignored row is in none.
    ids = np.arange(len(classes))
    rows = (ids[:, None] == class_of_row).astype(confusions.dtype)
    columns = (class_of_prediction[:, None] == ids).astype(confusions.dtype)
    return rows @ confusions @ columns


@_nan_without_warning
def scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return region scores, all in 0..1, of confusion matrices ``(..., K, K)``, rows target, columns prediction.

    IoU is intersection over union of a class's target and prediction (Jaccard, 1912), mIoU its mean over classes
    (Long et al., CVPR 2015).  Dice (1945) of a class is 2 IoU / (1 + IoU).  Accuracy is the share of correct pixels.

    Returns
    -------
    dict of str to ndarray
        ``iou`` (..., K); ``miou``, ``dice`` (means over classes) and ``accuracy`` (...).  NaN if no pixel counts.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix must have shape (..., K, K), not {matrix.shape}; see protocol_matrix")
    intersection, union = _intersection_and_union(matrix)
    iou = intersection / union
    dice = 2 * iou / (1 + iou)
    accuracy = intersection.sum(-1) / matrix.sum((-2, -1))
    return {"iou": iou, "miou": _mean_of_present(iou), "dice": _mean_of_present(dice), "accuracy": accuracy}


def picture_miou(confusions: np.ndarray, protocol: str) -> np.ndarray:
    """Return the mean IoU of each picture by itself, ``(N, 5, 3)`` to ``(N,)`` in 0..1, for ranking pictures.

    The mean is over the classes of the picture's true mask.  If classes found only in the prediction counted too, one
    pixel of a wrong class would cost as much as a missed animal.  NaN where no pixel counts.

    The mean of these values is not the split's mIoU.  Here each picture weighs the same and has only its own classes;
    there each pixel weighs the same, so that a large pet counts more than a small one, and each class enters once.
    """
    matrices = protocol_matrix(confusions, protocol)
    held = matrices.sum(-1) > 0
    total = np.where(held, scores(matrices)["iou"], 0).sum(-1)
    return np.where(held.any(-1), total / held.sum(-1).clip(1), np.nan)


def pooled_miou(confusions: np.ndarray, protocol: str) -> float:
    """Return the mean IoU, in 0..1, of several pictures' summed confusions ``(n, 5, 3)`` under a protocol."""
    return float(scores(protocol_matrix(confusions.sum(0), protocol))["miou"])


def boundary_counts(
    labels: np.ndarray, predictions: np.ndarray, protocol: str, dilation_ratio: float = 0.02
) -> np.ndarray:
    """Count the pixels that Boundary IoU compares (Cheng et al., CVPR 2021, arXiv:2103.16562).

    A class's boundary band is its mask minus the mask's erosion by d pixels, where d is `dilation_ratio` (0.02 is the
    authors' choice) times the diagonal of ``(H, W)``, rounded, and at least 1.  As in the authors' code, the mask is
    eroded d times by a 3 x 3 kernel, and outside the picture there is no class.

    An ignored border pixel has no class, yet bands cannot be drawn without one.  Any fixed class would give the
    target edges that are not in the picture, which even a perfect prediction would miss.  So the target takes the
    prediction's class there: the pixel cannot be wrong, and the outline may run anywhere within the uncertain border.
    The pixel itself is then not counted.  Ignored padding counts as outside the picture, whatever is predicted there.

    Parameters
    ----------
    labels, predictions : ndarray of uint8, shape (N, H, W)
        As in `picture_confusions`.

    Returns
    -------
    ndarray of int64, shape (N, K, 2)
        Per picture and class, the pixels in both bands (intersection) and in at least one (union).
    """
    classes, class_of_row, class_of_prediction = _reading(protocol)
    K = len(classes)
    counts = []
    for rows, raw_prediction in _pictures(labels, predictions):
        prediction = class_of_prediction[raw_prediction]
        target = class_of_row[rows]
        counted = target != _IGNORED
        outside = (rows == _ROW_OF_LABEL[PADDING]) & ~counted
        target = np.where(outside, _IGNORED, np.where(counted, target, prediction))
        prediction = np.where(outside, _IGNORED, prediction)
        d = max(1, round(dilation_ratio * math.hypot(*target.shape)))
        # With "no class", K, everywhere outside the bands, Boundary IoU becomes plain IoU.
        target_bands = np.where(_band(target, d), target, K)[counted]
        predicted_bands = np.where(_band(prediction, d), prediction, K)[counted]
        matrix = _pair_counts(target_bands, predicted_bands, K + 1, K + 1)
        counts.append(np.stack(_intersection_and_union(matrix), axis=-1)[:K])
    return np.array(counts, dtype=np.int64).reshape(-1, K, 2)


@_nan_without_warning
def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Return Boundary IoU averaged over classes, counts ``(..., K, 2)`` to ``(...)`` in 0..1; NaN if no pixel counts.

    A split's score is that of its summed counts: ``boundary_iou(boundary_counts(...).sum(axis=0))``.
    """
    return _mean_of_present(counts[..., 0] / counts[..., 1])


def _reading(protocol: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Look up a protocol's classes, class of each row and class of each prediction."""
    if protocol not in _READINGS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    classes, class_of_row, class_of_prediction = _READINGS[protocol]
    return classes, np.array(class_of_row, np.uint8), np.array(class_of_prediction, np.uint8)


def _pictures(labels: np.ndarray, predictions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Check labels and predictions, and yield each picture's rows and prediction, both ``(H, W)``."""
    if labels.shape != predictions.shape or labels.ndim != 3:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} must have one shape (N, H, W)")
    if labels.dtype != np.uint8 or predictions.dtype != np.uint8:
        raise ValueError(f"labels ({labels.dtype}) and predictions ({predictions.dtype}) must be uint8")
    for label, prediction in zip(labels, predictions, strict=True):
        rows = _ROW_OF_LABEL[label]
        if (unknown := label[rows == _NO_ROW]).size:
            raise ValueError(f"label values must be 0, 1, 2, {PADDING} or {BORDER}, not {np.unique(unknown)}")
        if prediction.max(initial=0) >= len(CLASSES):
            raise ValueError(f"predicted values must be 0, 1 or 2, not {prediction.max()}")
        yield rows, prediction


def _pair_counts(rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    """Return how often each (row, column) pair occurs, ``(n_rows, n_columns)``."""
    pairs = (rows * n_columns + columns).ravel()
    return np.bincount(pairs, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def _intersection_and_union(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the intersection and union of each class of confusion matrices, ``(..., K, K)`` to ``(..., K)`` each."""
    intersection = np.diagonal(matrix, axis1=-2, axis2=-1)
    return intersection, matrix.sum(-1) + matrix.sum(-2) - intersection


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis, leaving out NaN; np.nanmean would warn where nothing is left."""
    return np.nansum(values, axis=-1) / np.sum(~np.isnan(values), axis=-1)


def _band(classes: np.ndarray, d: int) -> np.ndarray:
    """Return where a class map ``(H, W)`` is within d pixels of another class or of the picture's edge."""
    # A pixel survives the erosion of its class's mask if the square around it, 2d + 1 wide, is all of its class, that
    # is, if the least and the greatest class in it are equal.  That tests all classes at once; 255 stands for outside.
    kernel = np.ones((3, 3), np.uint8)
    least = cv2.erode(classes, kernel, iterations=d)
    greatest = cv2.dilate(classes, kernel, iterations=d, borderType=cv2.BORDER_CONSTANT, borderValue=255)
    return least != greatest
