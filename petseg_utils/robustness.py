"""The sweep: every model on every level of every perturbation, kept picture by picture so that a cut run goes on."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from petseg_utils.checkpoints import ON_FROZEN_ENCODER, run_folder
from petseg_utils.clicks import Opened, clicked_classes
from petseg_utils.corruptions import LEVELS, corrupt_all, moved_point, photo_window, picture_rng, to_size
from petseg_utils.evaluation import write_records
from petseg_utils.metrics import PADDING, picture_confusions
from petseg_utils.models import trained
from petseg_utils.pictures import PictureSet
from petseg_utils.prompts import Click, Prompt, random_click
from petseg_utils.provenance import code_fingerprint, git_commit, versions
from petseg_utils.study import Study
from petseg_utils.training import computes_bf16, read_card

BATCH = 8  # faster on a CPU than 16: what a layer gives fits its caches better
COMPARED = ("unet", "autoencoder_unet", "clip", "point")
HELPED = "point+click"  # the prompted model after one click on the pet
CLEAN = ("clean", 0.0)
MISSED = "click_offset"  # the one perturbation that leaves the picture as it is
UNCHANGED = (CLEAN[0], MISSED)


def trained_models(study: Study, seed: int, splits: dict[str, PictureSet]) -> dict[str, nn.Module]:
    """The four models that are compared, loaded or trained."""
    return {name: trained(name, study, seed, splits) for name in COMPARED}


def sweep_steps() -> list[tuple[str, float]]:
    """Every perturbation and level that changes pictures, the unchanged pictures first."""
    changed = [(kind, float(level)) for kind, levels in LEVELS.items() for level in levels[kind != "jpeg" :]]
    return [CLEAN, *changed]


def sweep_passes() -> list[list[tuple[str, float]]]:
    """The steps, those of the same pictures together: a click may miss its place on the unchanged ones only."""
    steps = sweep_steps()
    unchanged = [step for step in steps if step[0] in UNCHANGED]
    return [unchanged, *([step] for step in steps if step[0] not in UNCHANGED)]


def some_test_pictures(study: Study, pictures: PictureSet) -> PictureSet:
    """The pictures of the sweep: as many as the study says, spread evenly over species and breeds."""
    wanted = study.robustness.pictures or len(pictures)
    names = pictures.table.sort_values(["species", "breed", "name"])["name"].to_numpy()
    chosen = np.unique(np.linspace(0, len(names) - 1, min(wanted, len(names))).round().astype(int))
    return pictures.subset(names[chosen].tolist())


def sweep(
    study: Study, seed: int, networks: dict[str, nn.Module], pictures: PictureSet, *, progress: bool = True
) -> list[dict]:
    """Score models on every step of `sweep_steps`, or read what was scored before with the same weights and pictures.

    What is found is appended to ``robustness.jsonl`` in the run folder step by step, so a run that is cut goes on where
    it was.  The prompted model counts twice: by itself, and as ``point+click`` after one click at random on the pet.
    A frozen encoder runs once for a perturbed picture, whichever decoders share it.

    Parameters
    ----------
    study, seed : Study, int
        Whose models they are.
    networks : dict
        Model's name to the trained network.
    pictures : PictureSet
        Test pictures.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        A record for each model and step: ``corruption``, ``level``, and ``counts``, the confusion matrix of each
        picture as 15 numbers; see `metrics.picture_confusions`.
    """
    names = [*networks, *([HELPED] if "point" in networks else [])]
    known = {name: about(name, study, seed, pictures) for name in names}
    path = study.runs_dir / "robustness.jsonl"
    before = read_whole_lines(path)
    kept = [one for one in before if one["model"] not in known or one["about"] == known[one["model"]]]
    write_records(path, kept)  # without what is out of date, and without a line that a kill cut
    found = {(one["model"], one["corruption"], one["level"]): one for one in kept if one["model"] in known}
    provenance = {"versions": versions(), "commit": git_commit()}
    with path.open("a", encoding="utf-8") as file:
        for steps in tqdm(sweep_passes(), desc="perturbing", disable=not progress):
            asks = [(name, *step) for step in steps for name in names if name == HELPED or step[0] != MISSED]
            missing = [ask for ask in asks if ask not in found]
            if not missing:
                continue
            images, labels = perturbed(pictures, *steps[0])
            classes = segment(networks, missing, pictures, images, labels)
            for ask in missing:
                name, kind, level = ask
                counts = picture_confusions(labels, classes[ask]).reshape(len(pictures), -1).tolist()
                record = {"model": name, "corruption": kind, "level": level, "about": known[name], "counts": counts}
                found[ask] = record | provenance
                file.write(json.dumps(found[ask]) + "\n")
            file.flush()
    return [found[name, *step] for name in names for step in sweep_steps() if (name, *step) in found]


def about(name: str, study: Study, seed: int, pictures: PictureSet) -> dict:
    """What a model's records depend on: its weights, the pictures and the code; another value makes them anew."""
    path = run_folder(name.removesuffix("+click"), study, seed) / "best.safetensors"
    card = read_card(path)
    return {
        "encoder": card["encoder"],
        "study": study.name,
        "seed": seed,
        "split": "test",
        "image_size": pictures.images.shape[1],
        "data": pictures.fingerprint,
        "n_images": len(pictures),
        "trained_by": card["code"],
        "weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        "measured_by": code_fingerprint("corruptions", "robustness", "clicks"),
        "precision": "bf16" if computes_bf16() else "no",
    }


