"""How good is a mask after a number of clicks?  Dialogues with a simulated user, and the scores computed from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from petseg_utils.data.labels import PADDING
from petseg_utils.data.parallel import share, total_of, whole_length
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.prompts import (
    SIGMA,
    Click,
    Prompt,
    centre_click,
    correcting_click,
    deepest_click,
    latest_effect,
    prompt_maps,
    random_click,
    remnants,
    within_boxes,
    within_reach,
)
from petseg_utils.models.selection import clicked_side, pet_chance, unsure_parts
from petseg_utils.scores.intervals import mean_interval, percentile_interval, plain, resampled_sums
from petseg_utils.scores.metrics import scores
from petseg_utils.scores.predictions import small_breeds, validation_scores

MOST_CLICKS = 20  # a user who has not reached the target by then gives up, and 20 clicks are counted
DIALOGUES = 5  # dialogues with a random first click, for each picture
NATURAL = ("missed@1", "excess@1")
DEEP = 0.015  # fraction of the longer side: people are taken to click on parts deeper than this
WORSE = 0.02  # a picture counts as worse if it loses more IoU than this
TARGETS = (0.85, 0.90)  # the IoU to be reached for NoC@85 and NoC@90


@dataclass(frozen=True)
class Opened:
    """Some pictures for which the model has computed all that does not depend on prompts.

    Parameters
    ----------
    seen : tuple of Tensor
        From the model's `click_head.PointSegmenter.look`.
    labels : ndarray
        ``uint8 (N, H, W)``.
    rows : sequence of int
        Their rows in the picture set.
    peak : float
        The model's `peak`, see `selection.unsure_parts`.
    """

    seen: tuple[Tensor, ...]
    labels: np.ndarray
    rows: Sequence[int]
    peak: float = 0.0

    def some(self, which: Sequence[int]) -> "Opened":
        """Return some of these pictures, by their indices here."""
        rows = list(which)
        seen, numbers = tuple(part[rows] for part in self.seen), [self.rows[row] for row in rows]
        return Opened(seen, self.labels[rows], numbers, self.peak)

    @property
    def part(self) -> slice:
        """The pictures' rows as a slice; valid only if they are consecutive."""
        return slice(self.rows[0], self.rows[-1] + 1)

    @property
    def pets(self) -> np.ndarray:
        """Pixels of the pet, ``bool (N, H, W)``."""
        return (self.labels == 1) | (self.labels == 2)

    @property
    def counted(self) -> np.ndarray:
        """Pixels that are neither border nor padding, ``bool (N, H, W)``."""
        return self.labels < PADDING

    @cached_property
    def proposal(self) -> np.ndarray:
        """The model's proposal before any prompt, as probabilities ``float32 (N, H, W)``."""
        pets = pet_chance(self.seen[1].float().cpu().numpy())
        return np.stack([np.where(unsure_parts(pet, self.peak), 1 - pet, pet) for pet in pets])


@torch.inference_mode()
def open_pictures(
    model: PointSegmenter,
    pictures: PictureSet,
    features: Features | None = None,
    *,
    first: int = 0,
    progress: bool = False,
) -> Iterator[Opened]:
    """Yield `Opened` pictures in batches; with `features`, the encoder need not run.

    If the pictures are a share of a larger set, `first` is the number of the first one: random clicks depend on it.
    """
    model.eval()
    for part, images in batches_of(pictures, model, doing="clicking", progress=progress):
        maps, images = model.encode(images, features.read(part, device=images.device) if features else None)
        labels, rows = np.array(pictures.labels[part]), range(first + part.start, first + part.stop)
        yield Opened(model.look(images, maps), labels, rows, getattr(model, "peak", 0.0))


