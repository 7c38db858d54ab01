"""Photos without any pet, whose correct mask is empty; and how sure of a pet a part of a mask must be to be kept.

Usage: python -m petseg_utils.experiments.no_pet "Oxford=FOLDER" "cats outdoors=FOLDER"  (writes both tables)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

from petseg_utils.data.datasets import Picture, list_pictures, read_image, read_label, split_validation
from petseg_utils.data.drawing import scenes
from petseg_utils.data.labels import PADDING, SPECIES
from petseg_utils.models.cards import sha256
from petseg_utils.models.selection import pet_chance, unsure_parts
from petseg_utils.scores.clicks import picture_iou
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import ROOT, load_study
from petseg_utils.training.batches import beside_pet
from petseg_utils.training.checkpoints import find_checkpoint
from petseg_utils.training.process import set_up_process

NO_PET = ROOT / "figures" / "shipped" / "no_pet.csv"
PEAKS_COMPARED = ROOT / "figures" / "shipped" / "peaks.csv"
PEAKS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
LEAST = 0.3  # of a photo's shorter side: narrower parts beside the pet do not count as a photo
SHOWN = (
    "astronaut",
    "camera",
    "coffee",
    "coins",
    "clock",
    "rocket",
    "brick",
    "grass",
    "gravel",
    "moon",
    "page",
    "text",
)
DRAWN = 40


def parts_beside_pets(pictures: list[Picture]) -> Iterator[np.ndarray]:
    """Yield the largest rectangle above, below or beside each photo's pets, if it is large enough."""
    for picture in pictures:
        image, label = read_image(picture.image), read_label(picture)
        window = beside_pet(label)
        part = image if window is None else image[window]
        if min(part.shape[:2]) >= LEAST * min(image.shape[:2]):
            yield part


def drawn_scenes() -> Iterator[np.ndarray]:
    """Yield rooms and gardens of the embedded pictures, with no animal in them."""
    for number in range(DRAWN):
        rng = np.random.default_rng([7, number])
        place = scenes.PLACES[number % len(scenes.PLACES)]
        yield np.asarray(scenes.backdrop(place, (192, 256), float(rng.uniform(60, 130)), 60.0, rng).convert("RGB"))


def free_photos() -> Iterator[np.ndarray]:
    """Yield pictures that come with scikit-image and show no animal."""
    for name in SHOWN:
        image = Image.fromarray(getattr(data, name)())
        yield np.asarray(image.convert("RGB"))


def proposals(segmenter: Segmenter, images: Iterator[np.ndarray]) -> list[float]:
    """Return the share of each photo that is proposed as pet."""
    return [float((segmenter.predict(image) > 0).mean()) for image in images]


def nothing_proposed(sources: dict[str, Path]) -> pd.DataFrame:
    """Measure how often the decoder that ships proposes nothing on photos without a pet.

    Parameters
    ----------
    sources : dict of str to Path
        Data sets; the parts beside the pets of their test photos are used.

    Returns
    -------
    DataFrame
        One row per kind of photo, and one for all: ``n_images``; ``nothing``, the share without a selected pixel;
        ``little``, the share with less than a hundredth of the photo selected; ``weights``, their SHA-256.
    """
    segmenter = Segmenter.load("decoder", runtime="torch")
    kinds = {
        f"beside the pets of {name}": parts_beside_pets(list_pictures(folder, "test"))
        for name, folder in sources.items()
    }
    kinds |= {"scikit-image's photos": free_photos(), "drawn scenes": drawn_scenes()}
    shares = {kind: np.array(proposals(segmenter, images)) for kind, images in kinds.items()}
    shares["all"] = np.concatenate(list(shares.values()))
    rows = {
        kind: {"n_images": len(share), "nothing": (share == 0).mean(), "little": (share < 0.01).mean()}
        for kind, share in shares.items()
    }
    return (
        pd.DataFrame(rows)
        .T.rename_axis("photos without a pet")
        .assign(weights=sha256(find_checkpoint("decoder", None)))
    )


