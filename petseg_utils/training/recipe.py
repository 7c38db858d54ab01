"""A recipe: everything in which the training of one model differs from that of another."""

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
    """Return the loss of a model that outputs class logits; see `losses.segmentation_loss`."""
    return segmentation_loss(model, batch, settings.dice)


@dataclass(frozen=True)
class Recipe:
    """How one model is built and trained.  The default values are those of a plain segmenter.

    Parameters
    ----------
    name : str
        Name of the model in files, tables and on the command line.
    version : int
        Raise it when the same settings would give other weights than before: checkpoints of another version are
        neither loaded as the study's own nor resumed.
    build : callable
        ``build(settings, encoder)`` returns the network with its initial weights, on the frozen encoder if there is
        one.  The network takes pixel values ``(N, 3, H, W)`` in 0..255 and returns logits ``(N, 3, H, W)``.
    loss : callable
        ``loss(network, batch, settings)`` returns a scalar tensor.
    loss_name : str
        Name of the loss in tables, apart from its Dice term.
    validate : callable
        ``validate(network, pictures, features)`` returns the scores of the validation pictures, a dict of floats;
        `features` are the frozen encoder's, or None.  With several processes, each is given its own share of the
        pictures and returns the scores over all of them (`data.parallel`).
    score : str
        The score that decides which epoch is kept; higher is better.
    on_frozen_encoder : bool
        Whether the network uses the study's frozen encoder.
    starts_from : callable, optional
        ``starts_from(study)`` names the model from whose trained weights the training starts; it is trained first.
    start : callable, optional
        ``start(network, before)`` copies the weights of the network from which the training starts.
    unlabelled : str, optional
        Whether pictures without masks are used too: ``"optional"`` (if the study has some) or ``"required"``.
    teacher : str, optional
        Name of the model that proposes masks for them; the models of all the study's seeds propose together.
    makes_masks, takes_prompts : bool
        Whether the model segments; whether clicks, scribbles and boxes change its masks.
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
