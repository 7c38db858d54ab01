"""The card beside a model's weights: a JSON file that says what they are and what they learned from."""

import hashlib
import json
from pathlib import Path

from petseg_utils.study import PetsegError
from petseg_utils.study.renamed import RENAMED

SHIPPED = Path(__file__).parent / "weights"


def read_card(path: Path) -> dict:
    """Read the card beside a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint's ``.safetensors`` file; the card has the same name, with the ending ``.json``.

    Raises
    ------
    PetsegError
        If the weights or their card are missing, or the card is damaged.
    """
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise PetsegError(f"No checkpoint {path.name} with its card {path.with_suffix('.json').name} in that folder.")
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return card | {"model": RENAMED.get(card["model"], card["model"])}
    except (ValueError, KeyError, TypeError) as error:  # not JSON, not even text, or not a card
        raise PetsegError(f"The card {path.with_suffix('.json').name} is damaged ({error}).") from error


def shipped_cards() -> dict[str, dict]:
    """Cards of the weights that ship, by model."""
    return {path.stem: read_card(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def sha256(weights: Path) -> str:
    """The SHA-256 of a file of weights, in hexadecimal digits."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
