"""How the point-prompt model learns: a simulated user asks for something, looks at the mask, and corrects it."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from petseg_utils.data.labels import PADDING
from petseg_utils.data.tensors import IGNORED, class_targets
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.prompts import Prompt, correcting_click, first_prompts, jitter, prompt_maps

MOST_CORRECTIONS = 3
SILENT = 0.15  # share of the dialogues in which nobody says anything, and the pet is wanted
BACKGROUND = 0.25  # share of the others in which the background is wanted
UNSTEADY = 12.0  # a correction falls up to so many model pixels off the centre of what is wrong
BLOBS = 6  # errors are made about a sixth of the picture wide
WRONG = 6.0  # logits: their standard deviation at most
SMALLEST = 20  # regions of fewer pixels are not asked for


def prompted_loss(model: Any, batch: dict[str, Tensor], dice: float = 1.0) -> Tensor:
    """Loss of what was asked for, after a dialogue with a simulated user; a scalar.

    Of each picture the pet is wanted, or the background.  The user says so by a click, a stroke or a box; the model
    answers, and up to three corrections follow.  The answers on the way are made without gradients; the last one is
    what is learned from.  Which dialogue it is depends on torch's random state alone.

    Parameters
    ----------
    model : nn.Module
        A `models.click_head.PointSegmenter`, perhaps with what several processes wrap around it.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)``, ``label`` ``uint8 (N, H, W)`` and perhaps the encoder's ``maps``.
    dice : float
        Weight of the Dice loss beside the cross-entropy's 1.

    References
    ----------
    Sofiiuk et al.: "Reviving Iterative Training with Mask Guidance", ICIP 2022, arXiv:2102.06583.
    """
    images = batch["image"].float()
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    alone = getattr(model, "module", model)  # without what several processes wrap around it
    with torch.no_grad():
        cells, classes = alone.look(images, batch.get("maps"))
        seen = cells, made_wrong(classes)
    wanted, prompts, previous = simulate(alone, images, seen, batch["label"].cpu().numpy(), rng)
    logits = model(images, prompts=prompt_maps(prompts, images, previous), seen=seen)[:, -1]
    targets = class_targets(batch["label"])
    asked = torch.from_numpy(wanted).to(targets.device).long().masked_fill(targets == IGNORED, IGNORED)
    return selection_loss(logits, asked, dice)


def made_wrong(classes: Tensor) -> Tensor:
    """Class logits ``(N, 3, H, W)`` with errors here and there: smooth noise for or against the background.

    The decoder has learned from these pictures' masks and is hardly ever wrong about them.  About others it is, and
    that is what clicks are for.
    """
    noise = torch.randn(len(classes), 1, BLOBS, BLOBS) * torch.rand(len(classes), 1, 1, 1) * WRONG
    noise = F.interpolate(noise, classes.shape[-2:], mode="bicubic", align_corners=False).to(classes)
    return torch.cat([classes[:, :1] + noise, classes[:, 1:]], 1)


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
    entropy = F.binary_cross_entropy_with_logits(logits[counted], truth[counted])
    chance = logits.sigmoid() * counted
    overlap = (2 * (chance * truth).sum((1, 2)) + 1) / (chance.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return entropy + dice * (1 - overlap.mean())


@torch.no_grad()
def simulate(
    model: PointSegmenter, images: Tensor, seen: tuple[Tensor, Tensor], labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[list[Prompt]], np.ndarray]:
    """Play dialogues up to where the model is to give its last answer.

    Returns
    -------
    wanted : ndarray
        ``bool (N, H, W)``, what each user asks for.
    prompts : list of list
        What each user has said.
    previous : ndarray
        ``float32 (N, H, W)``, the model's answer before the last prompt, as probabilities; zeros where it was silent.
    """
    pets, counted = (labels == 1) | (labels == 2), labels < PADDING
    wanted, silent = pets.copy(), rng.random(len(labels)) < SILENT
    for row, (pet, known) in enumerate(zip(pets, counted, strict=True)):
        background = known & ~pet
        too_small = pet.sum() < SMALLEST
        if not silent[row] and background.sum() >= SMALLEST and (too_small or rng.random() < BACKGROUND):
            wanted[row] = background
        silent[row] |= wanted[row].sum() < SMALLEST
    was_training = model.training
    model.eval()  # what is only looked at must not move the batch norms

    def ask(prompts: list[list[Prompt]], previous: np.ndarray | None) -> np.ndarray:
        return model.head(*seen, prompt_maps(prompts, images, previous))[:, 0].float().sigmoid().cpu().numpy()

    answer = ask([[] for _ in labels], None)
    prompts = [[] if quiet else first_prompts(mask, rng) for mask, quiet in zip(wanted, silent, strict=True)]
    for _ in range(rng.integers(MOST_CORRECTIONS + 1)):
        previous, answer = answer, ask(prompts, answer)
        for row, said in enumerate(prompts):
            wrong = (answer[row] > 0.5) != wanted[row]
            click = None if silent[row] else correcting_click(wanted[row], answer[row] > 0.5, ~counted[row])
            if click is None:  # nothing to say: the last answer is to be given once more
                answer[row] = previous[row]
            else:
                said.append(jitter(click, wrong & counted[row] & (wanted[row] == click.positive), UNSTEADY, rng))
    model.train(was_training)
    answer[silent] = 0
    return wanted, prompts, answer
