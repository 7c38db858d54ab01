"""The command line's part about one's own photos: `petseg segment`, `petseg demo`, and how fast both are here."""

import contextlib
import math
from pathlib import Path
from typing import Annotated

import typer

from petseg_utils.cli_data import ctrl_c, tell_weights
from petseg_utils.study import PetsegError, load_study, write_json

EXAMPLES = """\b
    Examples:
      petseg segment cat.jpg -o masks
      petseg segment holiday -o masks                   the photos in a folder and its sub-folders
      petseg segment cat.jpg -o clicked --click 310,200 --not 40,420     say in one photo what you mean
    """


@ctrl_c("The same command goes on from here.")
def segment(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO|FOLDER", help="Photos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if need be.")],
    model: Annotated[str | None, typer.Option(help="clip by default; point with --click, --not or --box.")] = None,
    click: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point on the pet, in the photo's pixels; repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--not", metavar="X,Y", help="A point that does not belong to it; repeatable.")
    ] = None,
    box: Annotated[str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Two corners of a box around the pet.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A .safetensors file with its .json card beside it.")] = None,
    study: Annotated[str | None, typer.Option(help="Use this study's own run, not the weights that ship.")] = None,
) -> None:
    """Cut the pets out of photos: masks, overlays, cut-outs, and a table.

    A photo NAME gets NAME_mask.png (0 background, 1 cat, 2 dog), NAME_overlay.jpg and NAME_cutout.png, upright and at
    its own size, and a row in results.csv: class, share of the photo from 0 to 1, box, mean confidence.

    x counts pixels from the left edge, y from the upper one.  The box is taken first, then --click, then --not.  What
    you select is written as cat or dog, whichever is likelier.

    What is done is kept, unless the photo is newer or you click elsewhere: after an interruption the same command goes
    on.  A folder holds the masks of one model.  Photos that cannot be used are left out and listed in failed.csv, and
    the exit code is 1.
    """
    from petseg_utils import checkpoints
    from petseg_utils.photo_folders import RESULTS, about, check_folder, find_photos
    from petseg_utils.segment_files import segment_files
    from petseg_utils.segmenter import Segmenter

    prompts = _prompts(box, click or [], without or [])
    found = find_photos(photos, out)
    if prompts and len(found.photos) > 1:
        raise typer.BadParameter(f"Clicks and boxes are for one photo, and here are {len(found.photos)}.")
    if weights and study:
        raise typer.BadParameter("Weights come from --weights or from --study: give one of them.")
    if model is None and weights is None:
        model = "point" if prompts else "clip"
    path = weights or checkpoints.find_checkpoint(model, load_study(study) if study else None)
    made_by = about(path)
    kind = made_by["model"]
    if model not in (None, kind) or kind == "autoencoder":
        raise PetsegError(f"{path.name} holds the model {kind}, not {model if model != kind else 'one for masks'}.")
    if prompts and kind != "point":
        raise typer.BadParameter(f"The model {kind} takes no clicks and no box; the model point does.")
    check_folder(out, made_by)
    segmenter = Segmenter.load(weights=path)
    tell_weights(path, segmenter.card)
    for sentence in found.left_out:
        typer.echo(sentence, err=True)
    segmented, failed = segment_files(segmenter, found.photos, out, made_by, prompts=prompts)
    before = len(found.photos) - segmented - len(failed)
    typer.echo(f"Segmented: {segmented}; done before: {before}; failed: {len(failed)}. Table: {out / RESULTS}")
    if failed or found.unreadable:
        raise typer.Exit(1)


def demo(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 7860) -> None:
    """Open a page that segments your own photos; nothing leaves this machine."""
    from petseg_utils.app import LAUNCH, make_page

    page = make_page()
    typer.echo(f"Open http://127.0.0.1:{port} in a browser; Ctrl-C stops the page.")
    page.launch(server_name="127.0.0.1", server_port=port, **LAUNCH)


def bench(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the times to this file too.")] = None,
) -> None:
    """Measure what the weights that ship take on this machine: a photo, a click, and each in U-Nets."""
    from petseg_utils.bench import bench_lines, measure

    found = measure()
    typer.echo(bench_lines(found))
    if json_path:
        write_json(json_path, found)
        typer.echo(f"Written to {json_path.name}")


def _prompts(box: str | None, clicks: list[str], without: list[str]) -> list:
    """Boxes and clicks from their options; ill-formed ones are wrong usage."""
    from petseg_utils.prompts import Box, Click

    def numbers(option: str, form: str, text: str) -> list[float]:
        with contextlib.suppress(ValueError):
            found = [float(part) for part in text.split(",")]
            if len(found) == form.count(",") + 1 and all(map(math.isfinite, found)):
                return found
        raise typer.BadParameter(f"{text!r} is not {form}, numbers of pixels with commas between.", param_hint=option)

    said = [Box(*numbers("--box", "X0,Y0,X1,Y1", box))] if box is not None else []
    said += [Click(*numbers("--click", "X,Y", text)) for text in clicks]
    return said + [Click(*numbers("--not", "X,Y", text), positive=False) for text in without]
