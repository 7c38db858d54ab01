"""A recipe: all that sets the training of one model apart from that of another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from petseg_utils.data.pictures import PictureSet
from petseg_utils.models.feature_cache import Features
from petseg_utils.scores.predictions import validation_scores
from petseg_utils.study import Study, TrainingSettings
from petseg_utils.training.losses import segmentation_loss


def masks_loss(model: nn.Module, batch: dict[str, Tensor], settings: TrainingSettings) -> Tensor:
    """The loss of a model that gives logits of the classes, see `losses.segmentation_loss`."""
    return segmentation_loss(model, batch, settings.dice)


@dataclass(frozen=True)
class Recipe:
    """How one model is built and trained.  Fields that are left out are those of a plain segmenter.

    Parameters
    ----------
    name : str
        Of the model: in files, tables and on the command line.
    version : int
        Raise it when the same settings would give other weights than before: checkpoints of another version are
        neither loaded as the study's own nor resumed.
    build : callable
        ``build(settings, encoder)``: the network with its first weights, for the frozen encoder if there is one.  It
        takes pixel values ``(N, 3, H, W)`` in 0..255 and gives logits ``(N, 3, H, W)``.
    loss : callable
        ``loss(network, batch, settings)``: a scalar tensor.
    loss_name : str
        What tables call it, its Dice term aside.
    validate : callable
        ``validate(network, pictures, features)``: scores of the validation pictures, a dict of floats; `features` are
        those of the frozen encoder, or None.  Of several processes each is given its own pictures, and returns the
        scores of all (`data.parallel`).
    score : str
        Which of these scores decides which epoch is kept; higher is better.
    on_frozen_encoder : bool
        Whether the network stands on the study's frozen encoder.
    starts_from : callable, optional
        ``starts_from(study)``: name of the model whose trained weights it starts from, which is trained first.
    start : callable, optional
        ``start(network, before)``: takes over the weights of the network it starts from.
    unlabelled : str, optional
        Whether it learns from pictures without masks, too: ``"optional"`` (where the study has some) or ``"required"``.
    teacher : str, optional
        Name of the model that proposes masks for them, with all of the study's seeds together.
    makes_masks, takes_prompts : bool
        Whether it segments; whether clicks, scribbles and boxes change its masks.
    """

    name: str
    version: int
    build: Callable[[TrainingSettings, Any], nn.Module]
    loss: Callable[[Any, dict[str, Tensor], TrainingSettings], Tensor] = masks_loss
    loss_name: str = "cross-entropy"
    validate: Callable[[Any, PictureSet, Features | None], dict[str, float]] = validation_scores
    score: str = "miou"
    on_frozen_encoder: bool = False
    starts_from: Callable[[Study], str] | None = None
    start: Callable[[Any, Any], None] | None = None
    unlabelled: str | None = None
    teacher: str | None = None
    makes_masks: bool = True
    takes_prompts: bool = False
