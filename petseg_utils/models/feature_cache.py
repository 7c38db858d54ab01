"""Feature maps of a frozen encoder, computed once and kept on disk."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm.auto import tqdm

from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import BATCH, to_tensor
from petseg_utils.models.encoders import Encoder
from petseg_utils.study import PetsegError, write_json

ENCODING_VERSION = 1  # raise it whenever the same encoder would give other maps of the same pictures
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Cached feature maps of a picture set, as they are and mirrored left to right.

    Parameters
    ----------
    maps : tuple of ndarray
        ``float16 (n, 2, C, H / stride, W / stride)`` for each of the encoder's maps, memory-mapped; the second axis is
        0 for the picture as it is, 1 for its mirror image.
    """

    maps: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.maps[0])

    def read(
        self, rows: int | slice | np.ndarray, mirrored: int = 0, device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Maps of some pictures as ``float32`` tensors, ``(C, H, W)`` for one row, ``(k, C, H, W)`` for several."""
        # Torch widens float16 by the processor's own instructions, numpy number by number.
        return [torch.from_numpy(np.array(held[rows, mirrored])).float().to(device) for held in self.maps]


@dataclass(frozen=True)
class JoinedFeatures:
    """Cached features of several picture sets, one set behind the other, as `pictures.join` puts their pictures.

    Parameters
    ----------
    parts : tuple of Features
        Of each set.
    """

    parts: tuple[Features, ...]

    def read(self, row: int, mirrored: int = 0) -> list[Tensor]:
        """Maps of one picture as ``float32`` tensors, ``(C, H, W)``."""
        for part in self.parts:
            if row < len(part):
                return part.read(row, mirrored)
            row -= len(part)
        raise IndexError("no such picture")


def load_features(encoder: Encoder, pictures: PictureSet, cache: Path, *, progress: bool = True) -> Features:
    """Feature maps of a picture set: from the cache if they are there, else computed and kept.

    A run that is cut goes on where it was.  Of several processes that want the same maps one computes, and the others
    wait for it.  The size of the maps is logged before they are computed.

    Parameters
    ----------
    encoder : Encoder
        From `encoders.load_encoder`.
    pictures : PictureSet
        Letterboxed pictures; the rows of the result are in their order.
    cache : Path
        Folder of all caches; a study's is ``study.cache_dir``.
    progress : bool
        Show a progress bar.

    Raises
    ------
    PetsegError
        If a finished cache is damaged, or the disk is full.
    """
    wanted = _card(encoder, pictures)
    folder = cache / f"features-{wanted['key']}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # the system lets go of it when a process dies
        if not (folder / "card.json").is_file():
            try:
                _compute(folder, wanted, encoder, pictures, progress)
            except OSError as error:
                raise PetsegError(
                    f"Could not write the feature cache ({error.strerror}). It needs {_megabytes(wanted)} under "
                    f"{cache.parent.name}/{cache.name}: make room, or name another place by PETSEG_RUNS. What was "
                    "written is kept, and the next run goes on from it."
                ) from error
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    maps = []
    for number, shape in enumerate(wanted["shapes"]):
        path = folder / f"map{number}.f16"
        whole = 2 * int(np.prod(shape))
        size = path.stat().st_size if path.is_file() else 0
        if card != wanted or size != whole:
            raise PetsegError(
                f"The feature cache {folder.name} is damaged: {path.name} has {size} of {whole} bytes, or its card "
                "is another's. `petseg data cache --clear` deletes it; the next run makes it anew."
            )
        maps.append(np.memmap(path, np.float16, "r", shape=tuple(shape)))
    return Features(tuple(maps))


def caches(cache: Path) -> list[dict]:
    """What lies in the folder of all caches: ``name``, ``what`` (in words) and ``megabytes`` of each."""
    listed = []
    for folder in sorted(path for path in cache.glob("*") if path.is_dir()):
        what = "decoded pictures"
        if folder.name.startswith("features-"):
            path = next((folder / file for file in ("card.json", "started.json") if (folder / file).is_file()), None)
            card = json.loads(path.read_text(encoding="utf-8")) if path else {"encoder": "?", "pictures": 0}
            state = "" if path and path.name == "card.json" else ", unfinished"
            what = f"features of {card['pictures']} pictures by {card['encoder']}{state}"
        size = sum(path.stat().st_size for path in folder.glob("*")) / 1e6
        listed.append({"name": folder.name, "what": what, "megabytes": size})
    return listed


def clear_caches(cache: Path) -> None:
    """Delete all caches; what needs them makes them anew."""
    shutil.rmtree(cache, ignore_errors=True)


def _card(encoder: Encoder, pictures: PictureSet) -> dict:
    """What a cache holds, and a key made of everything that its values depend on."""
    size = pictures.images.shape[1]
    shapes = [
        [len(pictures), 2, channels, size // stride, size // stride]
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    order = hashlib.sha256("\n".join(pictures.table["content"]).encode()).hexdigest()
    card = {
        "encoder": encoder.identity,
        "pictures": len(pictures),
        "shapes": shapes,
        "content": order,
        "version": ENCODING_VERSION,
    }
    return card | {"key": hashlib.sha256(json.dumps(card).encode()).hexdigest()[:16]}


def _megabytes(card: dict) -> str:
    return f"{2 * sum(np.prod(shape) for shape in card['shapes']) / 1e6:,.0f} MB"


def _compute(folder: Path, card: dict, encoder: Encoder, pictures: PictureSet, progress: bool) -> None:
    """Append maps batch by batch; how many are whole is read off the files, so a kill loses one batch at most."""
    paths = [folder / f"map{number}.f16" for number in range(len(card["shapes"]))]
    row_bytes = [2 * int(np.prod(shape[1:])) for shape in card["shapes"]]
    done = min(
        path.stat().st_size // n_bytes if path.is_file() else 0 for path, n_bytes in zip(paths, row_bytes, strict=True)
    )
    log.info("Features of %s pictures by %s: %s.", len(pictures), encoder.identity, _megabytes(card))
    write_json(folder / "started.json", card)
    device = encoder.mean.device
    files = [path.open("ab") for path in paths]
    try:
        for file, n_bytes in zip(files, row_bytes, strict=True):
            file.truncate(done * n_bytes)  # a batch that was cut, or a file that was ahead of the others
        bar = tqdm(total=len(pictures), initial=done, desc="encoding", unit="picture", disable=not progress)
        for start in range(done, len(pictures), BATCH):
            images = to_tensor(pictures.at(encoder.scale)[start : start + BATCH], device)
            both = zip(encoder(images), encoder(images.flip(-1)), strict=True)
            for file, (plain, mirrored) in zip(files, both, strict=True):
                file.write(torch.stack([plain, mirrored], 1).half().cpu().numpy().tobytes())
                file.flush()
            bar.update(len(images))
        bar.close()
    finally:
        for file in files:
            file.close()
    (folder / "started.json").rename(folder / "card.json")
