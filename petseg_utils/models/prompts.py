"""Prompts, a user's clicks, scribbles and boxes: how they are drawn for a model, and how a user is simulated.

Coordinates are model pixels: x to the right, y down, pixel centres at whole numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

SIGMA = 4.0  # standard deviation of a drawn click, in model pixels
HELD = 0.75  # a click alone decides the pixels in which it is drawn higher than this
OFF_CENTRE = 0.5  # share of a person's clicks that do not fall at the centre of what is meant
INSIDE = 0.4  # such a click lies at least this fraction of the region's depth inside it
BOX_MARGIN = 0.03  # fraction of a box's longer side allowed beside it: what a hasty hand may have left out
CHANNELS = ("positive", "negative", "box", "previous mask")


@dataclass(frozen=True)
class Click:
    """A point that belongs to what is wanted or, if `positive` is false, does not."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class Scribble:
    """A stroke: the union of its points, each ``(x, y)``."""

    points: tuple[tuple[float, float], ...]
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """A rectangle around what is wanted, given by two opposite corners in either order."""

    x0: float
    y0: float
    x1: float
    y1: float


Prompt = Click | Scribble | Box


class Reach(NamedTuple):
    """How far a click acts, as a multiple of its distance to the edge of the selection; see `within_reach`."""

    adds: float
    takes: float


REACH = Reach(adds=3.0, takes=1.5)
LEAST_REACH = Reach(adds=20, takes=6)  # the least reach of a click, in model pixels
SURE = 0.98  # a model is rarely this sure of something that is not a pet; see `remnants`


def draw_prompts(
    prompts: Sequence[Prompt], size: int, previous: np.ndarray | None = None, sigma: float = SIGMA
) -> np.ndarray:
    """Draw prompts as maps.  Training, evaluation, the command line and both demos all use this function.

    A click is a Gaussian of height 1, a scribble the maximum of its points' Gaussians, a box a rectangle that falls off
    like a Gaussian outside its edges.  Several prompts of a channel are combined by their maximum.  Where a later click
    or scribble alone decides pixels (is above `HELD`), an earlier one of the other kind is lowered to `HELD`.

    Parameters
    ----------
    prompts : sequence of Click, Scribble or Box
        In the order in which they were given; may be empty.
    size : int
        Edge of the square in model pixels.
    previous : ndarray, optional
        ``float (size, size)``, the last mask as probabilities 0..1; zeros by default.
    sigma : float
        Standard deviation of the Gaussians, in model pixels.

    Returns
    -------
    ndarray
        ``float32 (4, size, size)`` within 0..1, in the order of `CHANNELS`.

    References
    ----------
    Xu et al.: "Deep Interactive Object Selection", CVPR 2016, arXiv:1603.04042 (clicks as input maps).
    Sofiiuk et al.: "Reviving Iterative Training with Mask Guidance", ICIP 2022, arXiv:2102.06583 (previous mask).
    """
    maps = np.zeros((len(CHANNELS), size, size), np.float32)
    pixels = np.arange(size, dtype=np.float32)

    def bump(low: float, high: float) -> np.ndarray:
        outside = np.maximum(np.maximum(low - pixels, pixels - high), 0)
        return np.exp(-(outside**2) / (2 * sigma**2))

    for prompt in prompts:
        if isinstance(prompt, Box):
            (left, right), (top, bottom) = sorted((prompt.x0, prompt.x1)), sorted((prompt.y0, prompt.y1))
            spots, channel = [(left, right, top, bottom)], 2
        else:
            spots, channel = [(x, x, y, y) for x, y in points_of(prompt)], 0 if prompt.positive else 1
        for left, right, top, bottom in spots:
            drawn = np.outer(bump(top, bottom), bump(left, right))
            np.maximum(maps[channel], drawn, out=maps[channel])
            if channel < 2:
                np.minimum(maps[1 - channel], HELD, out=maps[1 - channel], where=drawn > HELD)
    if previous is not None:
        maps[3] = previous
    return maps


def correcting_click(
    target: np.ndarray, predicted: np.ndarray, ignored: np.ndarray, rng: np.random.Generator | None = None
) -> Click | None:
    """Return the simulated user's next click, into the deepest wrong region; None if no pixel is wrong.

    The depth of a region is the distance of its innermost pixel to its edge.  The picture's edge counts as an edge, and
    ignored pixels belong to no region.

    Parameters
    ----------
    target, predicted, ignored : ndarray of bool, shape (H, W)
        The wanted region; the model's mask; pixels that are not judged.
    rng : Generator, optional
        With it, the user clicks as people do: a share of the clicks, `OFF_CENTRE`, falls beside the innermost pixel but
        well inside the region.  Without it, every click is at the innermost pixel.

    References
    ----------
    Sofiiuk et al., arXiv:2102.06583 (the larger of the missed and the false region, by the distance transform).
    Antonov et al.: "RClicks: Realistic Click Simulation for Benchmarking Interactive Segmentation", NeurIPS 2024,
    arXiv:2410.11722 (people do not click at centres).
    """
    missed, excess = target & ~predicted & ~ignored, predicted & ~target & ~ignored
    clicks = [deepest_click(missed, rng), deepest_click(excess, rng, positive=False)]
    depth, click = max(clicks, key=lambda pair: pair[0])
    return click if depth > 0 else None


