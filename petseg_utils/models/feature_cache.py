"""Feature maps of a frozen encoder, computed once for each picture and kept on disk."""

import contextlib
import hashlib
import itertools
import json
import logging
import re
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
from petseg_utils.study.folders import delete_unfinished
from petseg_utils.study.provenance import best_device

ENCODING_VERSION = 2  # raise it whenever the same encoder would give different maps for the same pictures
WORTH_SAYING = 100_000_000  # bytes: the size of smaller additions to a cache is not logged
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Cached feature maps of a picture set and, if asked for, of its pictures mirrored left to right.

    The cache may hold more pictures than the set, and in another order.

    Parameters
    ----------
    maps : tuple of ndarray
        ``float16 (n cached, C, H / stride, W / stride)`` for each of the encoder's maps, memory-mapped.
    rows : ndarray
        ``int64 (n,)``: row of each picture of the set in these maps.
    mirrored_maps, mirrored_rows
        The same for the mirror images; empty and None where they were not asked for.
    """

    maps: tuple[np.ndarray, ...]
    rows: np.ndarray
    mirrored_maps: tuple[np.ndarray, ...] = ()
    mirrored_rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(
        self, rows: int | slice | np.ndarray, mirrored: int = 0, device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Read the stored ``float16`` maps of some pictures: ``(C, H, W)`` for one row, ``(k, C, H, W)`` for several.

        Raises
        ------
        ValueError
            If maps of mirror images are wanted but were not loaded.
        """
        held, places = (self.mirrored_maps, self.mirrored_rows) if mirrored else (self.maps, self.rows)
        if places is None:
            raise ValueError("the features were loaded without those of the mirror images")
        return [torch.from_numpy(np.array(maps[places[rows]])).to(device) for maps in held]

    def taken(self, rows: slice) -> "Features":
        """Return the features of some of the pictures."""
        mirrored = None if self.mirrored_rows is None else self.mirrored_rows[rows]
        return Features(self.maps, self.rows[rows], self.mirrored_maps, mirrored)


def load_features(
    encoder: Encoder, pictures: PictureSet, cache: Path, *, mirrored: bool = False, progress: bool = True
) -> Features:
    """Return the feature maps of a picture set, read from the cache or, where missing, computed and added to it.

    There is one cache for each encoder, picture size and orientation.  It identifies pictures by their content, so a
    picture that several sets share is encoded once.  An interrupted run continues where it stopped.  Of several
    processes, one computes while the others wait for it.

    Parameters
    ----------
    encoder : Encoder
        From `encoders.load_encoder`; runs on the best device there is.
    pictures : PictureSet
        Letterboxed pictures; the rows of the result are in their order.
    cache : Path
        Folder of all caches; for a study, ``study.cache_dir``.
    mirrored : bool
        Also return the maps of the mirror images, which training draws at random.
    progress : bool
        Show a progress bar.

    Raises
    ------
    PetsegError
        If the disk has too little room for the new maps, or the cache cannot be written.
    """
    try:
        maps, rows = _held(encoder, pictures, cache, False, progress)
        return Features(maps, rows, *_held(encoder, pictures, cache, True, progress) if mirrored else ())
    except OSError as error:
        raise PetsegError(
            f"Could not use the feature cache under {cache.parent.name}/{cache.name} ({error.strerror}): make it "
            "writable, or name another place by PETSEG_RUNS. If it was deleted just now, start again."
        ) from error


def caches(cache: Path) -> list[dict]:
    """List the caches in the folder of all caches: ``name``, ``what`` (in words) and ``megabytes`` of each.

    Unfinished caches of killed processes are deleted, and caches that other processes are still making are not listed.
    """
    listed = []
    delete_unfinished(cache)
    for folder in sorted(path for path in cache.glob("[!.]*") if path.is_dir()):
        what = "decoded pictures"
        if not folder.name.startswith("features-") and not (folder / "card.json").is_file():
            what = "decoded pictures that cannot be used: no card.json"
        if folder.name.startswith("features-"):
            what = "features that cannot be used: no readable card.json"
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
                card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
                orientation = "mirrored pictures" if card["mirrored"] else "pictures"
                what = f"features of {len(_contents(folder))} {orientation} by {card['encoder']}"
        size = sum(path.stat().st_size for path in folder.glob("*")) / 1e6
        listed.append({"name": folder.name, "what": what, "megabytes": size})
    return listed


def clear_caches(cache: Path) -> None:
    """Delete all caches; they are made again when they are needed.

    Raises
    ------
    PetsegError
        If some cannot be deleted.
    """
    shutil.rmtree(cache, ignore_errors=True)
    if cache.exists():
        raise PetsegError(
            f"Some caches under {cache.parent.name}/{cache.name} could not be deleted: another run is writing "
            "there, or you have no permission to change the folder."
        )


def picture_bytes(encoder: Encoder, size: int) -> int:
    """Return how many bytes the maps of one picture take on disk, in one orientation."""
    return sum(2 * int(np.prod(shape)) for shape in _shapes(encoder, size))


