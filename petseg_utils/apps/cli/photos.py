"""Commands on one's own photos: `petseg segment`, `petseg demo`, `petseg web`, and `petseg bench`, which times them."""

import contextlib
import math
import os
import socket
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import PIL
import typer

from petseg_utils.apps.cli.options import (
    CHECKPOINT,
    JsonOption,
    RuntimeOption,
    WeightsOption,
    ctrl_c,
    on_screen,
    tell_weights,
)
from petseg_utils.study import PetsegError, write_json
from petseg_utils.study.memory import MMAP_THRESHOLD, set_malloc

if TYPE_CHECKING:
    from petseg_utils.apps.photo_tables import Shard
    from petseg_utils.models.prompts import Box, Click


class Format(StrEnum):
    """Formats of masks, besides PNG; see `mask_formats.write_format`."""

    COCO = "coco"
    POLYGONS = "coco-polygons"
    YOLO = "yolo"


FormatOption = Annotated[
    list[Format] | None,
    typer.Option("--format", help="Also write all masks of the folder in this format; repeatable."),
]
EXAMPLES = """\b
    Examples:
      petseg segment cat.jpg -o masks
      petseg segment holiday -o masks                   the photos in a folder and its sub-folders
      petseg segment cat.jpg -o clicked --click 310,200 --not 40,420     point at the pet in one photo
      petseg segment archive -o masks --shard 3/8       one of 8 processes, wherever they run, with the same -o
      petseg segment --merge masks                      when all 8 have finished
    """


