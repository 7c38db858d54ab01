"""Photos without any pet, of which the right mask is empty."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

from petseg_utils.data.datasets import list_pictures, read_image, read_label
from petseg_utils.data.drawing import scenes
from petseg_utils.models.cards import sha256
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import ROOT
from petseg_utils.training.batches import beside_pet
from petseg_utils.training.checkpoints import find_checkpoint
from petseg_utils.training.process import set_up_process

NO_PET = ROOT / "figures" / "shipped" / "no_pet.csv"
LEAST = 0.3  # of a photo's shorter side: narrower parts beside the pet are no photo
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


def parts_beside_pets(folder: Path) -> Iterator[np.ndarray]:
    """Of each test photo of a data set the largest rectangle above, below or beside its pets, if it is large enough.

    Parameters
    ----------
    folder : Path
        In one of the layouts of `datasets`.
    """
    for picture in list_pictures(folder, "test"):
        image, label = read_image(picture.image), read_label(picture)
        window = beside_pet(label)
        part = image if window is None else image[window]
        if min(part.shape[:2]) >= LEAST * min(image.shape[:2]):
            yield part


def drawn_scenes() -> Iterator[np.ndarray]:
    """Rooms and gardens of the embedded pictures, with nobody in them."""
    for number in range(DRAWN):
        rng = np.random.default_rng([7, number])
        place = scenes.PLACES[number % len(scenes.PLACES)]
        yield np.asarray(scenes.backdrop(place, (192, 256), float(rng.uniform(60, 130)), 60.0, rng).convert("RGB"))


def free_photos() -> Iterator[np.ndarray]:
    """Pictures that come with scikit-image and show no animal."""
    for name in SHOWN:
        image = Image.fromarray(getattr(data, name)())
        yield np.asarray(image.convert("RGB"))


def proposals(segmenter: Segmenter, images: Iterator[np.ndarray]) -> list[float]:
    """Which share of each photo is proposed as pet."""
    return [float((segmenter.predict(image) > 0).mean()) for image in images]


def nothing_proposed(sources: dict[str, Path]) -> pd.DataFrame:
    """How often the decoder that ships proposes nothing where there is no pet.

    Parameters
    ----------
    sources : dict of str to Path
        Data sets, of whose test photos the parts beside the pets are taken.

    Returns
    -------
    DataFrame
        A row for each kind of photo, and for all: ``n_images``; ``nothing``, the share of them without a selected
        pixel; ``little``, the share with less than a hundredth of the photo selected; ``weights``, their SHA-256.
    """
    segmenter = Segmenter.load("decoder", runtime="torch")
    kinds = {f"beside the pets of {name}": parts_beside_pets(folder) for name, folder in sources.items()}
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


if __name__ == "__main__":
    named = dict(argument.split("=", 1) for argument in sys.argv[1:])
    set_up_process()
    table = nothing_proposed({source: Path(folder) for source, folder in named.items()})
    table.to_csv(NO_PET, float_format="%.4f")
    print(table.to_string())