@torch.inference_mode()
def select(
    model: PointSegmenter,
    opened: Opened,
    prompts: Sequence[Sequence[Prompt]],
    previous: np.ndarray,
    *,
    side: np.ndarray | None = None,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Return the probability that each pixel is selected after the latest prompts, ``float32 (N, H, W)``.

    Parameters
    ----------
    model, opened : PointSegmenter, Opened
        The click model, and the pictures.
    prompts : list of list
        All prompts so far on each picture; without prompts, a picture's selection stays as it is.
    previous : ndarray
        ``float32 (N, H, W)``, the selection before the latest prompt, as probabilities.
    side : ndarray, optional
        ``float32 (N,)``, see `click_head.PointSegmenter.select`.
    sigma : float
        Standard deviation of the drawn clicks in model pixels.
    """
    selected = previous.copy()
    rows = [row for row, said in enumerate(prompts) if said]
    if not rows:
        return selected
    asked, said, before = opened.some(rows), [prompts[row] for row in rows], previous[rows]
    device = asked.seen[1].device
    maps = torch.from_numpy(prompt_maps(said, before.shape[-1], before, sigma)).to(device)
    latest = torch.tensor([float(latest_effect(each)) for each in said], device=device)
    wanted = None if side is None else torch.from_numpy(side[rows]).to(device)
    answers = model.select(asked.seen, maps, latest, wanted)[:, 0].sigmoid().cpu().numpy()
    photo = asked.labels != PADDING
    for row, each, answer, mask, inside in zip(rows, said, answers, photo & (before > 0.5), photo, strict=True):
        after = np.where(within_reach(each, mask), answer, selected[row])
        unwanted = remnants(each, selected[row], mask, inside & (after > 0.5))
        selected[row] = np.where(unwanted, np.minimum(after, 1 - after), after)
        if (allowed := within_boxes(each, *mask.shape)) is not None:
            selected[row] *= allowed
    return selected


def clicked_classes(model: PointSegmenter, opened: Opened, prompts: Sequence[Sequence[Prompt]]) -> np.ndarray:
    """Return the classes ``uint8 (N, H, W)`` after the first answer to some prompts.

    All selected pixels get the same species, the likelier one over these pixels, as in the demos; the rest and the
    padding are background.
    """
    selected = select(model, opened, prompts, proposals(opened)) > 0.5
    chance = opened.seen[1][:, 1:].float().softmax(1).cpu().numpy()
    species = 1 + (chance * selected[:, None]).sum((2, 3)).argmax(1)
    return np.where(selected & (opened.labels != PADDING), species[:, None, None], 0).astype(np.uint8)


def proposals(opened: Opened, side: np.ndarray | None = None) -> np.ndarray:
    """Return `Opened.proposal`, or the proposals for the `side` that is wanted of each picture, as in `select`."""
    pets = opened.proposal
    return pets if side is None else np.where(side[:, None, None] < 0, 1 - pets, pets)


def dialogue(
    model: PointSegmenter,
    opened: Opened,
    first: Sequence[Sequence[Prompt]],
    turns: int,
    *,
    until: float = 1.01,
    sigma: float = SIGMA,
    number: int = 0,
) -> np.ndarray:
    """Play a dialogue about the pet, starting from the proposal: first prompts, then a simulated user's corrections.

    Parameters
    ----------
    model : PointSegmenter
        The click model.
    opened : Opened
        The pictures.
    first : list of list
        The first prompts on each picture; none on a picture without a pet.
    turns : int
        Number of answers.
    until : float
        A picture's dialogue ends when it has reached this IoU.
    sigma : float
        Standard deviation of the drawn clicks in model pixels.
    number : int
        Number of the dialogue on a picture: dialogues with different numbers have different clicks.

    Returns
    -------
    ndarray
        ``float (turns, N)``: IoU of the pet after each turn, border and padding left out; after a dialogue's end, its
        last IoU.  NaN for a picture without a pet, on which there are no clicks.
    """
    prompts: list[list[Prompt]] = [list(said) for said in first]
    rngs = [np.random.default_rng([200 + number, row]) for row in opened.rows]
    selected, values = proposals(opened), np.full((turns, len(prompts)), np.nan)
    playing, pets, counted = np.array([bool(said) for said in prompts]), opened.pets, opened.counted
    for turn in range(turns):
        said = [each if plays else [] for each, plays in zip(prompts, playing, strict=True)]
        selected = select(model, opened, said, selected, sigma=sigma)
        values[turn] = picture_iou(pets, selected > 0.5, counted)
        playing &= values[turn] < until
        if turn + 1 == turns or not playing.any():
            values[turn + 1 :] = values[turn]
            break
        for row in np.flatnonzero(playing):
            click = correcting_click(pets[row], selected[row] > 0.5, ~counted[row], rngs[row])
            playing[row] = click is not None
            if click:
                prompts[row].append(click)
    return values


def natural_clicks(model: PointSegmenter, opened: Opened, *, positive: bool) -> np.ndarray:
    """Return the IoU of the pet before and after one click where a person would click first, ``float (2, N)``.

    That is at the innermost pixel of the deepest part that the proposal misses or, for a negative click, of the deepest
    part that it has in excess.  NaN for a picture whose part is not deeper than `DEEP` times its longer side.
    """
    selected = proposals(opened) > 0.5
    parts = opened.pets & ~selected if positive else selected & ~opened.pets
    clicks: list[list[Prompt]] = []
    for part, pet, known in zip(parts, opened.pets, opened.counted, strict=True):
        depth, click = deepest_click(part & known, positive=positive)
        clicks.append([click] if depth > DEEP * len(part) and pet.any() else [])
    after = select(model, opened, clicks, proposals(opened)) > 0.5
    values = np.stack([picture_iou(opened.pets, mask, opened.counted) for mask in (selected, after)])
    return np.where([bool(said) for said in clicks], values, np.nan)


def picture_iou(targets: np.ndarray, masks: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the IoU in 0..1 of each picture's mask; arguments are ``bool (N, H, W)``.  NaN for an empty target."""
    overlap = (targets & masks & counted).sum((1, 2))
    union = ((targets | masks) & counted).sum((1, 2))
    return np.where((targets & counted).any((1, 2)), overlap / np.maximum(union, 1), np.nan)


def click_values(
    model: PointSegmenter, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> dict[str, np.ndarray]:
    """Play all dialogues from which the click scores are computed.

    Returns
    -------
    dict
        ``iou``: ``float (5 dialogues, 5 turns, n)``, with the first click at random on the pet.  ``centre``: ``float
        (20 turns, n)``, with the first click at its centre.  ``same_class``: ``int (n, 2, 2)``, numbers of pixels by
        what was asked for (rows: rest, target) and what was selected (columns), summed over 5 single clicks anywhere
        outside border and padding.  ``proposed``: ``float (n,)``, IoU of the pet before any click.  ``missed`` and
        ``excess``: ``float (2, n)`` from `natural_clicks`.
    """
    n = len(pictures)
    values = {
        "iou": np.full((DIALOGUES, 5, n), np.nan),
        "centre": np.full((MOST_CLICKS, n), np.nan),
        "same_class": np.zeros((n, 2, 2), np.int64),
        "proposed": np.full(n, np.nan),
        "missed": np.full((2, n), np.nan),
        "excess": np.full((2, n), np.nan),
    }
    for opened in open_pictures(model, pictures, features, progress=progress):
        at = opened.part
        values["proposed"][at] = picture_iou(opened.pets, proposals(opened) > 0.5, opened.counted)
        values["missed"][:, at] = natural_clicks(model, opened, positive=True)
        values["excess"][:, at] = natural_clicks(model, opened, positive=False)
        for number in range(DIALOGUES):
            values["iou"][number, :, at] = dialogue(model, opened, first_clicks(opened, number), 5, number=number)
            values["same_class"][at] += same_class_counts(model, opened, number)
        centres = [[centre_click(pet)] if pet.any() else [] for pet in opened.pets]
        values["centre"][:, at] = dialogue(model, opened, centres, MOST_CLICKS, until=max(TARGETS))
    return values


def add_clicks(records: list[dict], values: dict[str, np.ndarray], pictures: PictureSet, n_resamples: int) -> None:
    """Add to each record of `records.make_records` the click scores of its pictures, ``clicks``.

    Parameters
    ----------
    records : list of dict
        Records of the same pictures and model.
    values : dict
        From `click_values`.
    pictures : PictureSet
        The pictures of the split.
    n_resamples : int
        Number of bootstrap resamples of pictures.
    """
    rows = {"all": np.arange(len(pictures)), "small breeds": np.flatnonzero(small_breeds(pictures))}
    subsets = {record["subset"] for record in records}
    clicks = {subset: summarise_clicks(some_pictures(values, rows[subset]), n_resamples) for subset in subsets}
    for record in records:
        record["clicks"] = clicks[record["subset"]]


def some_pictures(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the `click_values` of some of the pictures."""
    return {name: value[rows] if name == "same_class" else value[..., rows] for name, value in values.items()}


def first_clicks(opened: Opened, number: int) -> list[list[Click]]:
    """Return a random click on each picture's pet, if any: the same one in every run and for every model."""
    return [
        [random_click(pet, np.random.default_rng([number, row]))] if pet.any() else []
        for pet, row in zip(opened.pets, opened.rows, strict=True)
    ]


def same_class_counts(model: PointSegmenter, opened: Opened, number: int) -> np.ndarray:
    """Return counts ``int (N, 2, 2)`` after one click anywhere, which asks for all pixels of the clicked one's class.

    The class is pet or background, so this tests the mode in which the background can be selected; see
    `selection.clicked_side`.
    """
    rngs = [np.random.default_rng([100 + number, row]) for row in opened.rows]
    first = [[random_click(known, rng)] if known.any() else [] for known, rng in zip(opened.counted, rngs, strict=True)]
    cells, classes = (x.float().cpu().numpy() for x in opened.seen[:2])
    side = clicked_side(cells, pet_chance(classes), prompt_maps(first, classes.shape[-1]))
    masks = select(model, opened, first, proposals(opened, side), side=side) > 0.5
    counts = np.zeros((len(masks), 2, 2), np.int64)
    for row, (said, pet, mask, known) in enumerate(zip(first, opened.pets, masks, opened.counted, strict=True)):
        if said:
            target = pet == pet[said[0].y, said[0].x]
            counts[row] = np.bincount((2 * target + mask)[known], minlength=4).reshape(2, 2)
    return counts


def summarise_clicks(values: dict[str, np.ndarray], n_resamples: int) -> dict:
    """Compute the click scores, with 95 % bootstrap intervals over pictures.

    Parameters
    ----------
    values : dict
        From `click_values`.
    n_resamples : int
        Number of bootstrap resamples of pictures.

    Returns
    -------
    dict
        ``iou@1``, ``iou@3``, ``iou@5``: mean IoU of the pet over dialogues and pictures, 0..1.  ``noc@85``, ``noc@90``:
        mean number of clicks needed to reach that IoU, 1..20.  ``same_class_click``: ``miou`` and ``dice``, means over
        target and rest of one confusion matrix.  ``proposed``: mean IoU without a click.  ``missed@1`` and
        ``excess@1``, after one natural click: mean IoU ``before`` and ``after``, share of pictures that got ``worse``
        by more than 0.02, and ``n_images``.  ``ci95``: [low, high] of each.  All are plain floats, or None where there
        is nothing to average.

    References
    ----------
    Sofiiuk et al., arXiv:2102.06583 (NoC, at most 20 clicks).
    """
    # name: (value, low, high)
    summary = {f"iou@{k}": mean_interval(values["iou"][:, k - 1].T, n_resamples) for k in (1, 3, 5)}
    for target in TARGETS:
        needed = clicks_needed(values["centre"], target)
        summary[f"noc@{round(100 * target)}"] = mean_interval(needed, n_resamples)
    summary["proposed"] = mean_interval(values["proposed"], n_resamples)
    natural = {name: natural_summary(values[name.partition("@")[0]], n_resamples) for name in NATURAL}
    whole = scores(values["same_class"].sum(0))
    resampled = scores(resampled_sums(values["same_class"], n_resamples))
    same = {key: (float(whole[key]), *map(float, percentile_interval(resampled[key]))) for key in ("miou", "dice")}
    grouped = {"same_class_click": same} | natural
    flat = summary | {f"{name}.{key}": value for name, scored in grouped.items() for key, value in scored.items()}
    return {
        **{name: plain(value) for name, (value, _, _) in summary.items()},
        **{name: {key: plain(value) for key, (value, _, _) in scored.items()} for name, scored in grouped.items()},
        "ci95": {name: [plain(low), plain(high)] for name, (_, low, high) in flat.items()},
    }


def natural_summary(values: np.ndarray, n_resamples: int) -> dict[str, tuple[float, float, float]]:
    """Return ``before``, ``after``, ``worse`` and ``n_images`` of `natural_clicks`, each with a 95 % interval."""
    before, after = values
    worse = np.where(np.isnan(before), np.nan, after < before - WORSE)
    n_images = float((~np.isnan(before)).sum())
    summary = {"before": before, "after": after, "worse": worse}
    return {
        **{name: mean_interval(each, n_resamples) for name, each in summary.items()},
        "n_images": (n_images, n_images, n_images),
    }


def clicks_needed(iou: np.ndarray, target: float) -> np.ndarray:
    """Return the first turn, 1 to 20, in which ``iou (20, n)`` reaches a target; 20 if none does, NaN without a pet."""
    reached = iou >= target
    needed = np.where(reached.any(0), reached.argmax(0) + 1, MOST_CLICKS).astype(float)
    return np.where(np.isnan(iou[0]), np.nan, needed)


def clicked_scores(model: PointSegmenter, pictures: PictureSet, features: Features | None = None) -> dict[str, float]:
    """Return the scores of the classes and those after clicks, for the end of each epoch of training.

    ``clicked``, by which the best epoch is chosen, is the mean of ``iou@1``, ``iou@3``, ``iou@5`` and ``same_class``,
    the mIoU after one click anywhere.  With several processes, each passes its own pictures, and the scores are those
    of all pictures.
    """
    after, same = [], np.zeros((2, 2), np.int64)
    first = share(whole_length(len(pictures))).start
    for opened in open_pictures(model, pictures, features, first=first):
        after.append(dialogue(model, opened, first_clicks(opened, 0), 5))
        same += sum(same_class_counts(model, opened, number).sum(0) for number in range(2))
    values = np.concatenate(after, 1)
    iou = total_of(np.nansum(values, 1)) / total_of((~np.isnan(values)).sum(1))
    after_clicks = {f"iou@{k}": float(iou[k - 1]) for k in (1, 3, 5)} | {
        "same_class": float(scores(total_of(same))["miou"])
    }
    mean = float(np.mean(list(after_clicks.values())))
    return validation_scores(model, pictures, features) | after_clicks | {"clicked": mean}