@ctrl_c("Run the same command again to continue.")
def segment(
    given: Annotated[
        list[str] | None, typer.Argument(metavar="PHOTO|FOLDER", help="Photos, or folders of them.")
    ] = None,
    to: Annotated[str | None, typer.Option("--out", "-o", help="Folder for the results; created if needed.")] = None,
    model: Annotated[str | None, typer.Option(help="Default: decoder; with --click, --not or --box: point.")] = None,
    click: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="Point on the pet, in the photo's pixels: adds to the mask; repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="X,Y", help="Point beside the pet: takes away from the mask; repeatable."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Two corners of a box around the pet: limits the mask."),
    ] = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Cut along the model's own, coarser edges, not along the photo's.")
    ] = False,
    formats: FormatOption = None,
    weights: WeightsOption = None,
    study: Annotated[str | None, typer.Option(help="Use this study's run instead of the weights that ship.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --study: its run that was trained on this data.")] = None,
    runtime: RuntimeOption = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Segment only the I-th of N parts of the photos, with its own table."),
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option("--merge", metavar="OUT", help="Join the tables of all shards in this folder; give no photos."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on this Ray cluster, into Parquet files; local starts one here."),
    ] = None,
) -> None:
    """Cut the pets out of photos: masks, overlays, cut-outs, and a table.

    A photo NAME gets NAME_mask.png (0 background, 1 cat, 2 dog), NAME_overlay.jpg and NAME_cutout.png, upright and at
    its own size, and a row in results.csv: class, share of the photo from 0 to 1, box, mean confidence.

    The model sees the photo small, so edges are refined at the photo's own size: cut-outs end softly, in the colours of
    the pet alone.  --hard leaves the edges as the model made them.

    x counts pixels from the left edge, y from the top edge.  The box is taken first, then --click, then --not: they
    correct what the model proposes, all pets of the photo.  The mask is written as cat or dog, whichever is likelier.

    --format coco writes coco.json, with run lengths, which are exact; --format coco-polygons writes outlines, which
    other programs may edit; --format yolo writes a folder yolo with labels/NAME.txt, data.yaml and links to the
    photos.  All cats of a photo are one object there, and all dogs another.

    --shard I/N takes the photos whose names fall into the I-th of N parts, the same ones on every machine, and writes
    results-I-of-N.csv.  --merge OUT joins these tables into results.csv and failed.csv.

    --ray ADDRESS writes Parquet files instead of pictures, with one row per photo: path, class, share, box, confidence,
    masks as COCO's run lengths, and the error if the file is not a photo.  Photos and -o may be addresses, such as
    s3://bucket/x.

    What is done is kept, unless a photo has changed or you click elsewhere: after an interruption the same command
    continues.  A folder holds the masks of one model.  Your own files in it are never replaced: if NAME_mask.png is one
    of them, the results are named after NAME.jpg.  Photos that cannot be used are left out and listed in
    failed.csv, and the exit code is 1.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    from petseg_utils.apps.photo_folders import check_folder, made_by
    from petseg_utils.apps.photo_listing import find_photos
    from petseg_utils.apps.photo_tables import RESULTS, of_shard
    from petseg_utils.apps.segment_folder import segment_photos
    from petseg_utils.models.names import check_name
    from petseg_utils.segmenter import Segmenter

    if merged:
        if given or to or shard or ray:
            raise typer.BadParameter(
                "--merge joins the tables of a folder: give only the folder, and --format if needed."
            )
        _merge(merged, formats or [])
        return
    if not given or not to:
        raise typer.BadParameter("Give photos, or folders of them, and the folder for the results with -o.")
    part = _shard(shard) if shard else None
    if part and formats:
        raise typer.BadParameter("A shard holds only a part of the photos: give --format with --merge instead.")
    prompts = _prompts(box, click or [], without or [])
    if ray and (part or formats or prompts):
        raise typer.BadParameter(
            "--ray cannot be used with shards, clicks, boxes or formats: its masks are in Parquet files."
        )
    out = Path(to)
    listing = None if ray else find_photos([Path(name) for name in given], out, part)
    if prompts and listing and (count := sum(1 for _ in listing)) > 1:
        raise typer.BadParameter(f"Clicks and boxes are for a single photo, but here are {count}.")
    if weights and study:
        raise typer.BadParameter("Weights come from either --weights or --study: give only one of them.")
    if data and not study:
        raise typer.BadParameter("--data names the data that a study's run was trained on: give it with --study.")
    if model:
        check_name(model)
    wanted = model or ("point" if prompts else "decoder")
    if study:
        from petseg_utils.study import load_study
        from petseg_utils.training.checkpoints import find_checkpoint

        weights = find_checkpoint(wanted, load_study(study, data=data))
    segmenter = Segmenter.load(wanted, weights, runtime)
    kind = segmenter.card["model"]
    assert segmenter.weights is not None
    if model not in (None, kind):
        raise PetsegError(f"{segmenter.weights.name} holds the model {kind}, not {model}.")
    if prompts and not segmenter.takes_prompts:
        raise typer.BadParameter(f"The model {kind} takes no clicks or boxes: use the model point.")
    maker = made_by(segmenter, hard=hard, shard=part)
    if listing is None:
        from petseg_utils.apps.segment_ray import segment_by_ray

        tell_weights(segmenter.weights, segmenter.card)
        own = weights.absolute() if weights else None
        rows = segment_by_ray(str(ray), given, to, maker, model=wanted, weights=own, runtime=runtime, hard=hard)
        typer.echo(f"Segmented: {rows.done - rows.failed}; done before: {rows.before}; failed: {rows.failed}. In {to}")
        if rows.failed:
            raise typer.Exit(1)
        return
    check_folder(out, maker)
    tell_weights(segmenter.weights, segmenter.card)
    set_malloc(MMAP_THRESHOLD, 1 << 20)  # glibc returns each large array at once; otherwise it keeps it, per thread
    with logging_redirect_tqdm():  # messages meanwhile get lines of their own, above the bar
        counts = segment_photos(segmenter, listing, out, maker, prompts=prompts, hard=hard, formats=formats or ())
    typer.echo(
        f"Segmented: {counts.segmented}; done before: {counts.before}; failed: {counts.failed}. "
        f"Table: {out / of_shard(RESULTS, part)}"
    )
    if counts.failed or listing.unreadable:
        raise typer.Exit(1)


def _shard(text: str) -> "Shard":
    """Parse a shard as the option gives it; it is a usage error unless it is one of 1/N to N/N."""
    from petseg_utils.apps.photo_tables import MOST_SHARDS, Shard

    index, _, count = text.partition("/")
    if index.isdecimal() and count.isdecimal() and 0 < int(index) <= int(count) <= MOST_SHARDS:
        return Shard(int(index), int(count))
    raise typer.BadParameter(
        f"{text!r} is not I/N: I counts from 1 to N, and N is at most {MOST_SHARDS}.", param_hint="--shard"
    )


def _merge(out: Path, formats: list[Format]) -> None:
    """Join the tables of a folder's shards, and write the masks in other formats."""
    from petseg_utils.apps.mask_formats import check_format, write_format
    from petseg_utils.apps.photo_folders import merge
    from petseg_utils.apps.photo_tables import RESULTS

    for kind in formats:
        check_format(out, kind)
    joined = merge(out)
    for kind in dict.fromkeys(formats):
        write_format(out, kind)
    typer.echo(
        f"Shards joined: {joined.shards}; photos: {joined.photos}; failed: {joined.failed}. Table: {out / RESULTS}"
    )
    if joined.failed:
        raise typer.Exit(1)


