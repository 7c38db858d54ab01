"""What the study's models are called: short in files and on the command line, in words in prose and charts."""

import re
from pathlib import Path

from petseg_utils.study import PetsegError
from petseg_utils.study.renamed import RENAMED

TITLES = {
    "unet": "U-Net",
    "autoencoder": "autoencoder",
    "autoencoder_unet": "U-Net on autoencoder",
    "decoder": "decoder",
    "decoder_selftrained": "self-trained decoder",
    "point": "click model",
}
ENCODER_TITLES = {
    "lite:efficientnet_lite0": "EfficientNet-Lite0 (ImageNet)",
    "lite:efficientnet_lite0+2x": "EfficientNet-Lite0 (ImageNet) at two scales",
    "lite:efficientnet_lite0@224+448": "EfficientNet-Lite0 (ImageNet) at 224 and 448 pixels",
}


def check_name(model: str) -> str:
    """The name itself, if a model of the study has it.

    Raises
    ------
    PetsegError
        If none has; the message says what to write instead.
    """
    if model in RENAMED:
        raise PetsegError(f"The model {model} is called {RENAMED[model]} now: write {RENAMED[model]}.")
    if model not in TITLES:
        raise PetsegError(f"No model {model!r}; it is one of {', '.join(TITLES)}.")
    return model


def encoder_title(identity: str) -> str:
    """A frozen encoder's title for prose and charts, as ``CLIP ViT-B/16``; its identity itself where it has no other.

    Weights other than OpenAI's are named, and random ones are not called CLIP.
    """
    clip = re.fullmatch(r"clip:(ViT-[^/]+?)(-quickgelu)?/(.+?)(@[0-9a-f]{12})?", identity)
    if not clip:
        return ENCODER_TITLES.get(identity, identity)
    name, weights = re.sub(r"^(ViT-\w+)-(\d+)", r"\1/\2", clip[1]), clip[3]
    if weights == "random":
        return f"{name} with random weights"
    return f"CLIP {name}" + ("" if weights == "openai" else f" ({Path(weights).name})")


def looks_at(encoder: str | None, size: int) -> str:
    """At how many pixels a model on that frozen encoder, or on none, looks at pictures of a size: ``224 and 448``."""
    return f"{size} and {2 * size}" if re.search(r"(\+2x|@\d+\+\d+)$", encoder or "") else f"{size}"


def count_of(number: float) -> str:
    """A number of weights for reading, as ``163``, ``53,600`` or ``3.9 million``: three digits, no second look."""
    if number >= 1e6:
        return f"{number / 1e6:.3g} million"
    return f"{float(f'{number:.3g}'):,.0f}"


def titled(model: str, encoder: str | None = None) -> str:
    """A model's title for prose, tables and charts, as ``decoder on CLIP ViT-B/16``.

    Parameters
    ----------
    model : str
        A name of `TITLES`, or ``point, one click``.  Any other name, of somebody's own model, stays as it is.
    encoder : str, optional
        Identity of its frozen encoder.  None or NaN, as tables have it, for a model without one.
    """
    name, _, help_given = model.partition(", ")
    title = TITLES.get(name, name)
    if isinstance(encoder, str):
        title += f" on {encoder_title(encoder)}"
    return f"{title} after {help_given}" if help_given else title