def _shapes(encoder: Encoder, size: int) -> list[list[int]]:
    """Return the shapes of the maps of one picture with an edge of `size` pixels."""
    pairs = zip(encoder.channels, encoder.strides, strict=True)
    return [[channels, size // stride, size // stride] for channels, stride in pairs]


def _contents(folder: Path) -> list[str]:
    """Return the content hashes of a cache's pictures, in order, as far as the list is intact."""
    path = folder / "contents.txt"
    lines = path.read_bytes().decode("ascii", "replace").split("\n")[:-1] if path.is_file() else []
    # After a line that is not a hash, the line numbers may no longer match the places of the maps.
    whole = list(itertools.takewhile(re.compile("[0-9a-f]{16}").fullmatch, lines))
    return whole if len(set(whole)) == len(whole) else []


def _held(
    encoder: Encoder, pictures: PictureSet, cache: Path, mirrored: bool, progress: bool
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Add the maps of the pictures to a cache where missing; return all its maps and the rows of these pictures."""
    shapes = _shapes(encoder, pictures.images.shape[1])
    card = {"encoder": encoder.identity, "shapes": shapes, "mirrored": mirrored, "version": ENCODING_VERSION}
    folder = cache / f"features-{hashlib.sha256(json.dumps(card).encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [(folder / f"map{number}.f16", 2 * int(np.prod(shape))) for number, shape in enumerate(shapes)]
    wanted = pictures.table["content"].tolist()
    with FileLock(folder / "lock"):  # the system releases it when a process dies
        write_json(folder / "card.json", card)
        contents = _contents(folder)
        # A picture counts only when all of its maps are there; after a kill or a truncated file, the rest is redone.
        whole = min(path.stat().st_size // n_bytes if path.is_file() else 0 for path, n_bytes in files)
        contents = contents[:whole]
        known = set(contents)
        first = {content: row for row, content in reversed([*enumerate(wanted)])}  # equal pictures are encoded once
        rows = np.array(sorted(row for content, row in first.items() if content not in known), dtype=np.int64)
        if len(rows):
            _append(folder, files, contents, encoder, pictures, rows, mirrored, progress)
            contents += [wanted[row] for row in rows]
    maps = [
        np.memmap(path, np.float16, "r", shape=(len(contents), *shape))
        for (path, _), shape in zip(files, shapes, strict=True)
    ]
    places = {content: place for place, content in enumerate(contents)}
    return tuple(maps), np.array([places[content] for content in wanted])


def _append(
    folder: Path,
    files: list[tuple[Path, int]],
    contents: list[str],
    encoder: Encoder,
    pictures: PictureSet,
    rows: np.ndarray,
    mirrored: bool,
    progress: bool,
) -> None:
    """Encode some rows of the pictures, and append their maps to the complete ones of `contents`."""
    needed, free = len(rows) * sum(n_bytes for _, n_bytes in files), shutil.disk_usage(folder).free
    place = f"{folder.parent.parent.name}/{folder.parent.name}"
    sizes = f"{needed / 1e6:,.0f} MB under {place}, where {free / 1e6:,.0f} MB are free"
    advice = "make room (`petseg data cache` lists what is kept), or name another place by PETSEG_RUNS."
    if needed > free:
        raise PetsegError(f"The features of {len(rows)} pictures by {encoder.identity} need {sizes}: {advice}")
    orientation = "mirrored pictures" if mirrored else "pictures"
    if needed >= WORTH_SAYING:
        log.info("Features of %s %s by %s: %s.", len(rows), orientation, encoder.identity, sizes)
    home, device = encoder.mean.device, best_device()
    encoder.to(device)
    try:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(path.open("ab")) for path, _ in files]
            for file, (_, n_bytes) in zip(opened, files, strict=True):
                file.truncate(len(contents) * n_bytes)  # drop a partial picture, or one that other files lack
            (folder / "contents.txt").write_text("".join(f"{content}\n" for content in contents), encoding="ascii")
            listed = stack.enter_context((folder / "contents.txt").open("a", encoding="ascii"))
            bar = stack.enter_context(
                tqdm(total=len(rows), desc=f"encoding {orientation}", unit="picture", disable=not progress)
            )
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                images = to_tensor(pictures.at(encoder.scale)[part], device)
                for file, maps in zip(opened, encoder(images.flip(-1) if mirrored else images), strict=True):
                    file.write(maps.half().cpu().numpy().tobytes())
                    file.flush()
                listed.writelines(f"{pictures.table['content'].iloc[row]}\n" for row in part)
                listed.flush()
                bar.update(len(part))
    except OSError as error:
        raise PetsegError(
            f"Could not write the feature cache ({error.strerror}). It needs {sizes}: {advice} What was written is "
            "kept, and the next run goes on from it."
        ) from error
    finally:
        encoder.to(home)
