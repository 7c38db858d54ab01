"""How certain is a score?  Bootstrap intervals over pictures, and paired differences between two models."""

import warnings

import numpy as np
from scipy.special import betaincinv

from petseg_utils.scores.metrics import boundary_iou, protocol_classes, protocol_matrix, scores


def bootstrap_intervals(
    confusions: np.ndarray,
    protocol: str,
    *,
    boundary: np.ndarray | None = None,
    n_resamples: int = 1000,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals of the scores: how far they would move on other pictures of the same kind.

    Pictures are resampled, not pixels, because a picture's pixels are right or wrong together (Efron & Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13).  How far retraining would move the scores is not included.

    Parameters
    ----------
    confusions : ndarray, shape (N, 5, 3)
        Counts from `picture_confusions`, N at least 1.
    boundary : ndarray, shape (N, K, 2), optional
        Counts from `boundary_counts` of the same pictures and protocol.
    n_resamples : int
        Number of resamples, at least 1.

    Returns
    -------
    dict of str to (low, high)
        For ``miou``, ``dice``, ``accuracy``, each ``iou.<class>`` and, if `boundary` is given, ``boundary_iou``.
        Resamples in which a score is NaN are left out; (NaN, NaN) if none remain.  In a resample that lacks a class,
        means are over the other classes, which widens their intervals on very few pictures.
    """
    matrices = protocol_matrix(confusions, protocol)
    values = _named_scores(resampled_sums(matrices, n_resamples), protocol)
    if boundary is not None:
        if boundary.shape != (expected := (*matrices.shape[:2], 2)):
            raise ValueError(f"boundary must have shape {expected} to match the confusions, not {boundary.shape}")
        values["boundary_iou"] = boundary_iou(resampled_sums(boundary, n_resamples))
    intervals = {name: percentile_interval(value) for name, value in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}


@np.errstate(invalid="ignore")  # zero divided by zero is NaN, which is the score of an absent class here
def paired_difference(
    confusions_a: np.ndarray,
    confusions_b: np.ndarray,
    protocol: str,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, float]:
    """Bootstrap the difference in mIoU of two models, a minus b, on the same resamples (see `bootstrap_intervals`).

    A hard picture then lowers both scores and cancels out, so models whose own intervals overlap can differ clearly.
    The counts must be of the same pictures in the same order.

    Returns
    -------
    dict of str to float
        ``difference`` on all pictures, and the ends ``low`` and ``high`` of the middle share `level` of the resamples.
    """
    # The pixels of each label do not depend on the model, so unequal row totals show that the pictures differ.
    if not np.array_equal(np.sum(confusions_a, axis=-1), np.sum(confusions_b, axis=-1)):
        raise ValueError("a pair needs counts of the same pictures in the same order; these differ in pixels per label")
    both = np.stack([protocol_matrix(confusions_a, protocol), protocol_matrix(confusions_b, protocol)], axis=1)
    whole_a, whole_b = scores(both.sum(axis=0))["miou"]
    a, b = scores(resampled_sums(both, n_resamples))["miou"].T
    low, high = percentile_interval(a - b, level)
    return {"difference": float(whole_a - whole_b), "low": float(low), "high": float(high)}


def unpaired_difference(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return the difference of two scores on different pictures, first minus second, as value, low and high.

    Both are given as the value and the low and high end of its 95 % interval.  Pictures of two sources are independent,
    so the squared distances of the ends from the values add up.

    References
    ----------
    Zou, Donner: "Construction of confidence limits about effect measures: a general approach", Statistics in Medicine
    27, 2008 (the method MOVER).
    """
    difference = first[0] - second[0]
    low = difference - np.hypot(first[0] - first[1], second[2] - second[0])
    high = difference + np.hypot(first[2] - first[0], second[0] - second[1])
    return float(difference), float(low), float(high)


def summarise(confusions: np.ndarray, protocol: str, boundary: np.ndarray, n_resamples: int) -> dict:
    """Return all scores of a split with 95 % intervals, for JSON: unrounded plain floats, with None for NaN.

    The arguments are those of `bootstrap_intervals`.  Keys are ``miou``, ``iou`` (by class), ``dice``, ``accuracy``,
    ``boundary_iou`` and ``ci95`` ([low, high] of every score; those of classes are named ``iou.<class>``).
    """
    intervals = bootstrap_intervals(confusions, protocol, boundary=boundary, n_resamples=n_resamples)
    whole = scores(protocol_matrix(confusions, protocol).sum(axis=0))
    whole["boundary_iou"] = boundary_iou(boundary.sum(axis=0))
    by_class = zip(protocol_classes(protocol), whole.pop("iou"), strict=True)
    return {
        "iou": {name: plain(value) for name, value in by_class},
        **{name: plain(value) for name, value in whole.items()},
        "ci95": {name: [plain(low), plain(high)] for name, (low, high) in intervals.items()},
    }


def _named_scores(matrix: np.ndarray, protocol: str) -> dict[str, np.ndarray]:
    """Return `scores` with a name for each class: ``iou`` becomes ``iou.<class>``."""
    named = scores(matrix)
    iou = named.pop("iou")
    return named | {f"iou.{name}": iou[..., k] for k, name in enumerate(protocol_classes(protocol))}


def resampled_sums(counts: np.ndarray, n_resamples: int) -> np.ndarray:
    """Sum counts ``(N, ...)`` over N pictures drawn with replacement, ``float64 (n_resamples, ...)``.

    For a given N, the same pictures are drawn in every call, whatever the counts are of.

    Raises
    ------
    ValueError
        If there are no pictures, or no resamples are asked for.
    """
    N = len(counts)
    if N == 0 or n_resamples < 1:
        raise ValueError(f"cannot draw {n_resamples} resamples of {N} pictures; both must be at least 1")
    rng = np.random.default_rng(0)
    # How often each picture is drawn, times its counts: several times faster than gathering the drawn pictures, and
    # as exact, for float64 holds every integer below 2**53.
    flat = counts.reshape(N, -1).astype(np.float64)
    sums = [np.bincount(rng.integers(N, size=N), minlength=N) @ flat for _ in range(n_resamples)]
    return np.reshape(sums, (n_resamples, *counts.shape[1:]))


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high end, ``(...)`` each, of the middle share `level` of values ``(n_resamples, ...)``.

    NaN is left out; where nothing else remains, both ends are NaN.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


@np.errstate(invalid="ignore")  # the mean of no values is NaN
def mean_interval(values: np.ndarray, n_resamples: int) -> tuple[float, float, float]:
    """Return the mean of values ``(N,)`` or ``(N, K)`` of N pictures and its 95 % bootstrap interval over pictures.

    NaN is left out of the mean and of each resample.

    Returns
    -------
    (float, float, float)
        Mean, low, high.
    """
    present = ~np.isnan(values)
    values = np.ascontiguousarray(np.where(present, values, 0))
    terms = np.stack([values, present], axis=1).reshape(len(values), 2, -1).sum(-1)  # sum and number of each picture
    total, number = resampled_sums(terms, n_resamples).T
    low, high = percentile_interval(total / number)
    return float(values.sum() / present.sum()), float(low), float(high)


def share_interval(successes: float, n: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, `successes` of `n` pictures (Clopper and Pearson, 1934).

    If none or all succeed, a bootstrap gives an interval of zero width, which says nothing.  For no pictures: NaN.
    """
    if not n > 0:
        return np.nan, np.nan
    k, n = round(successes), round(n)
    low = betaincinv(k, n - k + 1, 0.025) if k > 0 else 0.0
    high = betaincinv(k + 1, n - k, 0.975) if k < n else 1.0
    return float(low), float(high)


def plain(value: np.ndarray | float) -> float | None:
    """Return a plain float, or None for NaN, which JSON cannot hold."""
    return None if np.isnan(value) else float(value)


def with_interval(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """Format a value and its interval as ``0.812 [0.790, 0.833]``; ``absent`` if any of them is missing."""
    if value is None or low is None or high is None or np.isnan([value, low, high]).any():
        return "absent"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def told_apart(low: float, high: float, higher: str, lower: str, neither: str) -> str:
    """Choose the words for a difference by its 95 % interval: `neither` if it contains zero, or if there is none."""
    return higher if low > 0 else lower if high < 0 else neither
