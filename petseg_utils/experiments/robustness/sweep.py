"""The sweep: every model on every level of every perturbation, saved step by step so that it can be resumed."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import input_scale, to_tensor
from petseg_utils.experiments.robustness.corruptions import (
    LEVELS,
    corrupt_all,
    moved_point,
    photo_window,
    picture_rng,
    to_size,
)
from petseg_utils.models.cards import read_card, sha256
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.models.encoders import halved
from petseg_utils.models.prompts import Click, Prompt, random_click
from petseg_utils.scores.clicks import Opened, clicked_classes
from petseg_utils.scores.metrics import picture_confusions
from petseg_utils.scores.records import write_records
from petseg_utils.scores.results import PROMPTED
from petseg_utils.study import Study
from petseg_utils.study.provenance import git_commit, versions
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.precision import computes_bf16
from petseg_utils.training.train import trained

SWEEP_VERSION = 1  # raise it whenever the same weights and pictures would give different counts
BATCH = 8  # faster than 16 on a CPU: a layer's output fits its caches better
COMPARED = ("unet", "autoencoder_unet", "decoder", PROMPTED)
HELPED = f"{PROMPTED}+click"  # the click model after one click on the pet
CLEAN = ("clean", 0.0)
MISSED = "click_offset"  # the one perturbation that leaves the picture itself unchanged
UNCHANGED = (CLEAN[0], MISSED)


def trained_models(study: Study, seed: int, splits: dict[str, PictureSet]) -> dict[str, nn.Module]:
    """Load or train the four models that are compared."""
    return {name: trained(name, study, seed, splits) for name in COMPARED}


def sweep_steps() -> list[tuple[str, float]]:
    """Return every perturbation and level that changes pictures, with the unchanged pictures first."""
    changed = [(kind, float(level)) for kind, levels in LEVELS.items() for level in levels[kind != "jpeg" :]]
    return [CLEAN, *changed]


def sweep_passes() -> list[list[tuple[str, float]]]:
    """Group the steps that use the same pictures: clicks miss their place only on the unchanged ones."""
    steps = sweep_steps()
    unchanged = [step for step in steps if step[0] in UNCHANGED]
    return [unchanged, *([step] for step in steps if step[0] not in UNCHANGED)]


def some_test_pictures(study: Study, pictures: PictureSet) -> PictureSet:
    """Return the sweep's pictures: as many as the study says, spread evenly over species and breeds."""
    wanted = study.robustness.pictures or len(pictures)
    names = pictures.table.sort_values(["species", "breed", "name"])["name"].to_numpy()
    chosen = np.unique(np.linspace(0, len(names) - 1, min(wanted, len(names))).round().astype(int))
    return pictures.subset(names[chosen].tolist())


def sweep(study: Study, seed: int, networks: dict[str, nn.Module], pictures: PictureSet) -> list[dict]:
    """Score models on every step of `sweep_steps`, reusing earlier scores of the same weights and pictures.

    Records are appended to ``robustness.jsonl`` in the folder of runs step by step, so an interrupted sweep goes on
    where it was.  The click model appears as ``point+click``, after one click at random on the pet; before it, its
    masks are the decoder's.  A frozen encoder runs once per perturbed picture, however many models share it.

    Returns
    -------
    list of dict
        One record per model and step: ``model``, ``corruption``, ``level``, ``conditions`` (from `conditions`),
        ``counts``, the confusion matrix of each picture as 15 numbers (see `metrics.picture_confusions`), ``versions``
        and ``commit``.
    """
    names = [HELPED if name == PROMPTED else name for name in networks]
    scale = largest_scale(networks)
    wanted = {name: conditions(name, study, seed, pictures, scale) for name in names}
    path = study.runs_dir / "robustness.jsonl"
    before = read_whole_lines(path)
    records = [row for row in before if row["model"] not in wanted or row.get("conditions") == wanted[row["model"]]]
    write_records(path, records)  # without outdated records, and without a line cut short by a kill
    by_case = {(row["model"], row["corruption"], row["level"]): row for row in records if row["model"] in wanted}
    provenance = {"versions": versions(), "commit": git_commit()}
    with path.open("a", encoding="utf-8") as file:
        for steps in tqdm(sweep_passes(), desc="perturbing"):
            cases = [(name, *step) for step in steps for name in names if name == HELPED or step[0] != MISSED]
            missing = [case for case in cases if case not in by_case]
            if not missing:
                continue
            kind, level = steps[0]
            images, labels = perturbed(pictures, kind, level, scale)
            classes = predict_cases(networks, missing, pictures, images, labels)
            for case in missing:
                record = dict(zip(("model", "corruption", "level"), case, strict=True))
                counts = picture_confusions(labels, classes[case]).reshape(len(pictures), -1).tolist()
                by_case[case] = record | {"conditions": wanted[case[0]], "counts": counts} | provenance
                file.write(json.dumps(by_case[case]) + "\n")
            file.flush()
    return [by_case[name, *step] for name in names for step in sweep_steps() if (name, *step) in by_case]


