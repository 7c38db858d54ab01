"""Commands on data: `petseg data …`."""

from pathlib import Path
from typing import Annotated

import typer

from petseg_utils.apps.cli.options import JsonOption, StudyOption, on_screen
from petseg_utils.study import PetsegError, write_json

data_app = typer.Typer(help="Fetch, check and draw data.", no_args_is_help=True)


@data_app.command("audit")
def data_audit(
    path: Annotated[Path | None, typer.Argument(help="Data folder; the study's by default.")] = None,
    study: StudyOption = None,
    json_path: JsonOption = None,
) -> None:
    """Read every photo and mask and list what is wrong; exit 1 if anything cannot be used."""
    from petseg_utils.data.audit import audit, audit_lines
    from petseg_utils.study import load_study

    findings = audit(path or load_study(study).data_dir)
    typer.echo(audit_lines(findings))
    if json_path:
        write_json(json_path, findings)
        typer.echo(f"Written to {json_path.name}")
    if findings["errors"]:
        raise typer.Exit(1)


@data_app.command("sample")
def data_sample(
    path: Annotated[Path | None, typer.Argument(help="Folder to draw into; the study's data by default.")] = None,
    study: StudyOption = None,
) -> None:
    """Draw the embedded pictures of a study, in the official layout."""
    from petseg_utils.data.drawing.sample import draw_sample
    from petseg_utils.study import load_study

    chosen = load_study(study)
    if chosen.data != "sample":
        raise PetsegError(f"Study {chosen.name!r} uses the official data; `petseg data download` fetches it.")
    typer.echo(f"Drawn: {on_screen(draw_sample(path or chosen.data_dir, chosen.sample_trainval, chosen.sample_test))}")


@data_app.command("cache")
def data_cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the caches; they are made again when needed.")] = False,
) -> None:
    """Show the caches of decoded pictures and of features, and their sizes."""
    from petseg_utils.models.feature_cache import caches, clear_caches
    from petseg_utils.study import load_study

    folder = load_study().cache_dir
    listed = caches(folder)
    for cache in listed:
        typer.echo(f"{cache['megabytes']:8,.0f} MB  {cache['name']}  {cache['what']}")
    typer.echo(f"{sum(cache['megabytes'] for cache in listed):8,.0f} MB  in all, under {on_screen(folder)}")
    if clear:
        clear_caches(folder)
        typer.echo("Deleted.")


@data_app.command("download")
def data_download(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER|SPEC]",
            help="Folder that will hold oxford-iiit-pet/ (default: data/); with --clip the weights, as clip:MODEL/TAG.",
        ),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip", help="Fetch CLIP weights instead, from the Hugging Face hub.")
    ] = False,
) -> None:
    """Fetch the official Oxford-IIIT Pet data, verify its checksums and counts, and read every file once.

    With --clip fetch the weights of the study's CLIP, or of another:
    petseg data download --clip clip:ViT-L-14-quickgelu/openai
    """
    from petseg_utils.data.download import download_oxford
    from petseg_utils.models.clip import CLIP, download_clip

    if clip:
        path, fetched = download_clip(what or CLIP)
        typer.echo(f"{'Fetched' if fetched else 'On disk already'}: {what or CLIP}, {path.name}")
        return
    typer.echo(f"Complete and checked: {on_screen(download_oxford(Path(what) if what else None))}")
