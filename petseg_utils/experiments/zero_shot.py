"""A baseline without training: patches named by the text they resemble most."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.models.clip import load_clip

PROMPTS = ("a photo of the background", "a photo of a cat", "a photo of a dog")  # in the order of the classes


@torch.inference_mode()
def segment_by_words(spec: str, pictures: PictureSet) -> np.ndarray:
    """Classes of every pixel by the likeness of CLIP's patch tokens to three sentences.

    The last layer's patch tokens go the way of the class token, through the final layer norm and the projection, into
    the space that pictures and texts share.  CLIP was trained for the class token alone, so this is a lower bound.

    Parameters
    ----------
    spec : str
        A ``clip:`` encoder, see `encoders.load_encoder`.
    pictures : PictureSet
        What is segmented.

    Returns
    -------
    ndarray
        ``uint8 (n, size, size)``: 0 background, 1 cat, 2 dog.

    Raises
    ------
    PetsegError
        As `encoders.load_encoder` does.

    References
    ----------
    Radford et al.: "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    arXiv:2103.00020.  Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022, arXiv:2112.01071.
    """
    import open_clip

    size = pictures.images.shape[1]
    model: Any = load_clip(spec, size)[0]
    tower = model.visual
    tokens = open_clip.get_tokenizer(spec.removeprefix("clip:").partition("/")[0])(list(PROMPTS))
    texts = F.normalize(model.encode_text(tokens), dim=1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tower.image_mean, tower.image_std))
    classes = np.empty(pictures.labels.shape, np.uint8)
    for part, pixels in batches_of(pictures, model):
        images = pixels / 255
        last = tower.transformer.layers - 1
        out = tower.forward_intermediates(
            (images - mean) / std, indices=[last], normalize_intermediates=True, intermediates_only=True
        )
        patches = F.normalize(torch.einsum("nchw,cd->ndhw", out["image_intermediates"][0], tower.proj), dim=1)
        likeness = torch.einsum("ndhw,kd->nkhw", patches, texts)
        likeness = F.interpolate(likeness, size=(size, size), mode="bilinear", align_corners=False)
        classes[part] = likeness.argmax(1).to(torch.uint8).numpy()
    return classes
