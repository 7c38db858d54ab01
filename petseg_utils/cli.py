"""The command line: `petseg …`."""

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from petseg_utils.study import PetsegError, Study, load_study, shown, write_json

app = typer.Typer(
    help="""Four ways to cut a pet out of a photo, compared on Oxford-IIIT Pet.

    \b
    First steps:
      petseg report                     run the notebooks on the embedded pictures; open reports/sample/index.html
      petseg demo                       segment your own photos on a page of this machine
    \b
    On the real data:
      petseg data download              fetch Oxford-IIIT Pet, about 800 MB
      petseg train unet --study oxford-cpu
      petseg evaluate unet --study oxford-cpu
      petseg train autoencoder_unet --study oxford-cpu     trains the autoencoder first, if it is not there
      petseg train clip --study oxford-cpu        a decoder on a frozen encoder; --encoder names one

    A study is a file of settings: smoke (seconds), sample (minutes, the default), oxford-cpu (an hour), oxford (a GPU).
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Fetch, check and draw data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

StudyOption = Annotated[
    str | None,
    typer.Option(help="smoke, sample, oxford-cpu, oxford, or a .toml file; PETSEG_STUDY is the default, else sample."),
]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the data, instead of the study's own.")]
NamesOption = Annotated[
    Path | None, typer.Option(help="Use only the pictures that this file names, one a line (first column of a CSV).")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that have errors; list them.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="unet; autoencoder; autoencoder_unet, on its encoder; clip, a decoder on a frozen encoder; or "
        "clip_selftrained, see PETSEG_UNLABELLED."
    ),
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    # Threads that wait spin for a moment only: as fast on an idle machine, and not many times slower on a busy one.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing touches the network unless a download was asked for
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@app.command()
def report(
    study: StudyOption = None,
    only: Annotated[str | None, typer.Option(help="Run these notebooks only, for instance 01,02.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Execute the committed notebooks again instead of making pages.")
    ] = False,
) -> None:
    """Run the notebooks in order and render reports/STUDY/index.html."""
    from petseg_utils.report import build_report, execute_in_place

    chosen = load_study(study)
    numbers = [part.strip() for part in only.split(",")] if only else None
    failures = (execute_in_place if in_place else build_report)(chosen, only=numbers)
    if not in_place:
        typer.echo(f"Open reports/{chosen.name}/index.html")
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def train(
    model: ModelArgument,
    study: StudyOption = None,
    seed: Annotated[
        int | None, typer.Option(help="One seed; by default all of the study's, one after the other.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut, from its last epoch.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Frozen encoder for clip: clip:MODEL/TAG, clip:MODEL//path/to/file, lite:efficientnet_lite0."
        ),
    ] = None,
    data: DataOption = None,
    names: NamesOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Train a model; checkpoints and history go to runs/STUDY/MODEL-seedN/."""
    from petseg_utils import checkpoints, models

    chosen = _study(study, data)
    if encoder:
        chosen = replace(chosen, encoder=encoder)
    splits = models.study_splits(chosen, names=_names(names, chosen), skip_bad=skip_bad)
    _tell_skipped(splits)
    for one in chosen.seeds if seed is None else [seed]:
        folder = checkpoints.run_folder(model, chosen, one)
        typer.echo(f"{model}, seed {one}: {len(splits['train'])} training pictures; checkpoints in {shown(folder)}")
        try:
            models.train(model, chosen, one, splits, resume=resume)
        except KeyboardInterrupt:
            typer.echo("\nStopped. The same command with --resume goes on from the last finished epoch.", err=True)
            raise typer.Exit(130) from None


@app.command()
def evaluate(
    model: ModelArgument,
    study: StudyOption = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Annotated[int | None, typer.Option(help="Which of the study's runs; its first seed by default.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A .safetensors file with its .json card beside it.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file too.")] = None,
    names: NamesOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Score a model under the three protocols, with 95 % intervals.

    The weights that ship are used unless --study (that study's own run) or --weights is given.  PETSEG_STUDY plays no
    part here.
    """
    from petseg_utils import checkpoints, models
    from petseg_utils.evaluation import append_records, make_records, predict
    from petseg_utils.pictures import load_pictures
    from petseg_utils.results import score_lines

    if model == "autoencoder":
        raise PetsegError("An autoencoder makes no masks: evaluate autoencoder_unet. Its PSNR stands in history.csv.")
    if seed is not None and (weights or not study):
        raise PetsegError("--seed chooses among a study's runs: give it with --study, and without --weights.")
    path = weights or checkpoints.find_checkpoint(model, load_study(study) if study else None, seed)
    network, card = checkpoints.load(path)
    if card["model"] != model:
        raise PetsegError(f"{path.name} holds a {card['model']}, not a {model}.")
    chosen = _study(study or card["study"], data)
    if (chosen.name, chosen.image_size) != (card["study"], card["image_size"]):
        raise PetsegError(
            f"{path.name} was trained by study {card['study']!r} at {card['image_size']} px, not by {chosen.name!r} at "
            f"{chosen.image_size} px. Name its own study."
        )
    models.draw_study_data(chosen)
    pictures = load_pictures(chosen, split, names=_names(names, chosen), skip_bad=skip_bad)
    _tell_skipped({split: pictures})
    typer.echo(f"Weights: {shown(path)} (study {card['study']}, seed {card['seed']}, epoch {card['epoch']})")
    records = make_records(chosen, card, split, pictures, predict(network, pictures, progress=True), network)
    append_records(chosen.runs_dir / "records.jsonl", records)
    typer.echo(score_lines(records))
    if json_path:
        subsets = {}
        for record in records:
            part = subsets.setdefault(
                record["subset"], {"n_images": record["n_images"], "n_breeds": record["n_breeds"]}
            )
            part.setdefault("protocols", {})[record["protocol"]] = record["scores"]
        same = {key: records[0][key] for key in ("model", "encoder", "data", "split")}
        about = {key: records[0][key] for key in ("study", "seed", "trained_on", "versions", "commit")}
        write_json(json_path, same | subsets.pop("all") | {"subsets": subsets} | about)
        typer.echo(f"Written to {json_path.name}")


@app.command()
def demo(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 7860) -> None:
    """Open a page that segments your own photos; nothing leaves this machine."""
    from petseg_utils.app import THEME, make_page

    page = make_page()
    typer.echo(f"Open http://127.0.0.1:{port} in a browser; Ctrl-C stops the page.")
    page.launch(server_name="127.0.0.1", server_port=port, share=False, theme=THEME, footer_links=[], quiet=True)


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


def _study(name: str | None, data: Path | None):
    if data is not None:
        os.environ["PETSEG_DATA"] = str(data)
    return load_study(name)


def _names(path: Path | None, study: Study) -> set[str] | None:
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


def _tell_skipped(splits: dict) -> None:
    told = {finding: split for split, pictures in splits.items() for finding in pictures.skipped}
    for finding, split in told.items():
        typer.echo(f"left out of {split}: {finding.name}: {finding.message}", err=True)


def main() -> None:
    """Run the command line; a `PetsegError` or a full disk becomes one line and exit code 1."""
    try:
        app()
    except (PetsegError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"petseg: {error}", err=True)
        sys.exit(1)
