"""Training of the click model: a simulated user looks at a selection and corrects it, several times."""

import math
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from petseg_utils.data.labels import PADDING
from petseg_utils.data.parallel import share, summed, whole
from petseg_utils.data.tensors import IGNORED, class_targets
from petseg_utils.models.click_head import as_logit, pet_logit
from petseg_utils.models.prompts import (
    Prompt,
    Reach,
    correcting_click,
    deepest_click,
    latest_effect,
    loose_box,
    prompt_maps,
    random_click,
    random_scribble,
    within_boxes,
    within_reach,
)
from petseg_utils.models.selection import LARGEST

ROUNDS = 4  # most prompts in a dialogue
BACKGROUND = 0.15  # share of the pictures in which the background is wanted
SMALLEST = 20  # a pet of fewer pixels is never wanted
ON_TARGET = 0.25  # share of the first prompts that are a click anywhere on what is wanted, whether missed or not
ONE_KIND = 0.3  # share of the corrections whose kind, missed or excess, is drawn at random, whichever is deeper
STROKE, FRAME = 0.08, 0.06  # share of the corrections that are a scribble, and of the first prompts that are a box
LEARNED_REACH = Reach(adds=math.inf, takes=2.5)  # wider than in use: the head also learns what to leave alone
SPOILS = 3  # fewer than this many parts of a proposal are made wrong
ON_EDGE = 0.75  # share of these parts that are centred on what is wanted
RIMS, RIM_WIDTHS = 0.5, (4, 12)  # share of the proposals for pets whose outline is moved; by how many pixels
CUT = 0.3  # share of the proposals for pets that miss one side of what is wanted
ALL_MISSED = 0.2  # share of these that miss all of it
SOME_PETS = 0.5  # share of the pictures with several separate pets in which only some of them are wanted
PART = 0.01  # smallest share of a picture that a pet must take to be wanted by itself


