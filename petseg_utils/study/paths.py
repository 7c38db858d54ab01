"""Where files lie: in a checkout beside the code; otherwise, or if that is not writable, in the user's data folder."""

import contextlib
import json
import os
from pathlib import Path

import platformdirs

_BESIDE_THE_CODE = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (_BESIDE_THE_CODE / "pyproject.toml").is_file() and (_BESIDE_THE_CODE / "notebooks").is_dir()
_USERS = platformdirs.user_data_path("petseg", appauthor=False)
ROOT = _BESIDE_THE_CODE if IS_CHECKOUT else _USERS  # an installed package must not write among other packages
OUTPUTS = ROOT if os.access(ROOT, os.W_OK) else _USERS  # the folder for data, runs and reports
STUDIES = Path(__file__).parent
# What spreadsheets take for the start of a formula, and the mark before a cell that is not one.
_FORMULA, _NO_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"), "'"


class PetsegError(Exception):
    """Something the user can put right; the message says what was wrong and what to do."""


def placed(encoder: str, folder: Path) -> str:
    """Return an encoder's spec with an absolute path of weights, where it has one as in ``clip:MODEL//path/to/file``.

    The path is absolute already if there is such a file; otherwise it is relative to `folder`.
    """
    model, mark, file = encoder.partition("//")
    if not mark or Path(f"/{file}").is_file():
        return encoder
    return f"{model}//{(folder.resolve() / file).as_posix().removeprefix('/')}"


def shown(path: Path) -> str:
    """Return a path as text for messages and records: relative to the project, or only its last part if outside."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def safe_cell(cell: str) -> str:
    """Mark a table's cell so that no spreadsheet takes it for a formula, as OWASP advises; `without_mark` undoes it."""
    return f"{_NO_FORMULA}{cell}" if cell.startswith((*_FORMULA, _NO_FORMULA)) else cell


def without_mark(cell: str) -> str:
    """Return the text from which `safe_cell` made a cell."""
    return cell.removeprefix(_NO_FORMULA)


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name of this process and rename it, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # names the file that the user knows


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Write a value as JSON, in the way of `write_text`."""
    write_text(path, json.dumps(value, indent=indent) + "\n")
