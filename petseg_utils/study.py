"""A study: every number that a run depends on, read from one TOML file."""

import json
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUDIES = Path(__file__).parent / "studies"
MAY_BE_ZERO = ("seeds", "weight_decay", "dice", "average", "maps", "crop", "hidden", "pictures")


class PetsegError(Exception):
    """Something the user can put right; the message says what was wrong and what to do."""


@dataclass(frozen=True)
class TrainingSettings:
    """How one model is trained.

    Parameters
    ----------
    width : int
        Channels of the first stage.
    epochs, batch_size : int
        Passes over the training pictures, at most; pictures a step.
    learning_rate, weight_decay : float
        Peak of the one-cycle schedule; AdamW's decoupled weight decay.
    patience : int
        Stop after this many epochs without a better validation mIoU.
    mixed_precision : str
        ``"no"``, ``"bf16"`` or ``"fp16"``, as Accelerate names them; ``"auto"`` is ``"bf16"`` where the machine has
        instructions for it (about twice as fast), else ``"no"``.  A checkpoint's card says what it was.
    dice : float
        Weight of the Dice loss beside the cross-entropy's 1; 0 leaves it out.
    average : float
        Decay of an exponential moving average of the weights, updated each step, which is then what is scored and
        kept; 0 keeps the weights themselves.
    maps : tuple of int
        Decoder only: which of the encoder's maps it gets, counted from 0; all of them by default.
    stem : bool
        Decoder only: whether it sees the picture itself too.
    crop : int
        Autoencoder only: edge of the window, in pixels, that is used of the pictures of a step; 0 uses all of them.
    hidden : float
        Autoencoder only: share of the patches that it has to paint without seeing them, 0 to 1.
    skips : bool
        Autoencoder only: whether its decoder gets the encoder's fine maps, past the bottleneck.
    frozen : bool
        Pre-trained U-Net only: whether the encoder stays as the autoencoder made it.
    cache : bool
        Decoders on a frozen encoder only: learn from cached features of the pictures and their mirror images, which is
        fast.  Without it pictures are varied as for the U-Net, and the encoder runs at every step.
    """

    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-4
    patience: int = 10
    mixed_precision: str = "no"
    dice: float = 0.0
    average: float = 0.0
    maps: tuple[int, ...] = ()
    stem: bool = True
    crop: int = 0
    hidden: float = 0.0
    skips: bool = False
    frozen: bool = True
    cache: bool = True


@dataclass(frozen=True)
class GridSettings:
    """The small grid of notebook 02: every learning rate with every batch size, each for a few epochs."""

    learning_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    epochs: int


@dataclass(frozen=True)
class LabelSettings:
    """The experiments of notebooks 03 and 04 with few labels: many short runs, on small pictures.

    Parameters
    ----------
    image_size : int
        Edge of the letterboxed square in pixels, for these runs.
    epochs : int
        With all labels; a run with fewer makes as many steps.
    shares : tuple of float
        Parts of the training pictures whose labels are used, 0 to 1.
    seeds : tuple of int
        Each share is drawn and trained with each of them.
    """

    image_size: int
    epochs: int
    shares: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RobustnessSettings:
    """The sweep of notebook 06 over perturbed test pictures, and its training with noise.

    Parameters
    ----------
    pictures : int
        How many test pictures are perturbed; 0 is all.
    noise_epochs : int
        How long a trained model goes on learning, with and without noise.
    """

    pictures: int = 0
    noise_epochs: int = 2


@dataclass(frozen=True)
class Study:
    """One study.

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
        Part of ``trainval`` that is held out, 0 to 1.
    seeds : tuple of int
        One training run each; the first one is the one that figures show.
    bootstrap_resamples : int
        Resamples of pictures behind each interval.
    encoder : str
        The frozen encoder, as `encoders.load_encoder` takes it.
    unet, autoencoder, autoencoder_unet, clip : TrainingSettings
        Model 1; the autoencoder, and model 2, the U-Net on its encoder; model 3, the decoder on the frozen encoder.
    point : TrainingSettings
        Model 4, the decoder with prompts; it starts from model 3's weights.
    clip_selftrained : TrainingSettings, optional
        Model 3 again, trained also on pictures without masks, for which the first one proposes them.
    unet_grid : GridSettings
        The search of notebook 02.
    labels : LabelSettings
        How many labels are enough, in notebooks 03 and 04.
    ablation_epochs : int
        Length of the runs in notebook 04 that leave out a part of the decoder.
    robustness : RobustnessSettings
        The sweep over perturbed pictures, in notebook 06.
    sample_trainval, sample_test : int
        How many pictures are drawn; used by ``data = "sample"`` only.
    """

    name: str
    title: str
    data: str
    image_size: int
    validation_share: float
    seeds: tuple[int, ...]
    bootstrap_resamples: int
    encoder: str
    unet: TrainingSettings
    autoencoder: TrainingSettings
    autoencoder_unet: TrainingSettings
    clip: TrainingSettings
    point: TrainingSettings
    unet_grid: GridSettings
    labels: LabelSettings
    ablation_epochs: int
    robustness: RobustnessSettings = RobustnessSettings()
    clip_selftrained: TrainingSettings | None = None
    sample_trainval: int = 0
    sample_test: int = 0

    @property
    def data_dir(self) -> Path:
        """Folder of the pictures; the environment variable ``PETSEG_DATA`` overrides it."""
        if override := os.environ.get("PETSEG_DATA"):
            return Path(override).expanduser()
        return ROOT / "data" / ("oxford-iiit-pet" if self.data == "oxford" else self.name)

    @property
    def draws_its_data(self) -> bool:
        """Whether the pictures are the embedded ones (and so may be shown in committed figures)."""
        return self.data == "sample" and not os.environ.get("PETSEG_DATA")

    @property
    def runs_dir(self) -> Path:
        """Folder of checkpoints, records and logs; ``PETSEG_RUNS`` overrides its parent."""
        return runs_root() / self.name

    @property
    def figures_dir(self) -> Path:
        """Folder of committed figures.

        The smoke study, studies outside the package, and the sample study on other data stay under their runs.
        """
        shipped = self.name != "smoke" and (STUDIES / f"{self.name}.toml").is_file()
        shipped = shipped and (self.draws_its_data or self.data == "oxford")
        return ROOT / "figures" / self.name if shipped else self.runs_dir / "figures"