def prompted_loss(model: Any, batch: dict[str, Tensor], dice: float = 1.0) -> Tensor:
    """Return the loss of the selections in a dialogue with a simulated user, averaged over its rounds; a scalar.

    In each picture the pet is wanted, or sometimes the background.  The proposal is made wrong in some places, because
    on pictures whose masks the decoder has learned it is hardly ever wrong.  Then the user gives a prompt and the model
    answers, for up to four rounds; the model learns from each answer, and the next round starts from it.

    The pictures of a batch share one stream of random numbers.  So with several processes, each plays the user for the
    whole batch, but runs the model on its own share only.

    Parameters
    ----------
    model : nn.Module
        A `models.click_head.PointSegmenter`.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)``, ``label`` ``uint8 (N, H, W)`` and optionally the encoder's ``maps``.

    References
    ----------
    Sofiiuk et al.: "Reviving Iterative Training with Mask Guidance", ICIP 2022, arXiv:2102.06583.
    """
    images = batch["image"].float()
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    cells, classes, *context = model.look(images, batch.get("maps"))
    labels = whole(batch["label"]).cpu().numpy()
    own = share(len(labels))
    counted, wanted = labels < PADDING, (labels == 1) | (labels == 2)
    side = torch.ones(len(labels), device=cells.device)
    for row, (known, pet) in enumerate(zip(counted, wanted, strict=True)):
        if pet.sum() < SMALLEST or rng.random() < BACKGROUND:
            wanted[row], side[row] = known & ~pet, -1
        elif rng.random() < SOME_PETS:
            wanted[row] = some_parts(pet, rng)
    proposal = spoiled(pet_logit(whole(classes.float())) * side.view(-1, 1, 1, 1), wanted, rng)
    for logits, target, for_pet in zip(proposal[:, 0], wanted, side > 0, strict=True):
        if for_pet and rng.random() < RIMS:
            logits.copy_(rim_wrong(logits, target, rng))
        if for_pet and rng.random() < CUT:
            logits.copy_(side_missed(logits, target, rng))
    # The head takes class logits; with the third class all but impossible, its `pet_logit` is the proposal.
    pet = proposal[own]
    seen = cells, torch.cat([torch.zeros_like(pet), pet, torch.full_like(pet, -30.0)], 1), *context
    ignored = class_targets(batch["label"]) == IGNORED
    targets = torch.from_numpy(wanted[own]).to(cells.device).long().masked_fill(ignored, IGNORED)
    selected = proposal[:, 0].sigmoid().cpu().numpy()
    prompts: list[list[Prompt]] = [[] for _ in labels]
    loss = cells.new_zeros(())
    rounds = int(rng.integers(1, ROUNDS + 1))
    for _ in range(rounds):
        states = zip(prompts, wanted, selected > 0.5, counted, strict=True)
        spoke = [speak(said, target, mask, known, rng) for said, target, mask, known in states]
        said_here, before = prompts[own], selected[own]
        effects = [float(latest_effect(said)) if said else 0.0 for said in said_here]
        latest = torch.tensor(effects, device=cells.device)
        maps = torch.from_numpy(prompt_maps(said_here, proposal.shape[-1], before)).to(proposal.device)
        logits = model(images, seen=seen, prompts=maps, latest=latest)[:, 0]
        shown = (before > 0.5) & (labels[own] != PADDING)
        reached = [within_reach(said, mask, LEARNED_REACH) for said, mask in zip(said_here, shown, strict=True)]
        near = np.array(reached, bool).reshape(shown.shape)  # of no pictures too
        logits = torch.where(torch.from_numpy(near).to(logits.device), logits, as_logit(maps[:, 3]))
        if any(spoke):
            rows = torch.tensor(spoke[own], dtype=torch.bool, device=cells.device)
            loss = loss + selection_loss(logits[rows], targets[rows], dice)
        answer = whole(logits.sigmoid()).cpu().numpy()
        for row, said in enumerate(prompts):
            if spoke[row]:
                allowed = within_boxes(said, *answer.shape[1:])
                selected[row] = answer[row] if allowed is None else answer[row] * allowed
    # If no prompt was given, there is nothing to learn, but the loss has to have a gradient.
    return loss / rounds if loss.requires_grad else model.head.last.weight.sum() * 0


def speak(
    said: list[Prompt], wanted: np.ndarray, selected: np.ndarray, counted: np.ndarray, rng: np.random.Generator
) -> bool:
    """Append the user's next prompt to a picture's prompts; return false if there is nothing to correct.

    Parameters
    ----------
    wanted, selected, counted : ndarray of bool, shape (H, W)
        What is wanted, what is selected, and which pixels are judged.
    """
    kind = rng.random()
    if not said and wanted.sum() >= SMALLEST:
        if kind < FRAME:
            said.append(loose_box(wanted, rng))
            return True
        if kind < FRAME + ON_TARGET:
            said.append(random_click(wanted, rng))
            return True
    click = correcting_click(wanted, selected, ~counted, rng)
    if click and rng.random() < ONE_KIND:
        positive = bool(rng.integers(2))
        wrong = (wanted & ~selected if positive else selected & ~wanted) & counted
        depth, other = deepest_click(wrong, rng, positive=positive)
        click = other if depth > 0 else click
    if click is None:
        return False
    wrong = (wanted & ~selected if click.positive else selected & ~wanted) & counted
    said.append(random_scribble(wrong, rng, click.positive) if rng.random() < STROKE else click)
    return True


