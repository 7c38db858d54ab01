"""How good is a mask after so many clicks?  Dialogues with a simulated user, and the scores made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.prompts import SIGMA, Click, Prompt, centre_click, correcting_click, prompt_maps, random_click
from petseg_utils.scores.intervals import mean_interval, percentile_interval, resampled_sums
from petseg_utils.scores.metrics import scores
from petseg_utils.scores.predictions import small_breeds, validation_scores

MOST_CLICKS = 20  # a user who has not got there by then gives up, and 20 is counted
DIALOGUES = 5  # with a random first click, for each picture
TARGETS = (0.85, 0.90)  # the IoU that NoC@85 and NoC@90 ask for


@dataclass(frozen=True)
class Opened:
    """Some pictures that the model has looked at: only the work that depends on the prompts is left to do.

    Parameters
    ----------
    images : Tensor
        ``float (N, 3, H, W)``, pixel values 0..255.
    seen : tuple of Tensor
        From the model's `click_head.PointSegmenter.look`.
    labels : ndarray
        ``uint8 (N, H, W)``.
    rows : range
        Which rows of the picture set they are.
    """

    images: Tensor
    seen: tuple[Tensor, Tensor]
    labels: np.ndarray
    rows: range

    @property
    def pets(self) -> np.ndarray:
        """Pixels of the pet, ``bool (N, H, W)``."""
        return (self.labels == 1) | (self.labels == 2)

    @property
    def counted(self) -> np.ndarray:
        """Pixels that are neither border nor padding, ``bool (N, H, W)``."""
        return self.labels < PADDING


@torch.inference_mode()
def open_pictures(
    model: PointSegmenter, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> Iterator[Opened]:
    """Yield `Opened` pictures in batches; `features` saves the encoder's pass."""
    device = next(model.parameters()).device
    model.eval()
    for part, images in batches_of(pictures, device, doing="clicking", progress=progress):
        maps = features.read(part, device=device) if features else model.encoder(images)
        labels = np.array(pictures.labels[part])
        yield Opened(images, model.look(images, maps), labels, range(part.start, part.stop))