def compare_peaks(sources: dict[str, Path]) -> pd.DataFrame:
    """Measure cost and gain of dropping parts of a mask in which the decoder that ships is nowhere sure of a pet.

    Uses photos held out of training that are not in the test set; see `selection.unsure_parts`.

    Parameters
    ----------
    sources : dict of str to Path
        Data sets; the part held out of their training photos is used.

    Returns
    -------
    DataFrame
        One row for each of `PEAKS`: ``peak``; ``iou``, the mean IoU of the pet, ``lost``, the share of the photos
        in which nothing of the pet is left, and ``n_images``; ``nothing``, the share of the parts beside pets on which
        nothing is proposed, and ``n_empty``; ``weights``, their SHA-256.
    """
    segmenter = Segmenter.load("decoder", runtime="torch")
    share = load_study(segmenter.card["study"]).validation_share
    held_out = [
        picture
        for folder in sources.values()
        for picture in split_validation(list_pictures(folder, "trainval"), share)[1]
    ]
    with_pet = [(read_image(picture.image), read_label(picture)) for picture in held_out]
    chances = [pet_chances(segmenter, image) for image, _ in with_pet]
    labels = [segmenter.letterbox(image).label(label) for image, label in with_pet]
    pets, known = np.isin(labels, list(SPECIES)), np.stack(labels) < PADDING
    empty = [pet_chances(segmenter, part) for part in parts_beside_pets(held_out)]
    rows = []
    for peak in PEAKS:
        masks = np.stack([kept(chance, peak) for chance in chances])
        lost = [not (mask & pet).any() for mask, pet in zip(masks, pets, strict=True) if pet.any()]
        rows.append(
            {
                "peak": peak,
                "iou": np.nanmean(picture_iou(pets, masks, known)),
                "lost": np.mean(lost),
                "n_images": len(lost),
                "nothing": np.mean([not kept(chance, peak).any() for chance in empty]),
                "n_empty": len(empty),
            }
        )
    return pd.DataFrame(rows).assign(weights=sha256(find_checkpoint("decoder", None)))


def peaks_in_words(table: pd.DataFrame, peak: float) -> str:
    """Say what a `peak` does according to `compare_peaks`, compared with the next higher one and with none at all."""
    rows = table.set_index("peak")
    here, none, above = rows.loc[peak], rows.loc[0.0], rows.loc[min(other for other in rows.index if other > peak)]
    best = "the best of those compared" if here["iou"] == rows["iou"].max() else "not the best of those compared"
    return (
        f"How sure is sure enough was compared on {here['n_images']} photos that were held out of training, and on "
        f"{here['n_empty']} parts of them beside the pet. Where a part must reach {peak:g} at one pixel at least, "
        f"nothing is proposed on {here['nothing']:.0%} of these parts, in place of {none['nothing']:.0%} without "
        f"such a rule; the mean IoU of the pets is {here['iou']:.3f} in place of {none['iou']:.3f}, {best}; and "
        f"{here['lost']:.0%} of the pets are lost, where {above.name:g} would lose {above['lost']:.0%}."
    )


def pet_chances(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    """Return each pixel's probability of pet in the letterboxed photo, ``float32 (size, size)``; 0 in the padding."""
    chance = np.zeros((segmenter.card["image_size"],) * 2, np.float32)
    window = segmenter.letterbox(image).window
    chance[window] = pet_chance(segmenter.look(segmenter.squares([image])).logits)[0][window]
    return chance


def kept(chance: np.ndarray, peak: float) -> np.ndarray:
    """Return the mask of pixels likelier pet than not, without parts whose greatest probability is below `peak`."""
    return (chance > 0.5) & ~unsure_parts(chance, peak)


if __name__ == "__main__":
    named = dict(argument.split("=", 1) for argument in sys.argv[1:])
    set_up_process()
    folders = {source: Path(folder) for source, folder in named.items()}
    for path, table in ((PEAKS_COMPARED, compare_peaks(folders)), (NO_PET, nothing_proposed(folders))):
        table.to_csv(path, float_format="%.4f", index=path == NO_PET)
        print(table.to_string())
