"""How good is a mask after so many clicks?  Dialogues with the simulated user, and what is reported of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from petseg_utils.evaluation import small_breeds, validation_scores
from petseg_utils.features import Features
from petseg_utils.metrics import PADDING, scores
from petseg_utils.pictures import PictureSet
from petseg_utils.prompts import SIGMA, Prompt, centre_click, correcting_click, prompt_maps, random_click

BATCH = 16
MOST_CLICKS = 20  # a user who has not got there by then gives up, and 20 is counted
DIALOGUES = 5  # with a random first click, for each picture
TARGETS = (0.85, 0.90)  # IoU that NoC@85 and NoC@90 want


@dataclass(frozen=True)
class Opened:
    """Some pictures that the model has looked at: what is left to do for an answer depends on the prompts.

    Parameters
    ----------
    images : Tensor
        ``float (N, 3, H, W)``, pixel values 0..255.
    seen : tuple of Tensor
        From the model's `point_decoder.PointSegmenter.look`.
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
def open_pictures(model: nn.Module, pictures: PictureSet, features: Features | None = None, *, progress: bool = False):
    """Yield `Opened` pictures in batches; `features` saves the encoder's pass."""
    device = next(model.parameters()).device
    model.eval()
    for start in tqdm(range(0, len(pictures), BATCH), desc="clicking", disable=not progress):
        rows = range(start, min(start + BATCH, len(pictures)))
        part = slice(rows.start, rows.stop)
        images = torch.from_numpy(np.array(pictures.images[part])).permute(0, 3, 1, 2).to(device).float()
        maps = [one.to(device) for one in features.read(part)] if features else model.encoder(images)
        yield Opened(images, model.look(images, maps), np.array(pictures.labels[part]), rows)


@torch.inference_mode()
def answers(
    model: nn.Module, opened: Opened, prompts: list[list[Prompt]], previous: np.ndarray | None, sigma: float = SIGMA
) -> np.ndarray:
    """Probabilities ``float32 (N, H, W)`` of being what the prompts ask for, after the mask `previous`."""
    maps = prompt_maps(prompts, opened.images, previous, sigma)
    return model.head(*opened.seen, maps)[:, 0].float().sigmoid().cpu().numpy()


def clicked_classes(model: nn.Module, opened: Opened, prompts: list[list[Prompt]]) -> np.ndarray:
    """Classes ``uint8 (N, H, W)`` after the first answer to some prompts.

    What is selected gets one species, the likelier of the two over the selected pixels, as in the demos; the rest, and
    padding, is background.
    """
    selected = answers(model, opened, prompts, proposals(model, opened)) > 0.5
    chance = opened.seen[1][:, 1:].float().softmax(1).cpu().numpy()
    species = 1 + (chance * selected[:, None]).sum((2, 3)).argmax(1)
    return np.where(selected & (opened.labels != PADDING), species[:, None, None], 0).astype(np.uint8)


def proposals(model: nn.Module, opened: Opened) -> np.ndarray:
    """What the model proposes where nobody has said anything, as probabilities ``float32 (N, H, W)``."""
    return answers(model, opened, [[] for _ in opened.labels], None)