def demo(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 7860,
    label: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Label the photos in this folder.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --label: folder for the data set; created if needed.")
    ] = None,
) -> None:
    """Open a page that segments your own photos; nothing leaves this machine.

    With --label FOLDER -o DATASET it walks through a folder of photos.  What you save becomes a data set in the
    official layout, which petseg data audit checks and petseg train learns from.  The same command continues where it
    stopped.
    """
    _check_port(port)
    if int(PIL.__version__.partition(".")[0]) < 13:  # gradio allows pip no newer one
        typer.echo(
            f"Pillow {PIL.__version__} has known faults in its decoders: open only photos that you trust, or first\n"
            "run: pip install --no-deps --upgrade pillow",
            err=True,
        )
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # the page needs no network; gradio would ask for one, and stop at what it cannot read
    from petseg_utils.apps.page import LOOKS, make_page
    from petseg_utils.apps.serving import end_by_signals, serving

    end_by_signals()
    if (label is None) != (out is None):
        raise typer.BadParameter("Give --label and -o together: the photos, and the folder for the data set.")
    with contextlib.ExitStack() as held:
        if label and out:
            from petseg_utils.apps.label_page import make_label_page
            from petseg_utils.apps.labelling import labelling

            data = held.enter_context(labelling(label, out))
            for line in data.listing.left_out:
                typer.echo(line, err=True)
            page = make_label_page(data)
        else:
            page = make_page()
        with serving(page, port, **LOOKS), contextlib.suppress(KeyboardInterrupt):
            typer.echo(f"Open http://127.0.0.1:{port} in a browser; Ctrl-C stops the page.")
            while True:
                time.sleep(60)


def bench(runtime: RuntimeOption = None, json_path: JsonOption = None) -> None:
    """Time the weights that ship, on this machine: a photo, a click, and what the arithmetic alone would take."""
    from petseg_utils.apps.bench import bench_lines, measure

    times = measure(runtime)
    typer.echo(bench_lines(times))
    if json_path:
        write_json(json_path, times)
        typer.echo(f"Written to {json_path.name}")


def export(
    checkpoint: Annotated[Path, typer.Argument(help=f"{CHECKPOINT[:1].upper()}{CHECKPOINT[1:]}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; created if needed.")],
) -> None:
    """Write a trained model as ONNX files, which run without torch: encoder, decoder and click head.

    Keep them together in one folder.  `petseg segment --weights` takes the last one listed, and so does
    `Segmenter.load` in Python.
    """
    from petseg_utils.training.export import export as write

    for path in write(checkpoint, out):
        typer.echo(f"{on_screen(path)}: {path.stat().st_size / 1e6:.1f} MB")


def web(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A single file if it ends in .html, else a folder for a web host.")
    ],
) -> None:
    """Write a page that cuts pets out in the browser itself: it needs no server, and photos stay there.

    `petseg web -o try.html` writes one file, which opens from a disk, without a network.  `petseg web -o site` writes a
    folder for any web host: a browser loads it once and keeps it.
    """
    from petseg_utils.apps.web_page import write_page

    paths = write_page(out)
    size = sum(path.stat().st_size for path in paths) / 1e6
    typer.echo(f"{on_screen(paths[0])}: {size:.1f} MB" + (f" in {len(paths)} files" if len(paths) > 1 else ""))


def _check_port(port: int) -> None:
    """Raise `PetsegError` if no page can be served at a port of this machine."""
    if not 1 <= port <= 65535:
        raise PetsegError(f"There is no port {port}: choose one from 1024 to 65535 with --port.")
    with socket.socket() as probe:
        if os.name == "posix":  # on POSIX this does not mean that others may listen, too
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PetsegError(f"Port {port} cannot be used ({error.strerror}): choose another with --port.") from error


def _prompts(box: str | None, clicks: list[str], without: list[str]) -> "list[Box | Click]":
    """Parse boxes and clicks from their options; a malformed one is a usage error."""
    from petseg_utils.models.prompts import Box, Click

    def numbers(option: str, form: str, text: str) -> list[float]:
        with contextlib.suppress(ValueError):
            values = [float(part) for part in text.split(",")]
            if len(values) == form.count(",") + 1 and all(map(math.isfinite, values)):
                return values
        raise typer.BadParameter(
            f"{text!r} is not {form}: give numbers of pixels, with commas between.", param_hint=option
        )

    boxes = [Box(*numbers("--box", "X0,Y0,X1,Y1", box))] if box is not None else []
    wanted = [Click(x, y) for x, y in (numbers("--click", "X,Y", text) for text in clicks)]
    unwanted = [Click(x, y, positive=False) for x, y in (numbers("--not", "X,Y", text) for text in without)]
    return [*boxes, *wanted, *unwanted]