def deepest_click(
    region: np.ndarray, rng: np.random.Generator | None = None, *, positive: bool = True
) -> tuple[float, Click]:
    """Return the depth of a region ``bool (H, W)`` in pixels (0 if empty) and a click in it; see `correcting_click`."""
    distance = distance_to_edge(region)
    place, depth = int(distance.argmax()), float(distance.max())
    if rng is not None and depth > 0 and rng.random() < OFF_CENTRE:
        place = int(rng.choice(np.flatnonzero(distance >= INSIDE * depth)))
    y, x = divmod(place, region.shape[1])
    return depth, Click(x, y, positive)


def centre_click(region: np.ndarray) -> Click:
    """Return a positive click at the pixel of a region ``bool (H, W)`` that is farthest from its edge."""
    return deepest_click(region)[1]


def random_click(region: np.ndarray, rng: np.random.Generator) -> Click:
    """Return a positive click at a random pixel of a non-empty region ``bool (H, W)``."""
    y, x = divmod(int(rng.choice(np.flatnonzero(region))), region.shape[1])
    return Click(x, y)


def jitter(click: Click, region: np.ndarray, reach: float, rng: np.random.Generator) -> Click:
    """Move a click to a random pixel of the region at most `reach` pixels away, as an unsteady hand would."""
    ys, xs = np.nonzero(region)
    near = np.hypot(xs - click.x, ys - click.y) <= reach
    if not near.any():
        return click
    at = rng.choice(np.flatnonzero(near))
    return Click(int(xs[at]), int(ys[at]), click.positive)


def distance_to(part: np.ndarray) -> np.ndarray:
    """Return each pixel's distance in pixels to the nearest pixel of `part`, ``bool (H, W)``; ``float32 (H, W)``."""
    return cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def distance_to_edge(region: np.ndarray) -> np.ndarray:
    """Return the distance in pixels of each pixel in a region ``bool (H, W)`` to the nearest outside it; 0 outside."""
    return distance_to(~np.pad(region, 1))[1:-1, 1:-1]


def latest_effect(prompts: Sequence[Prompt]) -> int:
    """Return the effect of the latest prompt: 1 if it adds to the selection, -1 if it takes away, 0 if it is a box."""
    return 0 if isinstance(prompts[-1], Box) else 1 if prompts[-1].positive else -1


def within_reach(prompts: Sequence[Prompt], selected: np.ndarray, reach: Reach = REACH) -> np.ndarray:
    """Return where the latest prompt may change the selection, ``bool (H, W)``.

    The distance of a click to the edge of the selection shows how large a change is meant.  A negative click on a rim
    of background along the animal asks for little, one in the middle of another animal for much.  A positive click near
    the selection asks for a missing part, one far away for more.  So each point reaches a multiple of that distance,
    and at least `LEAST_REACH`.  A positive click reaches everywhere if nothing is selected yet, or if it falls on what
    is selected, for then something else is missing.  A box reaches everywhere.

    Parameters
    ----------
    prompts : sequence of Click, Scribble or Box
        In the order in which they were given; may be empty.
    selected : ndarray of bool, shape (H, W)
        The photo's selection before the latest prompt, without padding; the square's edge counts as an edge.
    reach : Reach
        The multiples.
    """
    everywhere, effect = np.ones(selected.shape, bool), latest_effect(prompts) if prompts else 0
    if not effect or (effect > 0 and not selected.any()):
        return everywhere
    places = pixels_of(prompts[-1], selected.shape)
    if effect > 0:
        if all(selected[place] for place in places):
            return everywhere
        distance = distance_to(selected)
    else:
        distance = distance_to_edge(selected)
    times, least = (reach.adds, LEAST_REACH.adds) if effect > 0 else (reach.takes, LEAST_REACH.takes)
    near = np.zeros(selected.shape, np.uint8)
    for row, column in places:
        radius = min(max(least, times * float(distance[row, column])), 2 * max(selected.shape))
        cv2.circle(near, (column, row), round(radius), 1, cv2.FILLED)
    return near > 0


def parts_with(selected: np.ndarray, prompt: Prompt) -> np.ndarray:
    """Return the connected parts of a mask ``bool (H, W)`` that the points of a prompt lie on.

    Returns
    -------
    ndarray
        ``int (H, W)``: a number above 0 for each of the parts, and 0 elsewhere.
    """
    _, numbers = cv2.connectedComponents(selected.astype(np.uint8))
    touched = [numbers[pixel] for pixel in pixels_of(prompt, selected.shape)]
    return np.where(np.isin(numbers, touched), numbers, 0)


