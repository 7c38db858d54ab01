"""Edges at the photo's own size: a soft alpha from a mask made at the model's size, and the pet's own edge colours."""

from collections.abc import Iterator

import cv2
import numpy as np

WORK = 512  # longer side in pixels, at most, at which the photo guides the mask; but twice the mask's at least
RADIUS = 3.0  # radius in model pixels within which colours are compared
SMOOTH = 1e-4  # variance of a colour channel (of 0..1) below which a part of the photo counts as plain
BAND = 4.5  # how far from the outline, in model pixels, the mask may change
STEEPNESS = 2.5  # contrast of the alpha around 1/2
TILE = 1024  # edge in pixels of the squares in which large photos are processed, to keep memory small
BLEED = 2.0  # radius in model pixels from which the colours of pet and background are taken


def guided(guide: np.ndarray, mask: np.ndarray, radius: int) -> np.ndarray:
    """Return the coefficients of a guided filter, ``float32 (H, W, 4)``: the mask as a linear function of the colours.

    The filtered mask is the dot product of the first three coefficients with the colours, plus the fourth.

    Parameters
    ----------
    guide : ndarray
        Colours ``float32 (H, W, 3)`` in 0..1.
    mask : ndarray
        ``float32 (H, W)`` in 0..1.
    radius : int
        The windows have an edge of ``2 * radius + 1`` pixels.

    References
    ----------
    He, Sun, Tang: "Guided Image Filtering", ECCV 2010 and TPAMI 2013; He, Sun: "Fast Guided Filter", 2015,
    arXiv:1505.00996 (coefficients computed at a smaller size).
    """

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    def covariance(first: int, second: int) -> np.ndarray:
        return mean(planes[first] * planes[second]) - means[first] * means[second]

    # Plane by plane: three times as fast as on interleaved colours.
    planes = [*cv2.split(guide), mask]
    means = [mean(plane) for plane in planes]
    rr, gg, bb = (covariance(colour, colour) + np.float32(SMOOTH) for colour in range(3))
    rg, rb, gb = covariance(0, 1), covariance(0, 2), covariance(1, 2)
    red, green, blue = (covariance(colour, 3) for colour in range(3))
    # The inverse of the symmetric 3 x 3 matrix by its cofactors.
    first, second, third = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    determinant = rr * first + rg * second + rb * third
    mixed = rb * rg - rr * gb
    slopes = [
        first * red + second * green + third * blue,
        second * red + (rr * bb - rb * rb) * green + mixed * blue,
        third * red + mixed * green + (rr * gg - rg * rg) * blue,
    ]
    offset = means[3].copy()
    for slope, level in zip(slopes, means[:3], strict=True):
        slope /= determinant
        offset -= slope * level
    return cv2.merge([mean(plane) for plane in (*slopes, offset)])


