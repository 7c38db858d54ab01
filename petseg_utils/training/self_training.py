"""Self-training: trained models propose masks for pictures without masks."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from petseg_utils.data.audit import content_hash
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.models.feature_cache import Features

SURE = 0.85  # a pixel whose pet probability lies between 1 - SURE and SURE gets no label
FOUND = 0.01  # if less than this share of a picture is labelled as pet, its pet was not found


@torch.inference_mode()
def propose_masks(
    teachers: list[nn.Module], pictures: PictureSet, features: Features | None = None, *, progress: bool = True
) -> PictureSet:
    """Propose masks by trained models, for pictures whose species is known.

    The models' probabilities, averaged over the models and over the picture and its mirror image, say where the pet is;
    the pictures' table gives the species.  Pixels of which the models are not sure stay unlabelled.

    Parameters
    ----------
    teachers : list of nn.Module
        Each returns logits ``(N, 3, H, W)`` for pixel values ``(N, 3, H, W)`` in 0..255.
    pictures : PictureSet
        From `read_unlabelled`.
    features : Features, optional
        Features of the same pictures, for models on a frozen encoder.

    Returns
    -------
    PictureSet
        The pictures with the proposed masks; a picture in which no pet was found stays wholly unlabelled.

    References
    ----------
    Lee: "Pseudo-Label", ICML workshop 2013.  Xie et al.: "Self-training with Noisy Student", CVPR 2020,
    arXiv:1911.04252.
    """
    labels = np.array(pictures.labels)
    for part, images in batches_of(pictures, teachers[0], doing="proposing masks", progress=progress):
        plain, mirrored = ([features.read(part, side, images.device)] if features else [] for side in (0, 1))
        pairs = [(teacher(images, *plain), teacher(images.flip(-1), *mirrored).flip(-1)) for teacher in teachers]
        background = torch.stack([logits.softmax(1)[:, 0] for pair in pairs for logits in pair]).mean(0)
        chance = 1 - background.cpu().numpy()
        species = pictures.table["species"].to_numpy()[part, None, None]
        proposed = np.where(chance > SURE, species, np.where(chance < 1 - SURE, 0, BORDER))
        labels[part] = np.where(labels[part] == PADDING, PADDING, proposed)
    nothing = np.isin(labels, (1, 2)).mean((1, 2)) < FOUND
    labels[nothing] = pictures.labels[nothing]
    return replace(pictures, table=pictures.table.assign(mask=[content_hash(label) for label in labels]), labels=labels)