def remnants(prompts: Sequence[Prompt], before: np.ndarray, selected: np.ndarray, remaining: np.ndarray) -> np.ndarray:
    """Return the parts that a negative click leaves of what it falls on and that are to go too, ``bool (H, W)``.

    A negative click on another animal takes away what is within its reach, and small parts of that animal may be left
    beyond it.  A connected part of what it falls on goes too if it is smaller than what the click took away there,
    holds no positive click, and was nowhere selected with a probability of `SURE` or more.  Other prompts leave none.

    Parameters
    ----------
    prompts : sequence of Click, Scribble or Box
        In the order in which they were given.
    before : ndarray of float, shape (H, W)
        Probability that each pixel was selected before the latest prompt.
    selected, remaining : ndarray of bool, shape (H, W)
        The photo's selection before and after it, without padding.
    """
    none = np.zeros_like(selected)
    if latest_effect(prompts) >= 0:
        return none
    clicked = parts_with(selected, prompts[-1])
    left = (clicked > 0) & remaining
    if not left.any():
        return none
    taken = np.bincount(clicked[~remaining], minlength=clicked.max() + 1)  # pixels, of each part
    _, numbers = cv2.connectedComponents(left.astype(np.uint8))
    keep = np.ones(numbers.max() + 1, bool)
    keep[numbers[left]] = np.bincount(numbers.ravel())[numbers[left]] >= taken[clicked[left]]
    keep[numbers[before >= SURE]] = True
    for prompt in prompts:
        if latest_effect([prompt]) > 0:
            keep[[numbers[pixel] for pixel in pixels_of(prompt, selected.shape)]] = True
    return left & ~keep[numbers]


def pixels_of(prompt: Prompt, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the pixels ``(row, column)`` in which a prompt's points lie; for points outside, the nearest ones."""
    height, width = shape
    return [(min(height - 1, max(0, round(y))), min(width - 1, max(0, round(x)))) for x, y in points_of(prompt)]


def points_of(prompt: Prompt) -> list[tuple[float, float]]:
    """Return the points ``(x, y)`` that make up a prompt; for a box, two opposite corners."""
    if isinstance(prompt, Click):
        return [(prompt.x, prompt.y)]
    return list(prompt.points) if isinstance(prompt, Scribble) else [(prompt.x0, prompt.y0), (prompt.x1, prompt.y1)]


def within_boxes(prompts: Sequence[Prompt], height: int, width: int) -> np.ndarray | None:
    """Return where the boxes allow a selection, ``bool (height, width)``: within a box, or `BOX_MARGIN` beside it.

    None if there is no box, and so no limit.  The boxes' coordinates are pixels of a picture of this size.
    """
    boxes = [prompt for prompt in prompts if isinstance(prompt, Box)]
    if not boxes:
        return None
    allowed = np.zeros((height, width), bool)
    for box in boxes:
        (left, right), (top, bottom) = sorted((box.x0, box.x1)), sorted((box.y0, box.y1))
        margin = BOX_MARGIN * max(right - left, bottom - top)
        rows = slice(max(0, math.ceil(top - margin)), max(0, math.floor(bottom + margin) + 1))
        columns = slice(max(0, math.ceil(left - margin)), max(0, math.floor(right + margin) + 1))
        allowed[rows, columns] = True
    return allowed


def random_scribble(region: np.ndarray, rng: np.random.Generator, positive: bool = True) -> Scribble:
    """Return a short bent stroke that starts inside a region and stays there."""
    start = random_click(region, rng)
    x, y, angle, points = float(start.x), float(start.y), rng.uniform(0, 2 * np.pi), []
    step = region.shape[0] / 50
    for _ in range(rng.integers(3, 16)):
        row, column = round(y), round(x)
        if not (0 <= row < region.shape[0] and 0 <= column < region.shape[1] and region[row, column]):
            break
        points.append((x, y))
        angle += rng.normal(0, 0.4)
        x, y = x + step * np.cos(angle), y + step * np.sin(angle)
    return Scribble(tuple(points), positive)


def loose_box(region: np.ndarray, rng: np.random.Generator) -> Box:
    """Return the box around a region, each edge moved by up to a tenth of the box's size, as people draw boxes."""
    (ys, xs), size = np.nonzero(region), region.shape[0]
    left, right, top, bottom = xs.min(), xs.max(), ys.min(), ys.max()
    wide, high = 0.1 * (right - left + 1), 0.1 * (bottom - top + 1)
    moved = [edge + rng.uniform(-1, 1) * by for edge, by in ((left, wide), (top, high), (right, wide), (bottom, high))]
    return Box(*(float(np.clip(edge, 0, size - 1)) for edge in moved))


def prompt_maps(
    prompts: Sequence[Sequence[Prompt]], size: int, previous: np.ndarray | None = None, sigma: float = SIGMA
) -> np.ndarray:
    """Apply `draw_prompts` to each of several square pictures; return ``float32 (N, 4, size, size)``."""
    masks = [None] * len(prompts) if previous is None else previous
    maps = [draw_prompts(said, size, mask, sigma) for said, mask in zip(prompts, masks, strict=True)]
    return np.array(maps, np.float32).reshape(-1, 4, size, size)  # gives four axes for no pictures too