def runs_root() -> Path:
    """Folder of all runs and caches: ``runs/`` in the project, or ``PETSEG_RUNS``."""
    return Path(os.environ.get("PETSEG_RUNS") or ROOT / "runs").expanduser()


def shown(path: Path) -> str:
    """Path as text for messages and records: relative to the project, or its last part where it lies outside."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _build(kind: type, values: dict, where: str):
    """Make a settings dataclass from a TOML table; unknown or missing keys are errors that name them."""
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        raise PetsegError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(known)}.")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in frozen.items():
        wanted = getattr(known[key].type, "__origin__", known[key].type)
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool) != (
            wanted is bool
        ):
            raise PetsegError(f"{where}: {key} is {value!r}; it must be of type {wanted.__name__}.")
        numbers = [value] if type(value) in (int, float) else value if isinstance(value, tuple) else []
        least = 0 if key in MAY_BE_ZERO else 1e-12
        if (value == () and key != "maps") or any(number < least for number in numbers):
            raise PetsegError(f"{where}: {key} is {value!r}; it is out of range.")
    try:
        return kind(**frozen)
    except TypeError as error:
        raise PetsegError(f"{where}: {error}.") from error


def load_study(name: str | None = None) -> Study:
    """Read a study.

    Parameters
    ----------
    name : str, optional
        A study that ships (``smoke``, ``sample``, ``oxford``, ``oxford-cpu``, ``oxford-gpu``) or the path of a TOML
        file; by default the environment variable ``PETSEG_STUDY``, else ``sample``.

    Raises
    ------
    PetsegError
        If there is no such study, or a key is unknown, missing or out of range.
    """
    name = name or os.environ.get("PETSEG_STUDY") or "sample"
    path = Path(name).expanduser() if name.endswith(".toml") else STUDIES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STUDIES.glob("*.toml")))
        raise PetsegError(f"No study {name!r}. Name one of {known}, or the path of a .toml file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PetsegError(f"{path.name}: not valid TOML: {error}.") from error
    models = ("unet", "autoencoder", "autoencoder_unet", "clip", "clip_selftrained", "point")
    kinds = dict.fromkeys(models, TrainingSettings) | {"unet_grid": GridSettings, "labels": LabelSettings}
    kinds["robustness"] = RobustnessSettings
    for key, kind in kinds.items():
        if isinstance(values.get(key), dict):
            values[key] = _build(kind, values[key], f"{path.name} [{key}]")
    if "name" in values:
        raise PetsegError(f"{path.name}: a study is named by its file; take the key 'name' out.")
    if path.resolve() != (STUDIES / path.name).resolve() and (STUDIES / path.name).is_file():
        raise PetsegError(f"{path.name} has the name of a study that ships; give your file another name.")
    study = _build(Study, {"name": path.stem, **values}, path.name)
    if study.data not in ("sample", "oxford"):
        raise PetsegError(f"{path.name}: data is {study.data!r}; it must be 'sample' or 'oxford'.")
    for size in (study.image_size, study.labels.image_size):
        if size % 16 or size <= 0:
            raise PetsegError(f"{path.name}: image_size is {size}; it must be a positive multiple of 16.")
    if not 0 < study.validation_share < 1:
        raise PetsegError(f"{path.name}: validation_share is {study.validation_share}; it must lie between 0 and 1.")
    return study


def recorded_settings(values: dict) -> TrainingSettings:
    """Settings from a card or a record, where tuples are lists; those that did not exist then have their defaults."""
    return TrainingSettings(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )


def write_json(path: Path, value: object) -> None:
    """Write JSON to a temporary name and rename it, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