def read_whole_lines(path: Path) -> list[dict]:
    """Records of a JSON-lines file that was written line by line; one that a kill cut off is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def perturbed(pictures: PictureSet, kind: str, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one step of the sweep."""
    if kind in UNCHANGED:
        return np.array(pictures.images), np.array(pictures.labels)
    return corrupt_all(pictures, kind, level)


@torch.inference_mode()
def segment(
    networks: dict[str, nn.Module],
    asks: list[tuple[str, str, float]],
    pictures: PictureSet,
    images: np.ndarray,
    labels: np.ndarray,
) -> dict[tuple[str, str, float], np.ndarray]:
    """Classes ``uint8 (n, size, size)`` that each model finds; padding is background.

    In bfloat16 where the machine has instructions for it, which is twice as fast.

    Parameters
    ----------
    networks : dict
        Model's name to network.
    asks : list of tuple
        Which of them are asked, `HELPED` too, and how the pictures were perturbed, kind and level: clicks move along.
    pictures : PictureSet
        Unperturbed, for the places of clicks.
    images, labels : ndarray
        Perturbed, from `perturbed`.

    Returns
    -------
    dict
        The classes by ask.
    """
    classes = {ask: np.empty(labels.shape, np.uint8) for ask in asks}
    device = next(next(iter(networks.values())).parameters()).device
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        pixels = torch.from_numpy(images[part]).permute(0, 3, 1, 2).to(device).float()
        maps: dict[str, list[Tensor]] = {}
        seen = None  # the prompted model's look at them, which all its clicks share
        with torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16()):
            for ask in asks:
                name, kind, level = ask
                network = networks[name.removesuffix("+click")]
                if name not in (*ON_FROZEN_ENCODER, HELPED):
                    found = network(pixels).argmax(1)
                else:
                    which = network.encoder.identity
                    maps[which] = maps[which] if which in maps else network.encoder(pixels)
                    if name not in ("point", HELPED):
                        found = network(pixels, maps[which]).argmax(1)
                    else:
                        seen = seen or network.look(pixels, maps[which])
                        if name == HELPED:
                            said = clicks_on(pictures, part, labels[part], kind, level)
                            opened = Opened(pixels, seen, labels[part], range(len(pixels)))
                            classes[ask][part] = clicked_classes(network, opened, said)
                            continue
                        found = network(pixels, seen=seen).argmax(1)
                classes[ask][part] = np.where(labels[part] == PADDING, 0, found.cpu().numpy())
    return classes


def clicks_on(pictures: PictureSet, part: slice, labels: np.ndarray, kind: str, level: float) -> list[list[Prompt]]:
    """One click on each pet, at the same place of the animal at every level; none where no pet is in view.

    It is drawn at random on the unperturbed pet.  It moves with a picture that is turned or shrunk, to the nearest
    pixel of the pet that is left in view.  For ``click_offset`` it goes so far in a random direction, off the pet or
    not, but stays on the photo.

    Parameters
    ----------
    pictures : PictureSet
        Unperturbed.
    part : slice
        Which of them.
    labels : ndarray
        ``uint8 (N, size, size)``, theirs after the perturbation.
    kind, level : str, float
        The perturbation.
    """
    rows = zip(pictures.table["name"].iloc[part], np.array(pictures.labels[part]), labels, strict=True)
    clicks = []
    for name, before, label in rows:
        pet, rng = np.isin(label, (1, 2)), picture_rng(name)
        if not pet.any():
            clicks.append([])
            continue
        first = random_click(np.isin(before, (1, 2)), rng)
        x, y = moved_point(first.x, first.y, kind, level, len(label))
        if kind == "click_offset":
            angle, reach = rng.uniform(0, 2 * np.pi), to_size(level, len(label))
            down, across = photo_window(before)
            x = np.clip(x + reach * np.cos(angle), across.start, across.stop - 1)
            y = np.clip(y + reach * np.sin(angle), down.start, down.stop - 1)
        else:
            ys, xs = np.nonzero(pet)
            nearest = np.argmin(np.hypot(xs - x, ys - y))
            x, y = xs[nearest], ys[nearest]
        clicks.append([Click(float(x), float(y))])
    return clicks
