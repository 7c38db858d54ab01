"""Names of the study's models: short ones for files and the command line, full ones for prose and charts."""

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
    """Return the name unchanged if it names a model of the study.

    Raises
    ------
    PetsegError
        If it does not; the message says what to write instead.
    """
    if model in RENAMED:
        raise PetsegError(f"The model {model} is called {RENAMED[model]} now: write {RENAMED[model]}.")
    if model not in TITLES:
        raise PetsegError(f"Unknown model {model!r}: use one of {', '.join(TITLES)}.")
    return model


def encoder_title(identity: str) -> str:
    """Return a frozen encoder's title for prose and charts, such as ``CLIP ViT-B/16``; its identity if it has none.

    The title names weights other than OpenAI's, and does not call an encoder with random weights CLIP.
    """
    clip = re.fullmatch(r"clip:(ViT-[^/]+?)(-quickgelu)?/(.+?)(@[0-9a-f]{12})?", identity)
    if not clip:
        return ENCODER_TITLES.get(identity, identity)
    name, weights = re.sub(r"^(ViT-\w+)-(\d+)", r"\1/\2", clip[1]), clip[3]
    if weights == "random":
        return f"{name} with random weights"
    return f"CLIP {name}" + ("" if weights == "openai" else f" ({Path(weights).name})")


def looks_at(encoder: str | None, size: int) -> str:
    """Return the sizes in pixels at which a model with this encoder (or none) sees pictures: ``224 and 448``."""
    return f"{size} and {2 * size}" if re.search(r"(\+2x|@\d+\+\d+)$", encoder or "") else f"{size}"


def count_of(number: float) -> str:
    """Format a number of weights to three significant digits: ``163``, ``53,600`` or ``3.9 million``."""
    if number >= 1e6:
        return f"{number / 1e6:.3g} million"
    return f"{float(f'{number:.3g}'):,.0f}"


def titled(model: str, encoder: str | None = None) -> str:
    """Return a model's title for prose, tables and charts, such as ``decoder on CLIP ViT-B/16``.

    Parameters
    ----------
    model : str
        A key of `TITLES`, or one with the help given, such as ``point, one click``.  Any other name, of a user's own
        model, stays as it is.
    encoder : str, optional
        Identity of the model's frozen encoder; None, or NaN as in tables, for a model without one.
    """
    name, _, help_given = model.partition(", ")
    title = TITLES.get(name, name)
    if isinstance(encoder, str):
        title += f" on {encoder_title(encoder)}"
    return f"{title} after {help_given}" if help_given else title
