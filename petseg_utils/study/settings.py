"""A study, read from one TOML file: the settings in which studies differ, and where its files go."""

import hashlib
import os
import re
import reprlib
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator, ConfigDict, Strict, ValidationError
from pydantic.dataclasses import dataclass

from petseg_utils.study.paths import OUTPUTS, STUDIES, PetsegError, placed
from petseg_utils.study.renamed import RENAMED


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values if none occurs twice."""
    if len(set(values)) < len(values):
        raise ValueError("each number may be given only once")
    return values


# Strict: "32" is not a number, and true is not 1.  The upper limits are beyond what anybody trains with, but within
# what memory holds, since a file may come from anywhere.
Flag = Annotated[bool, Strict()]
Natural = Annotated[int, Strict(), Ge(0), Le(1_000_000)]
Count = Annotated[int, Strict(), Ge(1), Le(1_000_000)]
Edge = Annotated[int, Strict(), Ge(16), Le(1024)]
Width = Annotated[int, Strict(), Ge(1), Le(1024)]
BatchSize = Annotated[int, Strict(), Ge(1), Le(4096)]
Number = Annotated[float, Strict(), Ge(0), Le(1_000)]
Positive = Annotated[float, Strict(), Gt(0), Le(1_000)]
Share = Annotated[float, Strict(), Ge(0), Le(1)]
Seed = Annotated[int, Strict(), Ge(0), Lt(2**32)]  # as NumPy takes them
Seeds = Annotated[tuple[Seed, ...], MinLen(1), MaxLen(100), AfterValidator(_distinct)]
# Which of an encoder's maps are used; no encoder has more than six.
Maps = Annotated[tuple[Annotated[int, Strict(), Ge(0), Lt(6)], ...], AfterValidator(_distinct)]
CHECKED = ConfigDict(extra="forbid")
LARGEST_FILE = 1_000_000  # most bytes of a study's file


@dataclass(frozen=True, config=CHECKED)
class TrainingSettings:
    """How one model is trained.

    The settings in a card or a record are accepted too: lists become tuples, and missing settings get their defaults.

    Parameters
    ----------
    width : int
        Channels of the first stage; of a decoder, those of its top-down path.
    epochs, batch_size : int
        The most passes over the training pictures; pictures per step.
    learning_rate, weight_decay : float
        Peak of the one-cycle schedule; AdamW's decoupled weight decay.
    patience : int
        Stop after this many epochs in a row without a better validation score.
    mixed_precision : str
        ``"no"`` or ``"bf16"``; ``"auto"`` is ``"bf16"`` where the machine has instructions for it (about twice as
        fast), else ``"no"``.  A checkpoint's card says which was used.
    dice : float
        Weight of the Dice loss, where the cross-entropy has weight 1; 0 leaves it out.
    average : float
        Decay of an exponential moving average of the weights, which is updated after each step, and is then what is
        scored and kept; 0 keeps the weights themselves.
    maps : tuple of int
        Decoder only: which of the encoder's maps it uses, counted from 0; all of them by default.
    stem : bool
        Decoder only: whether it also sees the picture itself.
    dropout : float
        Decoder and point only: share of the decoder's channels that are dropped at random in training.
    crop : int
        Autoencoder only: edge in pixels of the random window to which each step's pictures are cropped; 0 for none.
    hidden : float
        Autoencoder only: share of the patches, 0 to 1, that it has to reconstruct without seeing them.
    skips : bool
        Autoencoder only: whether its decoder gets the encoder's fine maps, past the bottleneck.
    frozen : bool
        Pre-trained U-Net only: whether the encoder stays as the autoencoder trained it.
    scales : tuple of float
        For augmented pictures: least and greatest factor by which they are scaled.
    shift : float
        For augmented pictures: the most by which they are moved, as a share of their edge.
    mosaic : float
        For augmented pictures: share of the examples that combine four pictures in one, so that pets are small, several
        or cut off.
    background : float
        For augmented pictures: share of the examples that show a part of a picture without any pet.
    paste : float
        For augmented pictures: share of the examples, mosaics excluded, that get another picture's pet pasted in.
    unlabelled : float
        Decoder and point only: share of the examples that are pictures without masks, for which another checkpoint
        proposes masks; 0 for none.
    examples : int
        Decoder and point only, with `cache`: number of augmented pictures that are made once, and used for training
        instead of the pictures themselves; 0 for none.
    cache : bool
        Decoders on a frozen encoder only: train on cached features of the pictures and their mirror images, which is
        fast.  Without it, pictures are augmented as for the U-Net, and the encoder runs at every step.
    """

    width: Width
    epochs: Count
    batch_size: BatchSize
    learning_rate: Positive
    weight_decay: Number = 1e-4
    patience: Count = 10
    mixed_precision: Literal["no", "bf16", "auto"] = "no"
    dice: Number = 0.0
    average: Annotated[float, Strict(), Ge(0), Lt(1)] = 0.0
    maps: Maps = ()
    stem: Flag = True
    dropout: Annotated[float, Strict(), Ge(0), Lt(1)] = 0.0
    crop: Annotated[int, Strict(), Ge(0), Le(1024)] = 0
    hidden: Share = 0.0
    skips: Flag = False
    frozen: Flag = True
    scales: tuple[Positive, Positive] = (0.8, 1.25)
    shift: Share = 0.08
    mosaic: Share = 0.0
    background: Share = 0.0
    paste: Share = 0.0
    unlabelled: Annotated[float, Strict(), Ge(0), Lt(1)] = 0.0
    examples: Natural = 0
    cache: Flag = True


@dataclass(frozen=True, config=CHECKED)
class GridSettings:
    """The small grid search of notebook 02: every learning rate with every batch size, each for a few epochs."""

    learning_rates: Annotated[tuple[Positive, ...], MinLen(1), MaxLen(100)]
    batch_sizes: Annotated[tuple[BatchSize, ...], MinLen(1), MaxLen(100)]
    epochs: Count


@dataclass(frozen=True, config=CHECKED)
class LabelSettings:
    """The experiments of notebooks 03 and 04 with few labels: many short runs on small pictures.

    Parameters
    ----------
    image_size : int
        Edge of the letterboxed square in pixels, for these runs.
    epochs : int
        Epochs with all labels; a run with fewer labels takes as many steps.
    shares : tuple of float
        Shares of the training pictures whose labels are used, 0 to 1.
    seeds : tuple of int
        Each share is drawn and trained with each of these seeds.
    """

    image_size: Edge
    epochs: Count
    shares: Annotated[tuple[Annotated[float, Strict(), Gt(0), Le(1)], ...], MinLen(1), MaxLen(100)]
    seeds: Seeds


@dataclass(frozen=True, config=CHECKED)
class RobustnessSettings:
    """The sweep of notebook 06 over perturbed test pictures, and its training with noise.

    Parameters
    ----------
    pictures : int
        Number of test pictures that are perturbed; 0 for all.
    noise_epochs : int
        Number of epochs for which a trained model continues training, with and without noise.
    """

    pictures: Natural = 0
    noise_epochs: Count = 2


@dataclass(frozen=True, config=CHECKED)
class Study:
    """One study.

    Settings from its file:

    Parameters
    ----------
    name : str
        The file's name without its ending; runs and figures go into folders of this name.
    title : str
        One line for reports.
    data : str
        ``"sample"`` (the embedded pictures, drawn on demand) or ``"oxford"`` (the official data set).
    image_size : int
        Edge of the letterboxed square in pixels.
    validation_share : float
        Share of ``trainval`` that is held out, 0 to 1.
    seeds : tuple of int
        One training run is made with each seed; figures show the first one.
    bootstrap_resamples : int
        Number of resamples of pictures for the intervals of scores.
    encoder : str
        The frozen encoder, as `models.encoders.load_encoder` takes it.  A relative path of weights starts at the
        folder of the study's file.
    models : dict of str to TrainingSettings
        How each model is trained, by its name; see `training.recipes`.
    unet_grid : GridSettings
        The grid search of notebook 02.
    labels : LabelSettings
        The experiments with few labels, in notebooks 03 and 04.
    ablation_epochs : int
        Epochs of the runs in notebook 04 that leave out a part of the decoder.
    robustness : RobustnessSettings
        The sweep over perturbed pictures, in notebook 06.
    sample_trainval, sample_test : int
        Numbers of pictures to draw; used only with ``data = "sample"``.

    Absolute paths, from the environment or by default, and what follows from them (see `load_study`):

    Parameters
    ----------
    data_dir : Path
        The pictures.
    runs_dir : Path
        Checkpoints, records and logs of this study.
    cache_dir : Path
        Decoded pictures and feature maps of all studies.
    figures_dir : Path
        Figures and tables.
    unlabelled_dir, elsewhere_dir : Path or None
        Pictures without masks for training; labelled pictures from elsewhere for testing.
    draws_its_data : bool
        Whether the pictures are the embedded ones, and so may be shown in committed figures.
    on_other_data : bool
        Whether other pictures than the study's own were named, so that its runs have a separate folder.
    """

    name: str
    title: str
    data: Literal["sample", "oxford"]
    image_size: Edge
    validation_share: Annotated[float, Strict(), Gt(0), Lt(1)]
    seeds: Seeds
    bootstrap_resamples: Count
    encoder: str
    models: dict[str, TrainingSettings]
    unet_grid: GridSettings
    labels: LabelSettings
    ablation_epochs: Count
    data_dir: Path
    runs_dir: Path
    cache_dir: Path
    figures_dir: Path
    robustness: RobustnessSettings = RobustnessSettings()
    sample_trainval: Natural = 0
    sample_test: Natural = 0
    unlabelled_dir: Path | None = None
    elsewhere_dir: Path | None = None
    draws_its_data: Flag = False
    on_other_data: Flag = False

    @property
    def picture_scale(self) -> int:
        """How many times as large as ``image_size`` the photos for the encoder must be; see `models.encoders`."""
        return 2 if self.encoder.startswith("lite:") and "@" in self.encoder else 1

    def settings(self, model: str) -> TrainingSettings:
        """Return the study's settings for training a model.

        Raises
        ------
        PetsegError
            If the study does not train this model.
        """
        if model not in self.models:
            raise PetsegError(f"Study {self.name!r} has no settings [models.{model}]; it has {', '.join(self.models)}.")
        return self.models[model]


_PLACES = (
    "name",
    "data_dir",
    "runs_dir",
    "cache_dir",
    "figures_dir",
    "unlabelled_dir",
    "elsewhere_dir",
    "draws_its_data",
    "on_other_data",
)


def load_study(name: str | None = None, *, data: Path | None = None) -> Study:
    """Read a study from its file and from the environment, where no other code reads these variables.

    ``PETSEG_STUDY`` names the study if none is given; ``PETSEG_DATA`` the folder of its pictures; ``PETSEG_RUNS`` the
    folder of all runs, ``runs/`` by default; ``PETSEG_FIGURES`` the folder in which each study gets a folder of
    figures, by default one among the study's runs; ``PETSEG_UNLABELLED`` a folder of pictures without masks for
    training; and ``PETSEG_OOD`` one of labelled pictures from elsewhere for testing.

    Parameters
    ----------
    name : str, optional
        A study that ships (``smoke``, ``sample``, ``oxford``, ``oxford-cpu``, ``oxford-gpu``, ``shipped``,
        ``rehearsal``) or the path of a TOML file; by default the environment variable ``PETSEG_STUDY``, else
        ``sample``.
    data : Path, optional
        Folder of the pictures, instead of the study's own.  What is trained and scored on them goes into a separate
        folder among the study's runs, so that it neither replaces the study's own results nor is taken for them.

    Raises
    ------
    PetsegError
        If there is no such study, a key is unknown, missing or out of range, or a variable names a missing folder.
    """
    if not OUTPUTS.is_absolute():
        raise PetsegError("There is no home folder to keep data and runs in: set HOME to one.")
    name = name or os.environ.get("PETSEG_STUDY") or "sample"
    path = Path(name).expanduser() if name.endswith(".toml") else STUDIES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STUDIES.glob("*.toml")))
        raise PetsegError(f"No study {name!r}. Name one of {known}, or the path of a .toml file.")
    if not re.fullmatch(r"\w[\w .+-]*", path.stem) or path.stem == "cache":
        raise PetsegError(
            f"The study {path.name!r} would give its folder of runs the name {path.stem!r}: rename the file to a "
            "word other than cache."
        )
    if path.resolve() != (STUDIES / path.name).resolve() and (STUDIES / path.name).is_file():
        raise PetsegError(f"{path.name} has the name of a study that ships; give your file another name.")
    if path.stat().st_size > LARGEST_FILE:
        raise PetsegError(f"{path.name}: not a study, because it is larger than a megabyte.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML, not even text, or a number with thousands of digits
        raise PetsegError(f"{path.name}: not valid TOML: {error}.") from error
    if own := next((key for key in _PLACES if key in values), None):
        told = "a study is named by its file" if own == "name" else "folders come from the environment"
        raise PetsegError(f"{path.name}: {told}; take the key {own!r} out.")
    for table, model in RENAMED.items():
        if table in values or (isinstance(values.get("models"), dict) and table in values["models"]):
            raise PetsegError(f"{path.name}: the model {table} is called {model} now; write [models.{model}].")
    # All runs and caches lie in `root`.
    root = Path(os.environ.get("PETSEG_RUNS") or OUTPUTS / "runs").expanduser().absolute()
    runs = root / path.stem
    named_data = _folder_from("PETSEG_DATA", must_exist=False)
    own_data = named_data or OUTPUTS / "data" / ("oxford-iiit-pet" if values.get("data") == "oxford" else path.stem)
    if on_other := bool(data and (place := data.expanduser().resolve()) != own_data.resolve()):
        runs /= f"{place.name[:40]}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"  # names may repeat elsewhere
    figures = os.environ.get("PETSEG_FIGURES")
    places: dict[str, Any] = {
        "name": path.stem,
        "data_dir": (data or own_data).expanduser().absolute(),
        "runs_dir": runs,
        "cache_dir": root / "cache",
        "figures_dir": Path(figures).expanduser().absolute() / path.stem if figures else runs / "figures",
        "unlabelled_dir": _folder_from("PETSEG_UNLABELLED"),
        "elsewhere_dir": _folder_from("PETSEG_OOD"),
        "draws_its_data": values.get("data") == "sample" and not (data or named_data),
        "on_other_data": on_other,
    }
    try:
        study = Study(**values, **places)
    except ValidationError as error:
        raise PetsegError(f"{path.name}{_first_fault(error)}") from error
    for size in (study.image_size, study.labels.image_size):
        if size % 16:
            raise PetsegError(f"{path.name}: image_size is {size}; it must be a positive multiple of 16.")
    return replace(study, encoder=placed(study.encoder, path.parent))


def _folder_from(variable: str, *, must_exist: bool = True) -> Path | None:
    """Return the folder that an environment variable names, as an absolute path; None if it is not set."""
    if not (named := os.environ.get(variable)):
        return None
    folder = Path(named).expanduser().absolute()
    if must_exist and not folder.is_dir():
        raise PetsegError(f"{variable} names {folder.name!r}, which is not a folder.")
    return folder


def _first_fault(error: ValidationError) -> str:
    """Say what is wrong with a study's file: table, key, and what was expected."""
    faults = error.errors(include_url=False)
    unknown = "unexpected_keyword_argument"  # reported first: a misspelt key is also missing under its right name
    fault = min(faults, key=lambda candidate: candidate["type"] != unknown)
    *tables, key = [str(part) for part in fault["loc"] if isinstance(part, str)]  # without a value's index in a list
    table = f" [{'.'.join(tables)}]" if tables else ""
    if fault["type"] == unknown:
        kinds = {"unet_grid": GridSettings, "labels": LabelSettings, "robustness": RobustnessSettings}
        kind = Study if not tables else kinds.get(tables[0], TrainingSettings)
        known = [field.name for field in fields(kind) if field.name not in _PLACES]
        return f"{table}: unknown key {key!r}; known keys are {', '.join(known)}."
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{table}: {key} has too few values."
    if fault["type"] in ("missing", "missing_argument"):
        return f"{table}: the key {key!r} is missing."
    said = fault["msg"].removeprefix("Value error, ")
    value = reprlib.repr(fault["input"]) if len(repr(fault["input"])) > 80 else repr(fault["input"])
    return f"{table}: {key} is {value}: {said[0].lower()}{said[1:]}."