def dialogue(
    model: nn.Module,
    opened: Opened,
    first: list[list[Prompt]],
    proposed: np.ndarray,
    turns: int,
    *,
    until: float = 1.01,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Play first prompts and then the simulated user's corrections, with the pet as what is wanted.

    Parameters
    ----------
    model : nn.Module
        A `point_decoder.PointSegmenter`.
    opened : Opened
        The pictures.
    first : list of list
        What is said first of each picture; for a picture without a pet, nothing.
    proposed : ndarray
        From `proposals`.
    turns : int
        How many answers.
    until : float
        Stop once every picture has reached this IoU.
    sigma : float
        Width of the clicks as they are drawn.

    Returns
    -------
    ndarray
        ``float (turns, N)``: IoU of the pet after each turn, border and padding left out; after a stop, the last value.
        NaN for a picture without a pet, on which nobody clicks.
    """
    prompts, answer = [list(said) for said in first], proposed
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
    model: nn.Module, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> dict[str, np.ndarray]:
    """Play every dialogue that the click scores are made of.

    Returns
    -------
    dict
        ``iou`` ``float (5 dialogues, 5 turns, n)``, first click at random on the pet; ``centre`` ``float (20 turns,
        n)``, first click at its centre; ``same_class`` ``int (n, 2, 2)``, pixels by what was asked for (rows: rest,
        target) and answered, summed over 5 single clicks anywhere outside border and padding; ``proposed`` ``float
        (n,)``, IoU of the pet where nobody has said anything.
    """
    n = len(pictures)
    found = {
        "iou": np.full((DIALOGUES, 5, n), np.nan),
        "centre": np.full((MOST_CLICKS, n), np.nan),
        "same_class": np.zeros((n, 2, 2), np.int64),
        "proposed": np.full(n, np.nan),
    }
    for opened in open_pictures(model, pictures, features, progress=progress):
        at = slice(opened.rows.start, opened.rows.stop)
        proposed = proposals(model, opened)
        found["proposed"][at] = picture_iou(opened.pets, proposed > 0.5, opened.counted)
        for number in range(DIALOGUES):
            first = first_clicks(opened, number)
            found["iou"][number, :, at] = dialogue(model, opened, first, proposed, 5)
        centres = [[centre_click(pet)] if pet.any() else [] for pet in opened.pets]
        found["centre"][:, at] = dialogue(model, opened, centres, proposed, MOST_CLICKS, until=max(TARGETS))
        for number in range(DIALOGUES):
            found["same_class"][at] += same_class_counts(model, opened, proposed, number)
    return found


def add_clicks(records: list[dict], values: dict[str, np.ndarray], pictures: PictureSet, n_resamples: int) -> None:
    """Add ``clicks``, from `summarise_clicks`, to records of `evaluation.make_records`, each for its pictures.

    Parameters
    ----------
    records : list of dict
        Of these pictures and the model that the values are of.
    values : dict
        From `click_values`.
    pictures : PictureSet
        The split.
    n_resamples : int
        Bootstrap resamples of pictures.
    """
    rows = {"all": np.arange(len(pictures)), "small breeds": np.flatnonzero(small_breeds(pictures))}
    subsets = {record["subset"] for record in records}
    found = {subset: summarise_clicks(some_pictures(values, rows[subset]), n_resamples) for subset in subsets}
    for record in records:
        record["clicks"] = found[record["subset"]]


def some_pictures(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """`click_values` of some of the pictures."""
    return {name: value[rows] if name == "same_class" else value[..., rows] for name, value in values.items()}


def first_clicks(opened: Opened, number: int) -> list[list[Prompt]]:
    """A click at random on each picture's pet: the same in every run, for every model; none where there is no pet."""
    return [
        [random_click(pet, np.random.default_rng([number, row]))] if pet.any() else []
        for pet, row in zip(opened.pets, opened.rows, strict=True)
    ]


def same_class_counts(model: nn.Module, opened: Opened, proposed: np.ndarray, number: int) -> np.ndarray:
    """One click anywhere; wanted is what shares the clicked pixel's class: counts ``int (N, 2, 2)``."""
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
        Number of resamples of pictures; what fixes them.

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
    rng, n = np.random.default_rng(seed), len(values["proposed"])
    whole = _click_scores(values, np.arange(n))
    resampled = [_click_scores(values, rng.integers(n, size=n)) for _ in range(n_resamples)]
    intervals = {
        name: [float(edge) for edge in np.nanquantile([one[name] for one in resampled], [0.025, 0.975])]
        for name in whole
    }
    same = {key: whole.pop(f"same_class_click.{key}") for key in ("miou", "dice")}
    return whole | {"same_class_click": same, "ci95": intervals}


def _click_scores(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
    found = {f"iou@{k}": values["iou"][:, k - 1, rows] for k in (1, 3, 5)}
    found |= {f"noc@{round(100 * target)}": clicks_needed(values["centre"][:, rows], target) for target in TARGETS}
    found["proposed"] = values["proposed"][rows]
    same = scores(values["same_class"][rows].sum(0))
    of_same = {f"same_class_click.{key}": float(same[key]) for key in ("miou", "dice")}
    return {name: float(np.nanmean(value)) for name, value in found.items()} | of_same


def clicks_needed(iou: np.ndarray, target: float) -> np.ndarray:
    """First turn of ``(20, n)`` whose IoU reaches a target, counted from 1; 20 where none does, NaN without a pet."""
    reached = iou >= target
    needed = np.where(reached.any(0), reached.argmax(0) + 1, MOST_CLICKS).astype(float)
    return np.where(np.isnan(iou[0]), np.nan, needed)


def clicked_scores(model: nn.Module, pictures: PictureSet, features: Features | None = None) -> dict[str, float]:
    """Scores of the classes and after clicks, as `training.fit` wants them after each epoch.

    ``clicked``, by which the best epoch is chosen, is the mean of ``iou@1``, ``iou@3`` and ``same_class``, mIoU after
    one click anywhere.  A model that took every click for one on the pet would do well in the first two alone.
    """
    after, same = [], np.zeros((2, 2), np.int64)
    for opened in open_pictures(model, pictures, features):
        proposed = proposals(model, opened)
        after.append(dialogue(model, opened, first_clicks(opened, 0), proposed, 3))
        same += sum(same_class_counts(model, opened, proposed, number).sum(0) for number in range(2))
    iou = np.nanmean(np.concatenate(after, 1), 1)
    found = {"iou@1": float(iou[0]), "iou@3": float(iou[2]), "same_class": float(scores(same)["miou"])}
    return validation_scores(model, pictures, features) | found | {"clicked": float(np.mean(list(found.values())))}
