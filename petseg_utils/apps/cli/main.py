"""The command line `petseg`, and its commands on studies: report, train and evaluate."""

import errno
import logging
import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from PIL import Image
from tqdm import tqdm

from petseg_utils import __version__
from petseg_utils.apps.cli.data import data_app
from petseg_utils.apps.cli.options import (
    CheckpointOption,
    DataOption,
    JsonOption,
    NamesOption,
    SkipOption,
    StudyOption,
    ctrl_c,
    on_screen,
    read_names,
    tell_skipped,
    tell_weights,
)
from petseg_utils.apps.cli.photos import EXAMPLES, bench, demo, export, segment, web
from petseg_utils.study import PetsegError, shown, write_json
from petseg_utils.study.paths import placed

app = typer.Typer(
    help="""Four ways to cut a pet out of a photo, compared on Oxford-IIIT Pet.

    \b
    First steps:
      petseg report                     run the notebooks on the embedded pictures; open reports/sample/index.html
      petseg demo                       segment your own photos on a local web page
      petseg segment PHOTOS -o MASKS    the same for files and folders: masks, overlays, cut-outs, a table
      petseg web -o try.html            the same page as one file that needs no server
      petseg bench                      time a photo and a click on this machine
    \b
    On the real data:
      petseg data download              fetch Oxford-IIIT Pet, about 800 MB
      petseg train unet --study oxford-cpu
      petseg evaluate unet --study oxford-cpu
      petseg train autoencoder_unet --study oxford-cpu     trains the autoencoder first, if there is none
      petseg train decoder --study oxford-cpu              a decoder on a frozen encoder; --encoder names one
      petseg sweep --study oxford-cpu --models unet,decoder --jobs 2     train what is missing, with all seeds

    A study is a file of settings: smoke (seconds), sample (minutes, the default), oxford-cpu (hours), oxford-gpu
    and oxford (a GPU).
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="unet; autoencoder; autoencoder_unet (on its encoder); decoder (on a frozen encoder); point (takes "
        "clicks); or decoder_selftrained (see PETSEG_UNLABELLED)."
    ),
]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"petseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback if something fails.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    logging.basicConfig(format="%(message)s")  # to stderr
    if sys.getfilesystemencoding() == "ascii":
        raise PetsegError("Python reads file names as ASCII here: unset PYTHONUTF8, or set LC_ALL=C.UTF-8.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such photos get a sentence of their own
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about EXIF data that it had to skip
    logging.getLogger("petseg_utils").setLevel(logging.INFO)
    # Waiting threads spin only for a moment: as fast on an idle machine, and not many times slower on a busy one.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@app.command()
@ctrl_c("Finished pages and trainings are kept, and the same command reuses the trainings.")
def report(
    study: StudyOption = None,
    only: Annotated[str | None, typer.Option(help="Run only these notebooks, for instance 01,02.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Execute the committed notebooks again instead of making pages.")
    ] = False,
    planned: Annotated[
        bool, typer.Option("--plan", help="Estimate what the whole data set takes, in GB and hours, and run nothing.")
    ] = False,
) -> None:
    """Run the notebooks in order and render reports/STUDY/index.html."""
    from petseg_utils.apps.web_page import write_page
    from petseg_utils.report.plan import plan
    from petseg_utils.report.run import build_report, execute_in_place, report_folder
    from petseg_utils.study import load_study

    chosen = load_study(study)
    if planned:
        typer.echo(plan(chosen))
        return
    numbers = [part.strip() for part in only.split(",")] if only else None
    if in_place:
        failures = execute_in_place(chosen, only=numbers)
    else:
        failures = build_report(chosen, only=numbers, write_page=write_page)
        typer.echo(f"Open {on_screen(report_folder(chosen) / 'index.html')}")
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
        bool, typer.Option("--resume", help="Continue an interrupted run from its last finished epoch.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Frozen encoder of decoder, decoder_selftrained and point: clip:MODEL/TAG, clip:MODEL//path/to/file, "
            "lite:efficientnet_lite0, lite:efficientnet_lite0+2x, lite:efficientnet_lite0@224+448."
        ),
    ] = None,
    data: DataOption = None,
    extra: Annotated[
        list[Path] | None, typer.Option(help="Folder of further labelled pictures to learn from; repeatable.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Checkpoint to start from instead of the study's own.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Checkpoint that proposes masks for the pictures of PETSEG_UNLABELLED.")
    ] = None,
    names: NamesOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Train a model; checkpoints and history go to runs/STUDY/MODEL-seedN/.

    With --data they go to a folder of their own in runs/STUDY/, so that the study's run stays as it is; evaluate and
    segment find it by the same --study and --data.

    On several GPUs or CPUs: accelerate launch -m petseg_utils train … or torchrun --nproc-per-node N -m petseg_utils
    train …
    """
    from petseg_utils.models.names import check_name
    from petseg_utils.study import load_study

    check_name(model)
    chosen = load_study(study, data=data)  # what is wrong so far is told before PyTorch is loaded, which takes seconds

    from petseg_utils.data.extra_labels import check_extra, read_extra
    from petseg_utils.data.pictures import load_splits
    from petseg_utils.training import checkpoints
    from petseg_utils.training.process import set_up_process, together
    from petseg_utils.training.recipes import recipe_of
    from petseg_utils.training.train import train as train_model

    recipe = recipe_of(model)
    set_up_process()
    if encoder:
        chosen = replace(chosen, encoder=placed(encoder, Path.cwd()))
    with together() as main_process:
        splits = load_splits(chosen, names=read_names(names, chosen), skip_bad=skip_bad)
        if main_process:
            tell_skipped(splits)
        pictures = read_extra(extra, chosen) if extra else None
        if pictures:
            check_extra(pictures, splits)
        given: dict[str, Any] = {"start": start, "teacher": teacher, "extra": pictures, "resume": resume}
        for number in chosen.seeds if seed is None else [seed]:
            folder = on_screen(checkpoints.run_folder(model, chosen, number))
            if main_process:
                typer.echo(f"{model}, seed {number}: {len(splits['train'])} training pictures; checkpoints in {folder}")
            with ctrl_c("The same command with --resume goes on from the last finished epoch."):
                train_model(recipe, chosen, number, splits, **given)


@app.command()
@ctrl_c("Run the same command again to continue.")
def sweep(
    models: Annotated[str, typer.Option(help="Models to train, for instance unet,decoder.")],
    study: StudyOption = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, for instance 0,1,2; by default the study's own.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many trainings run at the same time.")] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(help="slurm submits each training to Slurm with submitit; local imitates that on this machine."),
    ] = None,
) -> None:
    """Train models with several seeds, each in a process of its own, where a run is missing or out of date.

    The model that another starts from is trained first.  Each training has its log in runs/STUDY/logs/.  If one fails,
    the others go on, and the exit code is 1; the same command then trains only what is missing.

    On Slurm, sbatch reads partition, time limit and so on from its variables: SBATCH_PARTITION, SBATCH_TIMELIMIT, ...
    """
    from petseg_utils.apps.sweep import run_sweep
    from petseg_utils.study import load_study

    chosen = load_study(study)
    try:
        numbers = [int(part) for part in seeds.split(",")] if seeds is not None else chosen.seeds
        if min(numbers) < 0:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{seeds!r} is not a list of seeds such as 0,1,2.", param_hint="--seeds") from None
    names = [part.strip() for part in models.split(",")]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # or training runs would outlive this process
    try:
        failed = run_sweep(chosen, names, numbers, jobs=jobs, cluster=cluster, study_option=study)
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: ModelArgument,
    study: StudyOption = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split to score: train, validation or test.")] = "test",
    seed: Annotated[int | None, typer.Option(help="Seed of the study's run; its first seed by default.")] = None,
    weights: CheckpointOption = None,
    json_path: JsonOption = None,
    names: NamesOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Score a model under the three protocols, with 95 % intervals.

    The weights that ship with petseg are scored unless --weights or --study is given.  --study takes that study's run:
    the one that was trained on --data if there is one, else its own.  PETSEG_STUDY is not used here.
    """
    from petseg_utils.models.names import check_name
    from petseg_utils.study import load_study

    check_name(model)
    if seed is not None and (weights or not study):
        raise PetsegError("--seed chooses among a study's runs: give it with --study, and without --weights.")
    own = load_study(study) if study else None  # what is wrong so far is told before PyTorch is loaded

    from petseg_utils.data.pictures import load_pictures
    from petseg_utils.scores.clicks import add_clicks, click_values
    from petseg_utils.scores.predictions import predict
    from petseg_utils.scores.records import append_records, make_records
    from petseg_utils.scores.results import score_lines
    from petseg_utils.training import checkpoints
    from petseg_utils.training.process import set_up_process
    from petseg_utils.training.recipes import recipe_of

    recipe = recipe_of(model)
    set_up_process()
    if not recipe.makes_masks:
        raise PetsegError(f"The {model} makes no masks: evaluate autoencoder_unet. The PSNR is in its history.csv.")
    if own and not weights:
        on_data = checkpoints.run_folder(model, load_study(study, data=data), own.seeds[0] if seed is None else seed)
        weights = there if (there := on_data / "best.safetensors").is_file() else None
    path = weights or checkpoints.find_checkpoint(model, own, seed)
    network, card = checkpoints.load(path)
    if card["model"] != model:
        raise PetsegError(f"{path.name} holds the model {card['model']}, not {model}.")
    chosen = load_study(study or card["study"], data=data)
    if (chosen.name, chosen.image_size) != (card["study"], card["image_size"]):
        raise PetsegError(
            f"{path.name} was trained by study {card['study']!r} at {card['image_size']} px, not by {chosen.name!r} at "
            f"{chosen.image_size} px. Give its own study with --study."
        )
    if card.get("encoder_spec"):  # it says at what sizes photos are read
        chosen = replace(chosen, encoder=card["encoder_spec"])
    pictures = load_pictures(chosen, split, names=read_names(names, chosen), skip_bad=skip_bad)
    tell_skipped({split: pictures})
    tell_weights(path, card)
    records = make_records(chosen, card, split, pictures, predict(network, pictures, progress=True), network)
    if recipe.takes_prompts:
        clicks = click_values(cast(Any, network), pictures, progress=True)
        add_clicks(records, clicks, pictures, chosen.bootstrap_resamples)
    typer.echo(score_lines(records))  # first, so that they are not lost if the records cannot be written
    append_records(chosen.runs_dir / "records.jsonl", records)
    if json_path:
        subsets: dict[str, dict] = {}
        for record in records:
            part = subsets.setdefault(
                record["subset"], {"n_images": record["n_images"], "n_breeds": record["n_breeds"]}
            )
            part.setdefault("protocols", {})[record["protocol"]] = record["scores"]
            part |= {"clicks": record["clicks"]} if "clicks" in record else {}
        same = {key: records[0][key] for key in ("model", "encoder", "data", "split")}
        origin = {key: records[0][key] for key in ("study", "seed", "trained_on", "versions", "commit")}
        write_json(json_path, same | subsets.pop("all") | {"subsets": subsets} | origin)
        typer.echo(f"Written to {json_path.name}")


app.command(epilog=EXAMPLES)(segment)
app.command()(demo)
app.command()(web)
app.command()(bench)
app.command()(export)


def main() -> None:
    """Run the command line; a `PetsegError`, a missing package or a full disk becomes one line and exit code 1."""
    try:
        app()
    except ModuleNotFoundError as error:
        if "--debug" in sys.argv or (error.name or "").startswith("petseg_utils"):
            raise
        extra = "demo" if error.name in ("anywidget", "gradio", "ipywidgets", "traitlets") else "study"
        typer.echo(
            f"petseg: this needs {error.name}, which is not installed. In a checkout of petseg, run: "
            f"pip install '.[{extra}]'",
            err=True,
        )
        sys.exit(1)
    except (PetsegError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        said = f"petseg: {_in_words(error) if isinstance(error, OSError) else error}"
        tqdm.write(said, file=sys.stderr)  # on a line of its own, in case a bar was interrupted
        sys.exit(1)


def _in_words(error: OSError) -> str:
    """Say what the system refused and how to put it right, without showing a path of this machine."""
    if not error.strerror:
        return str(error)
    place = shown(Path(os.fsdecode(error.filename))).removesuffix(".lock") if error.filename else "a file"
    advice = (
        " Make room or change its permissions, or name another place: by the command's own option, by PETSEG_RUNS for "
        "runs and caches, or by PETSEG_DATA for data."
    )
    return f"Could not use {place} ({error.strerror}).{advice if error.errno in _REFUSED else ''}"


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
