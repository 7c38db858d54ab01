"""Pictures as models see them: letterboxed, checked while they are read, and cached on disk in decoded form."""

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from petseg_utils.data.audit import Finding, content_hash, inspect_picture
from petseg_utils.data.datasets import DataError, Picture, list_pictures, species_of, split_validation
from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.data.transforms import Letterbox
from petseg_utils.study import Study
from petseg_utils.study.folders import alone_in, made_aside

SPLITS = ("train", "validation", "test")
READING_VERSION = 2  # raise it whenever the same files would give different squares or findings


@dataclass(frozen=True)
class Rows:
    """Some rows of arrays on disk, in any order: they are read when asked for, and not kept in memory.

    Parameters
    ----------
    arrays : tuple of ndarray
        Memory-mapped arrays of the same type, with rows of the same shape.
    places : ndarray
        ``int64 (n, 2)``: for each row, the number of its array and its index in that array.
    """

    arrays: tuple[np.ndarray, ...]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that these rows would make."""
        return (len(self), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The data type of the arrays."""
        return self.arrays[0].dtype

    def __getitem__(self, wanted: int | slice | np.ndarray | list[int]) -> np.ndarray:
        """Return one row, or several in a new array."""
        if isinstance(wanted, int | np.integer):
            number, row = self.places[wanted]
            return self.arrays[number][row]
        read = np.empty((len(places := self.places[wanted]), *self.shape[1:]), self.dtype)
        for place, (number, row) in enumerate(places):
            read[place] = self.arrays[number][row]
        return read

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows, in memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def taken(self, rows: np.ndarray) -> "Rows":
        """Return some of these rows, by their indices."""
        return Rows(self.arrays, self.places[rows])


def rows_of(*parts: "np.ndarray | Rows") -> Rows:
    """Concatenate the rows of arrays without reading them."""
    arrays: list[np.ndarray] = []
    places = []
    for part in parts:
        if isinstance(part, Rows):
            numbers, rows = part.places.T
            held = part.arrays
        else:
            numbers, rows, held = np.zeros(len(part), int), np.arange(len(part)), (part,)
        places.append(np.stack([numbers + len(arrays), rows], 1))
        arrays += held
    return Rows(tuple(arrays), np.concatenate(places))


@dataclass(frozen=True)
class PictureSet:
    """The letterboxed pictures of one split.

    Parameters
    ----------
    table : DataFrame
        One row per picture: ``name``, ``species`` (1 cat, 2 dog), ``breed``, ``height``, ``width`` (the photo's own
        size), ``content`` and ``mask`` (hashes of the photo's and the mask's pixels).
    images : ndarray or Rows
        ``uint8 (n, size, size, 3)``.
    labels : ndarray
        ``uint8 (n, size, size)``: 0 background, 1 cat, 2 dog, 254 padding, 255 border.
    skipped : tuple of Finding
        What was found in pictures that were left out, because of errors (on request) or to keep the splits apart.
    detail : ndarray or Rows, optional
        The same pictures, made from the same photos at twice the size, ``uint8 (n, 2 size, 2 size, 3)``, for an encoder
        that needs them.
    """

    table: pd.DataFrame
    images: np.ndarray | Rows
    labels: np.ndarray
    skipped: tuple[Finding, ...] = ()
    detail: np.ndarray | Rows | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def fingerprint(self) -> str:
        """Hash of the pictures' names and of the pixels of their photos and masks."""
        lines = "\n".join(sorted(self.table["name"] + self.table["content"] + self.table["mask"]))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def subset(self, names: list[str]) -> "PictureSet":
        """Return the pictures with these names, in this order; the labels are read into memory, the images are not."""
        rows = pd.Index(self.table["name"]).get_indexer(names)
        table = self.table.iloc[rows].reset_index(drop=True)
        images, detail = rows_of(self.images).taken(rows), self.detail
        detail = detail if detail is None else rows_of(detail).taken(rows)
        return replace(self, table=table, images=images, labels=self.labels[rows], detail=detail)

    def at(self, scale: int) -> np.ndarray | Rows:
        """Return the pictures at a multiple of their size, 1 or 2."""
        if scale == 1:
            return self.images
        if self.detail is None:
            raise ValueError("these pictures were read without their detail; see `decode`")
        return self.detail


