"""The card beside a model's weights: a JSON file that says what they are and what they learned from."""

import hashlib
import json
import reprlib
from pathlib import Path
from typing import Any

from petseg_utils.study import PetsegError
from petseg_utils.study.renamed import RENAMED

SHIPPED = Path(__file__).parent / "weights"
SUMS = SHIPPED / "SHA256SUMS"  # of everything beside it, as sha256sum writes and checks them
LARGEST_CARD = 10_000_000  # bytes
# What every model needs to know of itself, and what it is.
KINDS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "encoder": (str, type(None)),
    "study": str,
    "seed": int,
    "epoch": int,
    "image_size": int,
    "settings": dict,
}


def read_card(path: Path) -> dict:
    """Read the card beside a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint's ``.safetensors`` file; the card has the same name, with the ending ``.json``.

    Raises
    ------
    PetsegError
        If the weights or their card are missing, the card is damaged, or they ship and are not what was shipped.
    """
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise PetsegError(f"No checkpoint {path.name} with its card {path.with_suffix('.json').name} in that folder.")
    for file in (path, path.with_suffix(".json")):
        check_sum(file)
    return checked_card(path.with_suffix(".json").read_bytes(), path.with_suffix(".json").name)


def checked_card(text: bytes | str, name: str) -> dict:
    """A card from its JSON, with today's name of its model.

    Raises
    ------
    PetsegError
        If it is no JSON, or says something of the model that cannot be.
    """
    if len(text) > LARGEST_CARD:
        raise PetsegError(f"The card {name} is no card, for it is larger than {LARGEST_CARD // 1_000_000} MB.")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, not even text
        raise PetsegError(f"The card {name} is damaged ({error}).") from error
    if fault := _fault(card):
        raise PetsegError(f"The card {name} is damaged: {fault}.")
    return card | {"model": RENAMED.get(card["model"], card["model"])}


def _fault(card: Any) -> str | None:
    """What is wrong with a card, in words."""
    if not isinstance(card, dict):
        return "it is no table of keys and values"
    for key, kind in KINDS.items():
        if key not in card:
            return f"it lacks {key}"
        if not isinstance(card[key], kind) or isinstance(card[key], bool):
            return f"{key} is {reprlib.repr(card[key])}"
    if card["encoder"] and not isinstance(card.get("encoder_spec"), str):
        return "it does not say by encoder_spec how to load its encoder"
    if not 16 <= card["image_size"] <= 1024 or card["image_size"] % 16:  # as a study's, see study.settings
        return f"image_size is {reprlib.repr(card['image_size'])}, and no multiple of 16 up to 1024"
    peak = card.get("peak") or 0
    if not isinstance(peak, int | float) or not 0 <= peak <= 1:
        return f"peak is {reprlib.repr(peak)}, and no share"
    return None


def check_sum(path: Path) -> None:
    """Compare a file that ships with the sum under which it was shipped; any other file passes.

    Raises
    ------
    PetsegError
        If it is another.
    """
    if path.parent != SHIPPED:
        return
    sums = dict(line.split("  ")[::-1] for line in SUMS.read_text(encoding="ascii").splitlines())
    if sums.get(path.name) != sha256(path):
        raise PetsegError(f"{path.name} is not what petseg ships under this name: install petseg anew.")


def write_sums(folder: Path) -> None:
    """Write the sums of the weights in a folder, and of their cards."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".onnx", ".safetensors"))
    (folder / SUMS.name).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files), encoding="ascii")


def shipped_cards() -> dict[str, dict]:
    """Cards of the weights that ship, by model."""
    return {path.stem: read_card(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def sha256(weights: Path) -> str:
    """The SHA-256 of a file of weights, in hexadecimal digits."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
