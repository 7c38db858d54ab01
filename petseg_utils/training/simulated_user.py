"""How the click model learns: a simulated user looks at a selection and corrects it, several times."""

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

ROUNDS = 4  # prompts of a dialogue at most
BACKGROUND = 0.15  # share of the pictures of which the background is wanted
SMALLEST = 20  # regions of fewer pixels are not asked for
ON_TARGET = 0.25  # share of the first clicks that fall anywhere on what is wanted, wrong there or not
ONE_KIND = 0.3  # share of the corrections of one kind, missed or excess, whichever is deeper
STROKE, FRAME = 0.08, 0.06  # share of the corrections that are a scribble, and of the first prompts that are a box
LEARNED_REACH = Reach(adds=math.inf, takes=2.5)  # wider than in use: the head learns what to leave alone, too
SPOILS = 3  # parts of a proposal that are made wrong, less than this
ON_EDGE = 0.75  # share of them that lie on the pet
RIMS, RIM_WIDTHS = 0.5, (4, 12)  # share of the proposals for pets whose outline is moved; by how many pixels
CUT = 0.3  # share of the proposals for pets that miss one side of what is wanted
ALL_MISSED = 0.2  # share of these that miss all of it
SOME_PETS = 0.5  # where a picture shows several pets apart from each other: share of which only some are wanted
PART = 0.01  # share of a picture that a pet takes at least to be asked for by itself


def prompted_loss(model: Any, batch: dict[str, Tensor], dice: float = 1.0) -> Tensor:
    """Loss of the selections in a dialogue with a simulated user, summed over its rounds; a scalar.

    Of each picture the pet is wanted, or sometimes the background.  The proposal is spoiled here and there, for of
    pictures whose masks the decoder has learned it is hardly ever wrong.  Then the user says something, the model
    answers, and so on for up to four rounds; each answer is learned from, and the next round starts from it.

    The pictures of a batch share one stream of random numbers.  So of several processes each plays the user for the
    whole batch, and lets the model answer for its own share.

    Parameters
    ----------
    model : nn.Module
        A `models.click_head.PointSegmenter`.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)``, ``label`` ``uint8 (N, H, W)`` and perhaps the encoder's ``maps``.

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
    # The head takes class logits: two classes of which one is nothing are as good as three.
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
    # Where nobody had anything to say there is nothing to learn, but the loss has to have a gradient.
    return loss / rounds if loss.requires_grad else model.head.last.weight.sum() * 0


def speak(
    said: list[Prompt], wanted: np.ndarray, selected: np.ndarray, counted: np.ndarray, rng: np.random.Generator
) -> bool:
    """Add what the user says next to a picture's prompts; false where there is nothing to say.

    Parameters
    ----------
    wanted, selected, counted : ndarray of bool, shape (H, W)
        What is wanted, what is selected, and where that is judged.
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
    """One or some of the connected parts of a mask ``bool (H, W)``; all of it where it has but one that is large.

    In a picture of several pets the user may want one of them, and the others are as wrong as the ground.
    """
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(pets.astype(np.uint8))
    large = [number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= PART * pets.size]
    if len(large) < 2:
        return pets
    chosen = rng.choice(large, size=int(rng.integers(1, len(large))), replace=False)
    return np.isin(numbers, chosen)


def spoiled(proposal: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Logits ``(N, 1, H, W)`` of proposals with ellipses in which they say something else, surely or not.

    Most of them lie about the wanted region ``bool (N, H, W)``, are of its scale, and hide a part of it.
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
    """One side of a line through what is wanted, ``bool (H, W)``."""
    height, width = wanted.shape
    rows, columns = np.ogrid[:height, :width]
    y, x = divmod(int(rng.choice(np.flatnonzero(wanted))), width)
    angle = rng.uniform(0, 2 * np.pi)
    return (rows - y) * np.cos(angle) + (columns - x) * np.sin(angle) > 0


def rim_wrong(logits: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Logits ``(H, W)`` whose outline lies, on one side of a line, some pixels too far out or in.

    A click there asks for little: all that lies within the rim, and not for the whole animal beside it.
    """
    width = int(rng.integers(*RIM_WIDTHS))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    mask, too_far = wanted.astype(np.uint8), rng.random() < 0.6
    moved = (cv2.dilate if too_far else cv2.erode)(mask, kernel) > 0
    rim = (moved != wanted) & beyond_a_line(wanted, rng)
    value = float((1 if too_far else -1) * rng.uniform(0.5, 7))
    return logits.masked_fill(torch.from_numpy(rim).to(logits.device), value)


def side_missed(logits: Tensor, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Logits ``(H, W)`` that miss, surely or not, all that is wanted on one side of a line; sometimes all of it."""
    hidden = wanted & (beyond_a_line(wanted, rng) | (rng.random() < ALL_MISSED))
    return logits.masked_fill(torch.from_numpy(hidden).to(logits.device), -float(rng.uniform(0.5, 7)))


def selection_loss(logits: Tensor, asked: Tensor, dice: float) -> Tensor:
    """Cross-entropy plus `dice` times one less the mean soft Dice of each picture; a scalar.

    Parameters
    ----------
    logits : Tensor
        ``(N, H, W)``, of being what was asked for.
    asked : Tensor
        ``int64 (N, H, W)``: 1 where it is, 0 where not, -100 where nothing counts.
    """
    counted = asked != IGNORED
    truth = (asked == 1).float()
    kind = "mean" if counted.any() else "sum"  # of nothing, as in a share of no pictures, there is no mean
    entropy = F.binary_cross_entropy_with_logits(logits[counted], truth[counted], reduction=kind)
    chance = logits.sigmoid() * counted
    overlap = (2 * (chance * truth).sum((1, 2)) + 1) / (chance.sum((1, 2)) + truth.sum((1, 2)) + 1)
    pixels, pictures = counted.sum(), overlap.new_tensor(len(overlap))
    entropy = summed(entropy * (pixels / summed(pixels)))
    return entropy + dice * (1 - summed(overlap.sum()) / summed(pictures))
