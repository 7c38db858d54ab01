"""A baseline without training: each patch is named by the words that it resembles most."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.data.labels import CLASSES
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.models.clip import load_clip, normalisation
from petseg_utils.study.provenance import best_device

# Those of the 80 templates by CLIP's authors for ImageNet that suit a patch of a photo.
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a blurry photo of a {}.",
)
# No caption says "background", so it is named by what is seen around pets.  Chosen without looking at any score.
WORDS = {
    "background": (
        "grass", "ground", "sand", "snow", "water", "sky", "tree", "flower", "wall", "floor", "carpet", "sofa", "bed",
        "chair", "table", "door", "window", "curtain", "box", "toy", "person",
    ),
    "cat": ("cat", "kitten"),
    "dog": ("dog", "puppy"),
}  # fmt: skip


@torch.inference_mode()
def segment_by_words(spec: str, pictures: PictureSet) -> dict[str, np.ndarray]:
    """Classify every pixel by the similarity of CLIP's patches to words, with two kinds of patch features.

    Each patch is compared with each of `WORDS`, by the cosine of its features and the word's embedding (`embed_words`).
    The cosines are enlarged to pixels bilinearly, and a pixel gets the class of the word it resembles most.  So a class
    scores as high as its best word; an average of grass and sofa would resemble neither.

    Parameters
    ----------
    spec : str
        A ``clip:`` encoder, see `encoders.load_encoder`.

    Returns
    -------
    dict of str to ndarray
        For each kind of features, by its name in `patch_features`: ``uint8 (n, size, size)``, 0 background, 1 cat,
        2 dog.

    Raises
    ------
    PetsegError
        As `encoders.load_encoder` does.

    References
    ----------
    Radford et al.: "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    arXiv:2103.00020.  Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022, arXiv:2112.01071, whose code
    names the background by several words, too.
    """
    size = pictures.images.shape[1]
    device = best_device()
    model: Any = load_clip(spec, size)[0].to(device)
    words = embed_words(model, spec)
    class_of_word = [number for number, name in enumerate(CLASSES) for _ in WORDS[name]]
    to_class = torch.tensor(class_of_word, dtype=torch.uint8, device=device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in normalisation(spec))
    masks: dict[str, np.ndarray] = {}
    for part, pixels in batches_of(pictures, model):
        for name, patches in patch_features(model.visual, (pixels / 255 - mean) / std).items():
            cosines = torch.einsum("nhwd,kd->nkhw", patches, words)
            cosines = F.interpolate(cosines, size=(size, size), mode="bilinear", align_corners=False)
            classes = masks.setdefault(name, np.empty(pictures.labels.shape, np.uint8))
            classes[part] = to_class[cosines.argmax(1)].cpu().numpy()
    return masks


@torch.inference_mode()
def embed_words(model: nn.Module, spec: str) -> Tensor:
    """Return CLIP's embedding of each of `WORDS`: the mean of its embeddings in all `TEMPLATES`.

    Each sentence's embedding is scaled to length 1 before taking the mean, and so is the mean (Radford et al. 2021,
    section 3.1.4, and the notebook of its prompts).

    Parameters
    ----------
    model : nn.Module
        A complete CLIP, see `clip.load_clip`.
    spec : str
        Its ``clip:`` spec, which decides how sentences are split into tokens.

    Returns
    -------
    Tensor
        ``(words, D)``, each of length 1, class by class in the order of `CLASSES`, on the model's device.
    """
    import open_clip

    clip: Any = model
    tokenize = open_clip.get_tokenizer(spec.removeprefix("clip:").partition("/")[0])
    means = []
    for word in (word for name in CLASSES for word in WORDS[name]):  # all at once would take half a gigabyte
        sentences = tokenize([template.format(word) for template in TEMPLATES]).to(clip.visual.proj.device)
        means.append(F.normalize(clip.encode_text(sentences), dim=1).mean(0))
    return F.normalize(torch.stack(means), dim=1)


def patch_features(tower: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return two kinds of patch features in the space shared by pictures and texts, in one pass of the image tower.

    - ``output tokens``: the last block's patch tokens.  CLIP was trained through the class token alone, so nothing made
      these tokens describe what is seen in their own patch: a lower bound.
    - ``value features``: the `value_features` of the last block.  The class token is composed of them, and each of them
      belongs to one patch.

    Both leave the tower as the class token does: through the final layer norm and the projection.

    Parameters
    ----------
    tower : nn.Module
        open_clip's ``VisionTransformer`` with its final layer norm and projection, as in a CLIP of `clip.load_clip`.
    images : Tensor
        ``(N, 3, H, W)``, normalised as `clip.normalisation` says, of the size that the tower was loaded for.

    Returns
    -------
    dict of str to Tensor
        ``(N, H / patch, W / patch, D)``, of length 1 along the last axis.
    """
    vision: Any = tower
    depth = vision.transformer.layers
    rows, columns = vision.grid_size
    # Without the class token: no step that follows mixes tokens.
    entering, leaving = vision.forward_intermediates(
        images, indices=[depth - 2, depth - 1], intermediates_only=True, output_fmt="NLC"
    )["image_intermediates"]
    kinds = {"output tokens": leaving, "value features": value_features(vision.transformer.resblocks[-1], entering)}
    return {
        name: F.normalize(vision.ln_post(tokens) @ vision.proj, dim=-1).unflatten(1, (rows, columns))
        for name, tokens in kinds.items()
    }


def value_features(block: nn.Module, tokens: Tensor) -> Tensor:
    """Return what a block's attention would output for each token if the token attended to itself alone.

    These are MaskCLIP's features: the last attention without queries and keys.  Its authors' code for vision
    transformers adds the block's input to them and sends the sum through the block's MLP.  Both are left out here, as
    in ClearCLIP, whose authors find that input to be the main source of noise in such maps.

    Parameters
    ----------
    block : nn.Module
        open_clip's ``ResidualAttentionBlock``, whose attention is an ``nn.MultiheadAttention``.
    tokens : Tensor
        ``(N, L, width)``: the block's input.

    Returns
    -------
    Tensor
        ``(N, L, width)``.

    References
    ----------
    Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022, arXiv:2112.01071.  Lan et al.: "ClearCLIP:
    Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024, arXiv:2407.12442.
    """
    layers: Any = block
    attention = layers.attn
    weight, bias = (held.chunk(3)[2] for held in (attention.in_proj_weight, attention.in_proj_bias))  # after query, key
    return layers.ls_1(attention.out_proj(F.linear(layers.ln_1(tokens), weight, bias)))