def soft_alpha(image: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Return how much of each pixel of a photo is the pet, ``uint8 (H, W)`` from 0 to 255.

    In a band around the mask's outline, the photo's own colours decide (a guided filter); elsewhere, the mask does.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    chance : ndarray
        Probability of the pet in the same photo at the model's size, ``float (h, w)`` in 0..1.
    """
    height, width = image.shape[:2]
    shrunk = min(1.0, max(WORK, 2 * max(chance.shape)) / max(height, width))
    shape = max(1, round(shrunk * width)), max(1, round(shrunk * height))
    mask = cv2.resize(np.ascontiguousarray(chance, dtype=np.float32), shape, interpolation=cv2.INTER_LINEAR)
    step = max(shape) / max(chance.shape)  # working pixels per model pixel
    selected = (mask > 0.5).astype(np.uint8)
    if step <= 1 or not selected.any() or selected.all():
        return 255 * (cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5).astype(np.uint8)
    guide = cv2.resize(image, shape, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    away = cv2.distanceTransform(selected, cv2.DIST_L2, 3) + cv2.distanceTransform(1 - selected, cv2.DIST_L2, 3)
    # 1 near the outline, falling to 0 at the band's edge, so that there is no step to the plain mask.
    weight = np.clip(2 - 2 * away / (BAND * step), 0, 1)
    # The filter is needed around the band alone.  It depends on pixels up to two radii away, and enlarging on one more.
    radius = max(1, round(RADIUS * step))
    far = 2 * radius + 1
    left, top, across, down = cv2.boundingRect((weight > 0).astype(np.uint8))
    part = np.s_[max(0, top - far) : top + down + far, max(0, left - far) : left + across + far]
    terms = np.zeros((*mask.shape, 4), np.float32)
    terms[part] = guided(guide[part], mask[part], radius)
    alpha = np.empty((height, width), np.uint8)
    for rows, columns in tiles(height, width):
        here = enlarged(np.dstack([mask, weight]), shape, (height, width), rows, columns)
        plain = (here[..., 0] > 0.5).astype(np.float32)
        near = here[..., 1] > 0
        if near.any():
            left, top, across, down = cv2.boundingRect(near.astype(np.uint8))
            part = np.s_[top : top + down, left : left + across]
            *slopes, offset = cv2.split(enlarged(terms, shape, (height, width), rows, columns)[part])
            red, green, blue = (
                slope * (colour.astype(np.float32) / 255)
                for slope, colour in zip(slopes, cv2.split(image[rows, columns][part]), strict=True)
            )
            filtered = np.clip((red + green + blue + offset - 0.5) * STEEPNESS + 0.5, 0, 1)
            plain[part] += here[..., 1][part] * (filtered - plain[part])  # by nothing where it is not near
        alpha[rows, columns] = np.rint(255 * plain)
    return alpha


def own_colours(image: np.ndarray, alpha: np.ndarray, step: float) -> np.ndarray:
    """Return the photo without the old background's colours in the pet's edge, RGB ``uint8 (H, W, 3)``.

    The colour of a pixel that is only partly pet is a mixture; the pet's part is estimated from the pixels nearby,
    weighted by alpha.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    alpha : ndarray
        ``uint8 (H, W)``, from `soft_alpha`.
    step : float
        Photo pixels per model pixel.

    References
    ----------
    Forte: "Approximate Fast Foreground Colour Estimation", ICIP 2021 (means of both sides, weighted by alpha).
    """
    height, width = alpha.shape
    radius = max(1, round(BLEED * step))
    result = image.copy()
    for rows, columns in tiles(height, width):
        mixed = (alpha[rows, columns] > 0) & (alpha[rows, columns] < 255)
        if not mixed.any():
            continue
        left, top, across, down = cv2.boundingRect(mixed.astype(np.uint8))  # what follows is needed around it alone
        mixed = mixed[top : top + down, left : left + across]
        rows = slice(rows.start + top, rows.start + top + down)
        columns = slice(columns.start + left, columns.start + left + across)
        wide = np.s_[
            max(0, rows.start - 2 * radius) : rows.stop + 2 * radius,
            max(0, columns.start - 2 * radius) : columns.stop + 2 * radius,
        ]
        share = alpha[wide].astype(np.float32) / 255
        top, left = rows.start - wide[0].start, columns.start - wide[1].start
        inner = np.s_[top : top + mixed.shape[0], left : left + mixed.shape[1]]

        def near(values: np.ndarray, inner: tuple[slice, slice] = inner, mixed: np.ndarray = mixed) -> np.ndarray:
            return cv2.blur(values, (2 * radius + 1, 2 * radius + 1))[inner][mixed]

        own, other = share[inner][mixed], 1 - share[inner][mixed]
        weights = near(share) + 1e-4, near(1 - share) + 1e-4
        for channel in range(3):  # one after the other: twice as fast as on interleaved colours
            part = image[wide][..., channel].astype(np.float32)
            pet, ground = near(part * share) / weights[0], near(part * (1 - share)) / weights[1]
            pet = np.clip(pet + own * (part[inner][mixed] - own * pet - other * ground), 0, 255)
            result[rows, columns, channel][mixed] = np.rint(pet)
    return result


def tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the row and column slices of squares of `TILE` pixels, smaller at the far edges, that cover a picture."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(height, top + TILE)), slice(left, min(width, left + TILE))


def enlarged(
    values: np.ndarray, shape: tuple[int, int], full: tuple[int, int], rows: slice, columns: slice
) -> np.ndarray:
    """Return a window of ``float32 (h, w, C)`` enlarged from `shape` (width, height) to `full` (height, width)."""
    down, across = shape[1] / full[0], shape[0] / full[1]
    matrix = np.array(
        [[across, 0, (columns.start + 0.5) * across - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]], np.float64
    )
    size = (columns.stop - columns.start, rows.stop - rows.start)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(values, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
