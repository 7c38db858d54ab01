"""Feature maps of a frozen encoder, computed once and kept on disk."""

import fcntl
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from petseg_utils.encoders import Encoder
from petseg_utils.pictures import PictureSet
from petseg_utils.provenance import code_fingerprint
from petseg_utils.study import PetsegError, runs_root, write_json

BATCH = 16


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

    def read(self, rows: int | slice | np.ndarray, mirrored: int = 0) -> list[Tensor]:
        """Maps of some pictures as ``float32`` tensors, ``(C, H, W)`` for one row, ``(k, C, H, W)`` for several."""
        # Torch widens float16 by the processor's own instructions, numpy number by number.
        return [torch.from_numpy(np.array(one[rows, mirrored])).float() for one in self.maps]


@dataclass(frozen=True)
class JoinedFeatures:
    """Cached features of several picture sets, one set behind the other, as `unlabelled.join` puts their pictures.

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


def load_features(encoder: Encoder, pictures: PictureSet, *, progress: bool = True) -> Features:
    """Feature maps of a picture set: from the cache if they are there, else computed and kept.

    A run that is cut goes on where it was.  Of several processes that want the same maps one computes, and the others
    wait for it.  The maps lie under ``runs/cache/``; their size is printed before they are computed.

    Parameters
    ----------
    encoder : Encoder
        From `encoders.load_encoder`.
    pictures : PictureSet
        Letterboxed pictures; the rows of the result are in their order.
    progress : bool
        Print the size and show a progress bar.

    Raises
    ------
    PetsegError
        If a finished cache is damaged, or the disk is full.
    """
    about = _about(encoder, pictures)
    folder = cache_root() / f"features-{about['key']}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when a process dies
        if not (folder / "card.json").is_file():
            try:
                _compute(folder, about, encoder, pictures, progress)
            except OSError as error:
                raise PetsegError(
                    f"Could not write the feature cache ({error.strerror}). It needs {_megabytes(about)} under "
                    "runs/cache: make room, or name another place by PETSEG_RUNS. What was written is kept, and the "
                    "next run goes on from it."
                ) from error
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    maps = []
    for number, shape in enumerate(about["shapes"]):
        path = folder / f"map{number}.f16"
        wanted = 2 * int(np.prod(shape))
        found = path.stat().st_size if path.is_file() else 0
        if card != about or found != wanted:
            raise PetsegError(
                f"The feature cache {folder.name} is damaged: {path.name} has {found} of {wanted} bytes, or its card "
                "is another's. `petseg data cache --clear` deletes it; the next run makes it anew."
            )
        maps.append(np.memmap(path, np.float16, "r", shape=tuple(shape)))
    return Features(tuple(maps))


def cache_root() -> Path:
    """Folder of all caches, of decoded pictures and of features."""
    return runs_root() / "cache"


def caches() -> list[dict]:
    """What lies in the cache: ``name``, ``what`` (in words) and ``megabytes`` of each."""
    found = []
    for folder in sorted(path for path in cache_root().glob("*") if path.is_dir()):
        what = "decoded pictures"
        if folder.name.startswith("features-"):
            card = next((folder / file for file in ("card.json", "started.json") if (folder / file).is_file()), None)
            about = json.loads(card.read_text(encoding="utf-8")) if card else {"encoder": "?", "pictures": 0}
            state = "" if card and card.name == "card.json" else ", unfinished"
            what = f"features of {about['pictures']} pictures by {about['encoder']}{state}"
        size = sum(path.stat().st_size for path in folder.glob("*")) / 1e6
        found.append({"name": folder.name, "what": what, "megabytes": size})
    return found


def clear_caches() -> None:
    """Delete all caches; what needs them makes them anew."""
    shutil.rmtree(cache_root(), ignore_errors=True)


def _about(encoder: Encoder, pictures: PictureSet) -> dict:
    """What a cache holds, and a key made of everything that its values depend on."""
    size = pictures.images.shape[1]
    shapes = [
        [len(pictures), 2, channels, size // stride, size // stride]
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    order = hashlib.sha256("\n".join(pictures.table["content"]).encode()).hexdigest()
    code = code_fingerprint("encoders", "lite", "features", "transforms")
    about = {"encoder": encoder.identity, "pictures": len(pictures), "shapes": shapes, "content": order, "code": code}
    return about | {"key": hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}


def _megabytes(about: dict) -> str:
    return f"{2 * sum(np.prod(shape) for shape in about['shapes']) / 1e6:,.0f} MB"


def _compute(folder: Path, about: dict, encoder: Encoder, pictures: PictureSet, progress: bool) -> None:
    """Append maps batch by batch; how many are whole is read off the files, so a kill loses one batch at most."""
    paths = [folder / f"map{number}.f16" for number in range(len(about["shapes"]))]
    row_bytes = [2 * int(np.prod(shape[1:])) for shape in about["shapes"]]
    done = min(
        (path.stat().st_size // one if path.is_file() else 0) for path, one in zip(paths, row_bytes, strict=True)
    )
    if progress:
        print(f"Features of {len(pictures)} pictures by {encoder.identity}: {_megabytes(about)} under runs/cache.")
    write_json(folder / "started.json", about)
    device = encoder.mean.device
    files = [path.open("ab") for path in paths]
    try:
        for file, one in zip(files, row_bytes, strict=True):
            file.truncate(done * one)  # a batch that was cut, or a file that was ahead of the others
        bar = tqdm(total=len(pictures), initial=done, desc="encoding", unit="picture", disable=not progress)
        for start in range(done, len(pictures), BATCH):
            images = torch.from_numpy(np.array(pictures.images[start : start + BATCH])).permute(0, 3, 1, 2).to(device)
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