@torch.inference_mode()
def answers(
    model: PointSegmenter,
    opened: Opened,
    prompts: Sequence[Sequence[Prompt]],
    previous: np.ndarray | None,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Probability of each pixel to be what the prompts ask for, ``float32 (N, H, W)``, given the mask `previous`."""
    maps = prompt_maps(prompts, opened.images, previous, sigma)
    return model.head(*opened.seen, maps)[:, 0].float().sigmoid().cpu().numpy()


def clicked_classes(model: PointSegmenter, opened: Opened, prompts: Sequence[Sequence[Prompt]]) -> np.ndarray:
    """Classes ``uint8 (N, H, W)`` after the first answer to some prompts.

    What is selected gets one species, the likelier of the two over the selected pixels, as in the demos; the rest, and
    padding, is background.
    """
    selected = answers(model, opened, prompts, proposals(model, opened)) > 0.5
    chance = opened.seen[1][:, 1:].float().softmax(1).cpu().numpy()
    species = 1 + (chance * selected[:, None]).sum((2, 3)).argmax(1)
    return np.where(selected & (opened.labels != PADDING), species[:, None, None], 0).astype(np.uint8)


def proposals(model: PointSegmenter, opened: Opened) -> np.ndarray:
    """What the model proposes before any prompt, as probabilities ``float32 (N, H, W)``."""
    return answers(model, opened, [[] for _ in opened.labels], None)


def dialogue(
    model: PointSegmenter,
    opened: Opened,
    first: Sequence[Sequence[Prompt]],
    proposed: np.ndarray,
    turns: int,
    *,
    until: float = 1.01,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Play a dialogue about the pet: the first prompts, then the simulated user's corrections.

    Parameters
    ----------
    model : PointSegmenter
        The click model.
    opened : Opened
        The pictures.
    first : list of list
        The first prompts on each picture; none on a picture without a pet.
    proposed : ndarray
        From `proposals`.
    turns : int
        How many answers.
    until : float
        Stop once every picture has reached this IoU.
    sigma : float
        Standard deviation of the drawn clicks in model pixels.

    Returns
    -------
    ndarray
        ``float (turns, N)``: IoU of the pet after each turn, border and padding left out; after a stop, the last value.
        NaN for a picture without a pet, on which nobody clicks.
    """
    prompts: list[list[Prompt]] = [list(said) for said in first]
    answer = proposed
    values = np.full((turns, len(prompts)), np.nan)
    for turn in range(turns):
        answer = answers(model, opened, prompts, answer, sigma)
        values[turn] = picture_iou(opened.pets, answer > 0.5, opened.counted)
        if turn + 1 == turns or np.nanmin(values[turn], initial=2) >= until:
            values[turn + 1 :] = values[turn]
            break
        for said, pet, mask, counted in zip(prompts, opened.pets, answer > 0.5, opened.counted, strict=True):
            if said and (click := correcting_click(pet, mask, ~counted)):
                said.append(click)
    return values


def picture_iou(targets: np.ndarray, masks: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """IoU of each picture's mask, ``bool (N, H, W)`` each, within 0..1; NaN where there is nothing to find."""
    overlap = (targets & masks & counted).sum((1, 2))
    union = ((targets | masks) & counted).sum((1, 2))
    return np.where((targets & counted).any((1, 2)), overlap / np.maximum(union, 1), np.nan)


def click_values(
    model: PointSegmenter, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> dict[str, np.ndarray]:
    """Play every dialogue that the click scores are made of.

    Returns
    -------
    dict
        ``iou`` ``float (5 dialogues, 5 turns, n)``, first click at random on the pet; ``centre`` ``float (20 turns,
        n)``, first click at its centre; ``same_class`` ``int (n, 2, 2)``, pixels by what was asked for (rows: rest,
        target) and answered, summed over 5 single clicks anywhere outside border and padding; ``proposed`` ``float
        (n,)``, IoU of the pet before any click.
    """
    n = len(pictures)
    values = {
        "iou": np.full((DIALOGUES, 5, n), np.nan),
        "centre": np.full((MOST_CLICKS, n), np.nan),
        "same_class": np.zeros((n, 2, 2), np.int64),
        "proposed": np.full(n, np.nan),
    }
    for opened in open_pictures(model, pictures, features, progress=progress):
        at = slice(opened.rows.start, opened.rows.stop)
        proposed = proposals(model, opened)
        values["proposed"][at] = picture_iou(opened.pets, proposed > 0.5, opened.counted)
        for number in range(DIALOGUES):
            first = first_clicks(opened, number)
            values["iou"][number, :, at] = dialogue(model, opened, first, proposed, 5)
        centres = [[centre_click(pet)] if pet.any() else [] for pet in opened.pets]
        values["centre"][:, at] = dialogue(model, opened, centres, proposed, MOST_CLICKS, until=max(TARGETS))
        for number in range(DIALOGUES):
            values["same_class"][at] += same_class_counts(model, opened, proposed, number)
    return values


def add_clicks(records: list[dict], values: dict[str, np.ndarray], pictures: PictureSet, n_resamples: int) -> None:
    """Add the click scores of its pictures, ``clicks``, to each record of `records.make_records`.

    Parameters
    ----------
    records : list of dict
        Of the same pictures and model.
    values : dict
        From `click_values`.
    pictures : PictureSet
        The split.
    n_resamples : int
        Bootstrap resamples of pictures.
    """
    rows = {"all": np.arange(len(pictures)), "small breeds": np.flatnonzero(small_breeds(pictures))}
    subsets = {record["subset"] for record in records}
    clicks = {subset: summarise_clicks(some_pictures(values, rows[subset]), n_resamples) for subset in subsets}
    for record in records:
        record["clicks"] = clicks[record["subset"]]


def some_pictures(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """`click_values` of some of the pictures."""
    return {name: value[rows] if name == "same_class" else value[..., rows] for name, value in values.items()}


def first_clicks(opened: Opened, number: int) -> list[list[Click]]:
    """A click at random on each picture's pet: the same in every run, for every model; none where there is no pet."""
    return [
        [random_click(pet, np.random.default_rng([number, row]))] if pet.any() else []
        for pet, row in zip(opened.pets, opened.rows, strict=True)
    ]


def same_class_counts(model: PointSegmenter, opened: Opened, proposed: np.ndarray, number: int) -> np.ndarray:
    """Counts ``int (N, 2, 2)`` after one click anywhere, which asks for all pixels of the clicked pixel's class."""
    rngs = [np.random.default_rng([100 + number, row]) for row in opened.rows]
    first = [[random_click(known, rng)] if known.any() else [] for known, rng in zip(opened.counted, rngs, strict=True)]
    masks = answers(model, opened, first, proposed) > 0.5
    counts = np.zeros((len(masks), 2, 2), np.int64)
    for row, (said, pet, mask, known) in enumerate(zip(first, opened.pets, masks, opened.counted, strict=True)):
        if said:
            target = pet == pet[said[0].y, said[0].x]
            counts[row] = np.bincount((2 * target + mask)[known], minlength=4).reshape(2, 2)
    return counts


def summarise_clicks(values: dict[str, np.ndarray], n_resamples: int, seed: int = 0) -> dict:
    """The click scores, with 95 % bootstrap intervals over pictures.

    Parameters
    ----------
    values : dict
        From `click_values`.
    n_resamples, seed : int
        Number of bootstrap resamples of pictures; their random seed.

    Returns
    -------
    dict
        ``iou@1``, ``iou@3``, ``iou@5``: mean IoU of the pet over dialogues and pictures, 0..1.  ``noc@85``, ``noc@90``:
        mean number of clicks to that IoU, 1..20.  ``same_class_click``: ``miou`` and ``dice``, means over target and
        rest of one confusion matrix.  ``proposed``: mean IoU without a click.  ``ci95``: [low, high] of each.

    References
    ----------
    Sofiiuk et al., arXiv:2102.06583 (NoC, at most 20 clicks).
    """
    # name: (value, low, high)
    summary = {f"iou@{k}": mean_interval(values["iou"][:, k - 1].T, n_resamples, seed) for k in (1, 3, 5)}
    for target in TARGETS:
        needed = clicks_needed(values["centre"], target)
        summary[f"noc@{round(100 * target)}"] = mean_interval(needed, n_resamples, seed)
    summary["proposed"] = mean_interval(values["proposed"], n_resamples, seed)
    whole = scores(values["same_class"].sum(0))
    resampled = scores(resampled_sums(values["same_class"], n_resamples, seed))
    same = {key: (float(whole[key]), *map(float, percentile_interval(resampled[key]))) for key in ("miou", "dice")}
    return {
        **{name: value for name, (value, _, _) in summary.items()},
        "same_class_click": {key: value for key, (value, _, _) in same.items()},
        "ci95": {name: [low, high] for name, (_, low, high) in summary.items()}
        | {f"same_class_click.{key}": [low, high] for key, (_, low, high) in same.items()},
    }


def clicks_needed(iou: np.ndarray, target: float) -> np.ndarray:
    """First turn of ``(20, n)`` whose IoU reaches a target, counted from 1; 20 where none does, NaN without a pet."""
    reached = iou >= target
    needed = np.where(reached.any(0), reached.argmax(0) + 1, MOST_CLICKS).astype(float)
    return np.where(np.isnan(iou[0]), np.nan, needed)


def clicked_scores(model: PointSegmenter, pictures: PictureSet, features: Features | None = None) -> dict[str, float]:
    """Scores of the classes and after clicks, for the end of each epoch of training.

    ``clicked``, by which the best epoch is chosen, is the mean of ``iou@1``, ``iou@3`` and ``same_class``, mIoU after
    one click anywhere.  By the first two alone, a model that takes every click for one on the pet would do well.
    """
    after, same = [], np.zeros((2, 2), np.int64)
    for opened in open_pictures(model, pictures, features):
        proposed = proposals(model, opened)
        after.append(dialogue(model, opened, first_clicks(opened, 0), proposed, 3))
        same += sum(same_class_counts(model, opened, proposed, number).sum(0) for number in range(2))
    iou = np.nanmean(np.concatenate(after, 1), 1)
    after_clicks = {"iou@1": float(iou[0]), "iou@3": float(iou[2]), "same_class": float(scores(same)["miou"])}
    mean = float(np.mean(list(after_clicks.values())))
    return validation_scores(model, pictures, features) | after_clicks | {"clicked": mean}
