"""How close masks and cut-outs come to the true edge, on drawn pictures of about 1,000 pixels with known hairs.

Two masks of 224 pixels are enlarged: the true one, so that only the edge is measured, and the one proposed by the
decoder that ships.  Photos have no such ground truth, so judge those by eye.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from petseg_utils.data.drawing.breeds import BREEDS, Breed
from petseg_utils.data.drawing.pictures import draw_hair
from petseg_utils.models.cards import sha256
from petseg_utils.scores.metrics import boundary_counts, boundary_iou
from petseg_utils.segmenter import Segmenter, cut_along
from petseg_utils.study import ROOT
from petseg_utils.training.checkpoints import find_checkpoint
from petseg_utils.training.process import set_up_process

EDGES = ROOT / "figures" / "shipped" / "edges.csv"
ENLARGEMENT = 4
NUMBER = 2  # which picture of each breed
NARROW = 0.003  # half the width of the band of the boundary IoU, as a share of the diagonal: about 4 pixels
NEAR = 7  # pixels: the error of alpha is taken up to this distance from a mixed pixel
FOUND = 0.8  # a proposal must reach this IoU to say anything about edges


def edge_scores(cut: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return ``boundary IoU`` of a cut-out's mask, and ``alpha error``, the mean squared difference near the edge.

    Parameters
    ----------
    cut, true : ndarray
        ``uint8 (H, W)`` from 0 to 255.
    """
    mask, cut_mask = ((alpha > 127).astype(np.uint8)[None] for alpha in (true, cut))
    counts = boundary_counts(mask, cut_mask, "binary_border_as_pet", NARROW)
    mixed = ((true > 0) & (true < 255)).astype(np.uint8)
    near = cv2.dilate(mixed, np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)) > 0
    error = np.square((cut.astype(np.float32) - true) / 255)[near].mean()
    return {"boundary IoU": float(boundary_iou(counts[0])), "alpha error": float(error)}


def compare_edges(breeds: Sequence[Breed]) -> pd.DataFrame:
    """Score the enlarged masks, with hard edges and with the photo's own, by `edge_scores`; means over pictures.

    Returns
    -------
    DataFrame
        One row for each mask of 224 pixels and way to enlarge it: ``boundary IoU``, ``alpha error``, ``n_images``, and
        ``weights``, the decoder's SHA-256.
    """
    segmenter, rows = Segmenter.load("decoder", runtime="torch"), []
    for breed in tqdm(breeds, desc="drawing"):
        picture, true = draw_hair(breed, NUMBER, ENLARGEMENT)
        box = segmenter.letterbox(picture)
        exact = np.zeros((box.size, box.size), np.float32)
        exact[box.window] = cv2.resize(true, box.inner[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        proposed = 1 - segmenter.probabilities([picture])[0][0]
        both = (exact > 0.5) & (proposed > 0.5), (exact > 0.5) | (proposed > 0.5)
        masks = {"the true mask": exact}
        if both[0].sum() > FOUND * both[1].sum():
            masks["the decoder's"] = proposed
        for mask, chance in masks.items():
            for edge in ("hard", "soft"):
                cut = cut_along(picture, chance, box, hard=edge == "hard")
                rows.append({"mask": mask, "edge": edge} | edge_scores(cut, true))
    groups = pd.DataFrame(rows).groupby(["mask", "edge"], sort=False)
    return groups.mean().assign(n_images=groups.size(), weights=sha256(find_checkpoint("decoder", None))).reset_index()


if __name__ == "__main__":
    set_up_process()
    table = compare_edges(BREEDS[::2])
    table.to_csv(EDGES, index=False, float_format="%.4f")
    print(table.to_string(index=False))
