"""What several commands share: options, and messages on the terminal."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petseg_utils.study import PetsegError, shown

if TYPE_CHECKING:
    from petseg_utils.data.pictures import PictureSet
    from petseg_utils.study import Study

StudyOption = Annotated[
    str | None,
    typer.Option(
        help="smoke, sample, rehearsal, oxford-cpu, oxford-gpu, oxford, or a .toml file; by default PETSEG_STUDY, "
        "else sample."
    ),
]


def known_data(path: Path | None) -> Path | None:
    """Check a data folder, before anything else is loaded or read."""
    from petseg_utils.data.datasets import find_data

    if path:
        find_data(path)
    return path


DataOption = Annotated[
    Path | None, typer.Option(callback=known_data, help="Data folder to use instead of the study's own.")
]
NamesOption = Annotated[
    Path | None, typer.Option(help="Use only the pictures that this file names, one per line (first column of a CSV).")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out pictures that have errors, say which, and go on.")
]
CHECKPOINT = "a .safetensors file with its .json card beside it"
CheckpointOption = Annotated[Path | None, typer.Option("--weights", help=f"{CHECKPOINT[:1].upper()}{CHECKPOINT[1:]}.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help=f"An .onnx file from petseg export, or {CHECKPOINT}, which torch runs.")
]
RuntimeOption = Annotated[
    str | None, typer.Option(help="onnx (the default where there is an .onnx file) or torch (for checkpoints).")
]


def new_or_json(path: Path | None) -> Path | None:
    """Check a file for results; it is a usage error if it holds something else than JSON, as photos and tables do."""
    if path and path.is_file() and path.stat().st_size:
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            raise typer.BadParameter(
                f"{path.name} exists and is not JSON, so it is not replaced: choose another name.", param_hint="--json"
            ) from None
    return path


JsonOption = Annotated[
    Path | None, typer.Option("--json", callback=new_or_json, help="Write the results to this file too.")
]


def on_screen(path: Path) -> str:
    """Return a path as a terminal's reader can use it: relative to the current folder, or in full."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def read_names(path: Path | None, study: "Study") -> set[str] | None:
    """Read names of pictures from a file, None without one; say on stderr how many of them the study's data lacks.

    Raises
    ------
    PetsegError
        If there is no such file, or it is not text.
    """
    from petseg_utils.data.datasets import OFFICIAL_COUNTS, DataError, list_pictures, read_list

    if path is None:
        return None
    if not path.is_file():
        raise PetsegError(f"No file {path.name!r}: --names takes a file with names of pictures.")
    names = {cells[0] for _, _, cells in read_list(path)}
    listed = set()
    for split in OFFICIAL_COUNTS:
        with contextlib.suppress(DataError):
            listed |= {picture.name for picture in list_pictures(study.data_dir, split)}
    if absent := sorted(names - listed - {"name"}):
        typer.echo(f"{len(absent)} of {len(names)} names are not in the data: {', '.join(absent[:5])} …", err=True)
    return names


def tell_skipped(splits: "dict[str, PictureSet]") -> None:
    """Say on stderr which pictures of each split were left out."""
    told = {finding: split for split, pictures in splits.items() for finding in pictures.skipped}
    for finding, split in told.items():
        typer.echo(f"left out of {split}: {finding.name}: {finding.message}", err=True)


def tell_weights(path: Path, card: dict) -> None:
    """Say which weights are used, and where they come from."""
    encoder = f", encoder {card['encoder']}" if card["encoder"] else ""
    typer.echo(f"Weights: {shown(path)} (study {card['study']}, seed {card['seed']}, epoch {card['epoch']}{encoder})")


@contextlib.contextmanager
def ctrl_c(message: str) -> Iterator[None]:
    """Say how to continue after an interruption; the exit code is 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {message}", err=True)
        raise typer.Exit(130) from None
