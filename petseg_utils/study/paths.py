"""Where files lie: in a checkout beside the code; else, or where that may not be written, in the user's data folder."""

import contextlib
import json
import os
from pathlib import Path

import platformdirs

_BESIDE_THE_CODE = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (_BESIDE_THE_CODE / "pyproject.toml").is_file() and (_BESIDE_THE_CODE / "notebooks").is_dir()
_USERS = platformdirs.user_data_path("petseg", appauthor=False)
ROOT = _BESIDE_THE_CODE if IS_CHECKOUT else _USERS  # an installed package must not write among other packages
OUTPUTS = ROOT if os.access(ROOT, os.W_OK) else _USERS  # of data, runs and reports
STUDIES = Path(__file__).parent
# What a spreadsheet takes for the start of a formula, and the mark that says that it is none.
_FORMULA, _NO_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"), "'"


class PetsegError(Exception):
    """Something the user can put right; the message says what was wrong and what to do."""


def placed(encoder: str, folder: Path) -> str:
    """An encoder's spec in which the path of its weights, as in ``clip:MODEL//path/to/file``, is absolute.

    It is absolute already if such a file is there; else it starts at `folder`.
    """
    model, mark, file = encoder.partition("//")
    if not mark or Path(f"/{file}").is_file():
        return encoder
    return f"{model}//{(folder.resolve() / file).as_posix().removeprefix('/')}"


def shown(path: Path) -> str:
    """Path as text for messages and records: relative to the project, or its last part where it lies outside."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def safe_cell(cell: str) -> str:
    """A cell of a table that no spreadsheet takes for a formula, as OWASP advises; `without_mark` gives what it was."""
    return f"{_NO_FORMULA}{cell}" if cell.startswith((*_FORMULA, _NO_FORMULA)) else cell


def without_mark(cell: str) -> str:
    """The text of which `safe_cell` made a cell."""
    return cell.removeprefix(_NO_FORMULA)


def write_text(path: Path, text: str) -> None:
    """Write a text file to a temporary name of this process and rename it, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # the file that a user knows


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=indent) + "\n")
