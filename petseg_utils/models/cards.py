"""Model cards: the JSON file beside a model's weights, which says what they are and what they were trained on."""

import hashlib
import json
import reprlib
from pathlib import Path
from typing import Any

from petseg_utils.study import PetsegError
from petseg_utils.study.renamed import RENAMED

SHIPPED = Path(__file__).parent / "weights"
SUMS = SHIPPED / "SHA256SUMS"  # checksums of all files beside it, as sha256sum writes and checks them
LARGEST_CARD = 10_000_000  # bytes
# The keys that every card must have, and the types of their values.
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
        The checkpoint's ``.safetensors`` file; the card has the same name with the ending ``.json``.

    Raises
    ------
    PetsegError
        If the weights or their card are missing, the card is damaged, or shipped files are not as they were shipped.
    """
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise PetsegError(f"No checkpoint {path.name} with its card {path.with_suffix('.json').name} in that folder.")
    for file in (path, path.with_suffix(".json")):
        check_sum(file)
    return checked_card(path.with_suffix(".json").read_bytes(), path.with_suffix(".json").name)


def checked_card(text: bytes | str, name: str) -> dict:
    """Parse and check a card's JSON, and return the card with its model's current name.

    Raises
    ------
    PetsegError
        If the text is too large or not JSON, lacks a required key, or gives the model an impossible value.
    """
    if len(text) > LARGEST_CARD:
        raise PetsegError(f"The card {name} is not a card: it is larger than {LARGEST_CARD // 1_000_000} MB.")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, not even text
        raise PetsegError(f"The card {name} is damaged ({error}).") from error
    if fault := _fault(card):
        raise PetsegError(f"The card {name} is damaged: {fault}.")
    return card | {"model": RENAMED.get(card["model"], card["model"])}


def _fault(card: Any) -> str | None:
    """Return what is wrong with a card, in words; None if nothing is."""
    if not isinstance(card, dict):
        return "it is not a table of keys and values"
    for key, kind in KINDS.items():
        if key not in card:
            return f"it lacks {key}"
        if not isinstance(card[key], kind) or isinstance(card[key], bool):
            return f"{key} is {reprlib.repr(card[key])}"
    if card["encoder"] and not isinstance(card.get("encoder_spec"), str):
        return "it has no encoder_spec, which says how to load its encoder"
    if not 16 <= card["image_size"] <= 1024 or card["image_size"] % 16:  # as in a study, see study.settings
        return f"image_size is {reprlib.repr(card['image_size'])}, not a multiple of 16 from 16 to 1024"
    peak = card.get("peak") or 0
    if not isinstance(peak, int | float) or not 0 <= peak <= 1:
        return f"peak is {reprlib.repr(peak)}, not a number from 0 to 1"
    return None


def check_sum(path: Path) -> None:
    """Compare a shipped file with its recorded checksum; any other file passes.

    Raises
    ------
    PetsegError
        If the checksums differ.
    """
    if path.parent != SHIPPED:
        return
    sums = dict(line.split("  ")[::-1] for line in SUMS.read_text(encoding="ascii").splitlines())
    if sums.get(path.name) != sha256(path):
        raise PetsegError(f"{path.name} is not what petseg ships under this name: reinstall petseg.")


def write_sums(folder: Path) -> None:
    """Write the checksums of the weights in a folder and of their cards."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".onnx", ".safetensors"))
    (folder / SUMS.name).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files), encoding="ascii")


def shipped_cards() -> dict[str, dict]:
    """Return the cards of the shipped weights, by model."""
    return {path.stem: read_card(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def sha256(weights: Path) -> str:
    """Return the SHA-256 of a file of weights, in hexadecimal digits."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