def load_pictures(
    study: Study, split: str, *, skip_bad: bool = False, names: set[str] | None = None, progress: bool = True
) -> PictureSet:
    """Read a split of a study's data, from the cache of decoded pictures if there is one.

    The embedded pictures are drawn first if they do not exist yet.

    Parameters
    ----------
    study : Study
        Names the data, the image size and the share held out for validation.
    split : str
        ``train``, ``validation`` or ``test``.
    skip_bad : bool
        Continue without the pictures that have errors; they are listed in the result.
    names : set of str, optional
        Keep only these pictures.

    Raises
    ------
    DataError
        If the data is missing or empty, or if any picture has an error and `skip_bad` is false.
    """
    if split not in SPLITS:
        raise DataError(f"Unknown split {split!r}: use one of {', '.join(SPLITS)}.")
    if study.draws_its_data:
        draw_sample(study.data_dir, study.sample_trainval, study.sample_test, progress=progress)
    listed = list_pictures(study.data_dir, "test" if split == "test" else "trainval", names)
    pictures = decode(
        listed, study.image_size, study.cache_dir, scale=study.picture_scale, skip_bad=skip_bad, progress=progress
    )
    if split == "test":
        return pictures
    kept = set(pictures.table["name"])
    parts = split_validation([picture for picture in listed if picture.name in kept], study.validation_share)
    return pictures.subset([picture.name for picture in parts[split == "validation"]])


def load_splits(study: Study, **options: Any) -> dict[str, PictureSet]:
    """Load all three splits, by name, disjoint in names and in content.

    A training picture whose pixels are also in validation or test would leak, and so would a validation picture that is
    also in test; it is left out of its split and listed there.
    """
    splits = {split: load_pictures(study, split, **options) for split in SPLITS}
    for split, others in (("validation", ("test",)), ("train", ("test", "validation"))):
        elsewhere = set().union(*(splits[other].table["content"] for other in others))
        leaks = splits[split].table["content"].isin(elsewhere)
        if leaks.any():
            leaked = splits[split].table["name"][leaks]
            notes = tuple(Finding(name, "warning", "duplicate", f"also in {' or '.join(others)}") for name in leaked)
            kept = splits[split].subset(splits[split].table["name"][~leaks].tolist())
            splits[split] = replace(kept, skipped=kept.skipped + notes)
    assert_disjoint(splits)
    return splits


def assert_disjoint(splits: dict[str, PictureSet]) -> None:
    """Raise `DataError` if a picture's name or content is in two splits."""
    for column in ("name", "content"):
        values = pd.concat([picture_set.table[column].drop_duplicates() for picture_set in splits.values()])
        if values.duplicated().any():
            raise DataError(f"Two splits share a picture's {column}: {values[values.duplicated()].iloc[0]}.")