def largest_scale(networks: dict[str, nn.Module]) -> int:
    """Return how many times larger than its masks the pictures must be for the most demanding network, 1 or 2."""
    return max(input_scale(network) for network in networks.values())


def conditions(name: str, study: Study, seed: int, pictures: PictureSet, scale: int) -> dict:
    """Return what a model's records depend on, including weights and pictures; if it changes, they are made anew."""
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
        "weights": sha256(path)[:16],
        "version": SWEEP_VERSION,
        "precision": "bf16" if computes_bf16() else "no",
    } | ({"scale": scale} if scale > 1 else {})  # older records, from before this could vary, lack it


def read_whole_lines(path: Path) -> list[dict]:
    """Read the records of a JSON-lines file written line by line, skipping any line that was cut short."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def perturbed(pictures: PictureSet, kind: str, level: float, scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return images, `scale` times as large as their labels, and labels of one step of the sweep."""
    if kind in UNCHANGED:
        return np.array(pictures.at(scale)), np.array(pictures.labels)
    return corrupt_all(pictures, kind, level, scale)


@torch.inference_mode()
def predict_cases(
    networks: dict[str, nn.Module],
    cases: list[tuple[str, str, float]],
    pictures: PictureSet,
    images: np.ndarray,
    labels: np.ndarray,
) -> dict[tuple[str, str, float], np.ndarray]:
    """Return each model's predicted classes ``uint8 (n, size, size)``; padding is background.

    Uses bfloat16 if the machine has instructions for it, which is twice as fast.

    Parameters
    ----------
    networks : dict
        Model name to network; those on frozen features share an encoder.
    cases : list of tuple
        Which model predicts (`HELPED` included), and kind and level of the pictures' perturbation: clicks move along.
    pictures : PictureSet
        Unperturbed, for the positions of clicks.
    images, labels : ndarray
        Perturbed, from `perturbed`, at the largest size that one of the networks needs.
    """
    classes = {case: np.empty(labels.shape, np.uint8) for case in cases}
    device = next(next(iter(networks.values())).parameters()).device
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        pixels = to_tensor(images[part], device)
        maps: dict[str, list[Tensor]] = {}
        seen = None  # what the click model computes before any click; all of its clicks share it
        with torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16()):
            for case in cases:
                name, kind, level = case
                network = networks[name.removesuffix("+click")]
                if isinstance(network, FrozenSegmenter):
                    encoder = network.encoder
                    maps[encoder.identity] = maps.get(encoder.identity) or encoder(pixels)
                if isinstance(network, PointSegmenter):
                    seen = seen or network.look(pixels, maps[network.encoder.identity])
                    if name == HELPED:
                        clicks = clicks_on(pictures, part, labels[part], kind, level)
                        opened = Opened(seen, labels[part], range(len(pixels)), network.peak)
                        classes[case][part] = clicked_classes(network, opened, clicks)
                        continue
                    logits = network(pixels, seen=seen)
                elif isinstance(network, FrozenSegmenter):
                    logits = network(pixels, maps[network.encoder.identity])
                else:
                    logits = network(pixels if pixels.shape[-1] == labels.shape[-1] else halved(pixels))
                classes[case][part] = np.where(labels[part] == PADDING, 0, logits.argmax(1).cpu().numpy())
    return classes


def clicks_on(pictures: PictureSet, part: slice, labels: np.ndarray, kind: str, level: float) -> list[list[Prompt]]:
    """Return one click per pet, on the same place of the animal at every level; none where no pet is in view.

    It is drawn at random on the unperturbed pet.  If the picture is turned or shrunk, it moves along, to the nearest
    pixel of the pet that is left in view.  For ``click_offset`` it is moved by the level's distance in a random
    direction, off the pet or not, but stays on the photo.

    Parameters
    ----------
    labels : ndarray
        ``uint8 (N, size, size)``, the labels of these pictures after the perturbation.
    """
    rows = zip(pictures.table["name"].iloc[part], np.array(pictures.labels[part]), labels, strict=True)
    clicks: list[list[Prompt]] = []
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