def some_parts(pets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one or some of the large connected parts of a mask ``bool (H, W)``; all of it if it has fewer than two.

    In a picture of several pets the user may want one of them; selecting the others is then as wrong as background.
    """
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(pets.astype(np.uint8))
    large = [number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= PART * pets.size]
    if len(large) < 2:
        return pets
    chosen = rng.choice(large, size=int(rng.integers(1, len(large))), replace=False)
    return np.isin(numbers, chosen)


def spoiled(proposal: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return proposals, logits ``(N, 1, H, W)``, overwritten within some ellipses by a random value.

    Most ellipses are centred in the wanted region ``bool (N, H, W)``, have its scale, and hide a part of it.
    """
    proposal = proposal.clone()
    height, width = wanted.shape[1:]
    rows, columns = np.ogrid[:height, :width]
    for logits, target in zip(proposal[:, 0], wanted, strict=True):
        places = np.flatnonzero(target)
        for _ in range(rng.integers(SPOILS)):
            on_target = len(places) and rng.random() < ON_EDGE
            y, x = divmod(int(rng.choice(places)), width) if on_target else (rng.integers(height), rng.integers(width))
            radius = rng.uniform(0.1, 0.6) * np.sqrt(max(100, len(places)))
            along, across = radius * rng.uniform(0.5, 1.6, 2)
            angle = rng.uniform(0, np.pi)
            down, right = rows - y, columns - x
            turned = down * np.cos(angle) + right * np.sin(angle), right * np.cos(angle) - down * np.sin(angle)
            inside = torch.from_numpy((turned[0] / along) ** 2 + (turned[1] / across) ** 2 < 1).to(logits.device)
            logits[inside] = float((-1 if rng.random() < 0.65 else 1) * rng.uniform(0.5, 5))
    return proposal.clamp(-LARGEST, LARGEST)


def beyond_a_line(wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one side of a random line through what is wanted, ``bool (H, W)``."""
    height, width = wanted.shape
    rows, columns = np.ogrid[:height, :width]
    y, x = divmod(int(rng.choice(np.flatnonzero(wanted))), width)
    angle = rng.uniform(0, 2 * np.pi)
    return (rows - y) * np.cos(angle) + (columns - x) * np.sin(angle) > 0


def rim_wrong(logits: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return logits ``(H, W)`` whose outline lies, on one side of a line, some pixels too far out or in.

    A click there asks for a small change: for what lies within the rim, and not for the whole animal beside it.
    """
    width = int(rng.integers(*RIM_WIDTHS))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    mask, too_far = wanted.astype(np.uint8), rng.random() < 0.6
    moved = (cv2.dilate if too_far else cv2.erode)(mask, kernel) > 0
    rim = (moved != wanted) & beyond_a_line(wanted, rng)
    value = float((1 if too_far else -1) * rng.uniform(0.5, 7))
    return logits.masked_fill(torch.from_numpy(rim).to(logits.device), value)


def side_missed(logits: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return logits ``(H, W)`` that miss, more or less confidently, what is wanted beyond a line, or all of it."""
    hidden = wanted & (beyond_a_line(wanted, rng) | (rng.random() < ALL_MISSED))
    return logits.masked_fill(torch.from_numpy(hidden).to(logits.device), -float(rng.uniform(0.5, 7)))


def selection_loss(logits: Tensor, asked: Tensor, dice: float) -> Tensor:
    """Return the cross-entropy plus `dice` times one minus the mean of the pictures' soft Dice; a scalar.

    Parameters
    ----------
    logits : Tensor
        ``(N, H, W)``, logits of being what was asked for.
    asked : Tensor
        ``int64 (N, H, W)``: 1 where it is, 0 where it is not, -100 where pixels are ignored.
    """
    counted = asked != IGNORED
    truth = (asked == 1).float()
    kind = "mean" if counted.any() else "sum"  # no pixels, as in a share of no pictures, have no mean
    entropy = F.binary_cross_entropy_with_logits(logits[counted], truth[counted], reduction=kind)
    chance = logits.sigmoid() * counted
    overlap = (2 * (chance * truth).sum((1, 2)) + 1) / (chance.sum((1, 2)) + truth.sum((1, 2)) + 1)
    pixels, pictures = counted.sum(), overlap.new_tensor(len(overlap))
    entropy = summed(entropy * (pixels / summed(pixels)))
    return entropy + dice * (1 - summed(overlap.sum()) / summed(pictures))
