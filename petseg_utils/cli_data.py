"""The command line's part about data: `petseg data …`, and what other commands say and hear about it."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from petseg_utils.study import PetsegError, Study, load_study, shown, write_json

data_app = typer.Typer(help="Fetch, check and draw data.", no_args_is_help=True)

StudyOption = Annotated[
    str | None,
    typer.Option(
        help="smoke, sample, oxford-cpu, oxford-gpu, oxford, or a file; by default PETSEG_STUDY, else sample."
    ),
]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the data, instead of the study's own.")]
NamesOption = Annotated[
    Path | None, typer.Option(help="Use only the pictures that this file names, one a line (first column of a CSV).")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that have errors; list them.")]


@data_app.command("audit")
def data_audit(
    path: Annotated[Path | None, typer.Argument(help="The data's folder; the study's by default.")] = None,
    study: StudyOption = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file too.")] = None,
) -> None:
    """Read every photo and mask and list what is wrong; exit 1 if anything cannot be used."""
    from petseg_utils.audit import audit
    from petseg_utils.results import audit_lines

    found = audit(path or load_study(study).data_dir)
    typer.echo(audit_lines(found))
    if json_path:
        write_json(json_path, found)
        typer.echo(f"Written to {json_path.name}")
    if found["errors"]:
        raise typer.Exit(1)


@data_app.command("sample")
def data_sample(
    path: Annotated[Path | None, typer.Argument(help="Where to draw; the study's own data folder by default.")] = None,
    study: StudyOption = None,
) -> None:
    """Draw the embedded pictures of a study, in the official layout."""
    from petseg_utils.sample import draw_sample

    chosen = load_study(study)
    if chosen.data != "sample":
        raise PetsegError(f"Study {chosen.name!r} uses the official data; `petseg data download` fetches it.")
    typer.echo(f"Drawn: {shown(draw_sample(path or chosen.data_dir, chosen.sample_trainval, chosen.sample_test))}")


@data_app.command("cache")
def data_cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete them; what needs them makes them anew.")] = False,
) -> None:
    """Show the caches of decoded pictures and of features, and their sizes."""
    from petseg_utils.features import cache_root, caches, clear_caches

    found = caches()
    for cache in found:
        typer.echo(f"{cache['megabytes']:8,.0f} MB  {cache['name']}  {cache['what']}")
    typer.echo(f"{sum(cache['megabytes'] for cache in found):8,.0f} MB  in all, under {shown(cache_root())}")
    if clear:
        clear_caches()
        typer.echo("Deleted.")


@data_app.command("download")
def data_download(
    path: Annotated[
        Path | None, typer.Argument(help="Folder that will hold oxford-iiit-pet/; data/ by default.")
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip", help="Fetch CLIP's weights instead, from the Hugging Face hub.")
    ] = False,
) -> None:
    """Fetch the official Oxford-IIIT Pet data, check its sums and counts, and read every file once."""
    from petseg_utils.download import download_clip, download_oxford

    if clip:
        typer.echo(f"On disk: {download_clip()}")
        return
    typer.echo(f"Complete and checked: {shown(download_oxford(path))}")


def load_study_on(name: str | None, data: Path | None) -> Study:
    """A study, on other data than its own if a folder is given."""
    if data is not None:
        os.environ["PETSEG_DATA"] = str(data)
    return load_study(name)


def read_names(path: Path | None, study: Study) -> set[str] | None:
    """Names of pictures from a file, None without one; says on stderr how many of them are not in the study's data.

    Raises
    ------
    PetsegError
        If there is no such file.
    """
    from petseg_utils.datasets import OFFICIAL_COUNTS, DataError, list_pictures

    if path is None:
        return None
    if not path.is_file():
        raise PetsegError(f"No file {path.name!r} with names of pictures.")
    names = {line.split(",")[0].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
    listed = set()
    for split in OFFICIAL_COUNTS:
        with contextlib.suppress(DataError):
            listed |= {picture.name for picture in list_pictures(study.data_dir, split)}
    if absent := sorted(names - listed - {"name"}):
        typer.echo(f"{len(absent)} of {len(names)} names are not in the data: {', '.join(absent[:5])} …", err=True)
    return names


def tell_skipped(splits: dict) -> None:
    """Say on stderr what was left out of the pictures of each split."""
    told = {finding: split for split, pictures in splits.items() for finding in pictures.skipped}
    for finding, split in told.items():
        typer.echo(f"left out of {split}: {finding.name}: {finding.message}", err=True)


@contextlib.contextmanager
def ctrl_c(sentence: str):
    """Say what goes on after an interruption; exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {sentence}", err=True)
        raise typer.Exit(130) from None


def tell_weights(path: Path, card: dict) -> None:
    """Say which weights are used, and where they come from."""
    encoder = f", encoder {card['encoder']}" if card["encoder"] else ""
    typer.echo(f"Weights: {shown(path)} (study {card['study']}, seed {card['seed']}, epoch {card['epoch']}{encoder})")