def decode(
    pictures: list[Picture],
    size: int,
    cache: Path,
    *,
    scale: int = 1,
    skip_bad: bool = False,
    progress: bool = True,
    workers: int | None = None,
) -> PictureSet:
    """Read, check and letterbox pictures; the result is kept on disk and memory-mapped.

    The cache is keyed by the files' paths, sizes and times and by `READING_VERSION`, so pictures are read again after a
    change.  Of several processes, one reads while the others wait for it.

    Parameters
    ----------
    size : int
        Edge of the letterboxed square in pixels.
    cache : Path
        Folder of all caches; for a study, ``study.cache_dir``.
    scale : int
        2 to keep the pictures at twice the size too (``detail``).
    workers : int, optional
        Number of threads that read; by default one per core, at most eight.

    Raises
    ------
    DataError
        If a picture has an error and `skip_bad` is false, if no picture can be used, or if the cache cannot be written
        or read.
    """
    folder = cache / f"pictures-{size}{'+detail' if scale > 1 else ''}-{_files_key(pictures)}"
    card_path, n_workers = folder / "card.json", workers or min(os.cpu_count() or 1, 8)
    if not card_path.is_file():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            # Of several processes, one decodes while the others wait, however long that takes.
            with alone_in(cache, "petseg", "wait", name=".pictures.lock", wait=-1):
                if not card_path.is_file():
                    with made_aside(cache) as temporary:
                        _write_cache(temporary, pictures, size, scale, progress, n_workers)
                        temporary.rename(folder)
        except OSError as error:
            needed = len(pictures) * size * size * (4 if scale == 1 else 4 + 3 * scale**2) / 1e6
            raise DataError(
                f"Could not write the picture cache ({error.strerror}). It needs {needed:.0f} MB under "
                f"{cache.parent.name}/{cache.name}: make room, or name another place by PETSEG_RUNS."
            ) from error
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        skipped, table = tuple(Finding(**finding) for finding in card["errors"]), pd.DataFrame(card["rows"])
        edges = {"images.u8": (size, size, 3), "labels.u8": (size, size)}
        edges |= {"detail.u8": (scale * size, scale * size, 3)} if scale > 1 else {}
        arrays = [
            np.memmap(folder / name, np.uint8, "r", shape=(len(table), *shape)) if len(table) else None
            for name, shape in edges.items()
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"The picture cache {folder.name} is damaged ({error}): petseg data cache --clear deletes all caches, and "
            "they are made anew."
        ) from error
    if skipped and not skip_bad:
        listed = "\n".join(f"  {finding.name}: {finding.message}" for finding in skipped[:20])
        raise DataError(
            f"{len(skipped)} of {len(pictures)} pictures cannot be used:\n{listed}\n"
            "Repair or remove them, or continue without them with --skip-bad."
        )
    images, labels, *detail = arrays
    if images is None or labels is None:
        raise DataError("No picture can be used: every one of them has an error.")
    return PictureSet(table, images, labels, skipped=skipped, detail=detail[0] if detail else None)


def _files_key(pictures: list[Picture]) -> str:
    digest = hashlib.sha256(f"version {READING_VERSION}".encode())
    for picture in pictures:
        for path in (picture.image, picture.mask):
            try:
                stat = path.stat()
                state = (stat.st_size, stat.st_mtime_ns)
            except OSError:  # missing, or access is denied: the reader will say which
                state = None
            digest.update(repr((str(path.resolve()), picture.species, state)).encode())
    return digest.hexdigest()[:16]


def _write_cache(folder: Path, pictures: list[Picture], size: int, scale: int, progress: bool, workers: int) -> None:
    rows, errors = [], []

    def read(picture: Picture) -> tuple[dict | None, list[np.ndarray], list[Finding]]:
        image, label, findings = inspect_picture(picture)
        if image is None or label is None:
            return None, [], findings
        height, width = label.shape
        row = {
            "name": picture.name,
            "species": picture.species or species_of(label),
            "breed": picture.breed,
            "height": height,
            "width": width,
            "content": content_hash(image),
            "mask": content_hash(label),
        }
        box = Letterbox(height, width, size)
        squares = [box.image(image), box.label(label)]
        return row, squares if scale == 1 else [*squares, box.image(image, scale)], findings

    # Plain sequential writes: on a full disk they raise, whereas writing to a memory map would kill the process.
    names = ("images", "labels") if scale == 1 else ("images", "labels", "detail")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        files = [stack.enter_context((folder / f"{name}.u8").open("wb")) for name in names]
        bar = tqdm(pool.map(read, pictures), total=len(pictures), desc="reading pictures", disable=not progress)
        for row, squares, findings in bar:
            errors += [vars(finding) for finding in findings if finding.level == "error"]
            if row is not None:
                rows.append(row)
                for file, square in zip(files, squares, strict=True):
                    file.write(square.tobytes())
    card = {"size": size, "rows": rows, "errors": errors}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


def join(first: PictureSet, second: PictureSet) -> PictureSet:
    """Join the pictures of two sets without reading them; raise `DataError` if a name is in both."""
    table = pd.concat([first.table, second.table], ignore_index=True)
    if (twice := table["name"].duplicated()).any():
        raise DataError(f"Both sets have a picture named {table['name'][twice].iloc[0]}. Rename or remove one.")
    detail = None if first.detail is None else rows_of(first.detail, second.at(2))
    labels = np.concatenate([first.labels, second.labels])
    return PictureSet(table, rows_of(first.images, second.images), labels, first.skipped + second.skipped, detail)
