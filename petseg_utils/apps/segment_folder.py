"""Masks, overlays and cut-outs of files and whole folders: what `petseg segment` does."""

import contextlib
import errno
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor
from tqdm.auto import tqdm

from petseg_utils.apps.cutouts import cut_out, encoded
from petseg_utils.apps.mask_formats import check_format, write_format
from petseg_utils.apps.photo_folders import BEGUN, PATIENCE, Plan, alone_in, begin, check_folder, state_of, writing
from petseg_utils.apps.photo_listing import Listing, Photo
from petseg_utils.apps.photo_tables import (
    BOX,
    COLUMNS,
    FAILED,
    MADE_BY,
    OF_FAILED,
    RESULTS,
    STATE,
    append_row,
    of_shard,
    printable,
    temporary_for,
    write_file,
    write_table,
)
from petseg_utils.data.datasets import DataError, species_of
from petseg_utils.data.labels import CLASS_COLOURS, CLASSES
from petseg_utils.data.overlays import overlay
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.prompts import Box, Click
from petseg_utils.segmenter import OpenPhoto, Segmenter, class_mask, cut_along, enlarge, read_photo
from petseg_utils.study import write_json

AHEAD = 2  # photos read ahead at most, and as many that wait to be written
ROOM = 10_000_000  # pixels of all photos that wait to be segmented, or written, at most: larger photos go one by one
THREADS = min(os.cpu_count() or 1, 4)
PALETTE = [0, 0, 0, *itertools.chain(*(ImageColor.getrgb(CLASS_COLOURS[name]) for name in CLASSES[1:]))]
SAVED_AS: tuple[tuple[str, dict[str, int]], ...] = (  # overlay, cut-out and mask, like `photo_tables.ENDINGS`
    ("JPEG", {"quality": 90}),
    ("PNG", {"compress_level": 1}),
    ("PNG", {}),
)
LONGEST_JPEG = 65_500  # pixels
log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """How many photos were segmented now, how many had been before, and how many failed."""

    segmented: int
    before: int
    failed: int


def segment_photos(
    segmenter: Segmenter,
    listing: Listing,
    out: Path,
    maker: dict,
    *,
    prompts: Sequence[Box | Click] = (),
    hard: bool = False,
    formats: Sequence[str] = (),
) -> Counts:
    """Write ``NAME_mask.png``, ``NAME_overlay.jpg`` and ``NAME_cutout.png`` of each photo, and a table of them all.

    What is already done is kept, see `photo_folders.Plan`, so an interrupted run can be resumed.  A file gets its name
    when it is complete, and a photo its row in ``results.csv`` when its files are there.  A photo that is longer than a
    JPEG can be gets no overlay, and its row names none.  The photos of a shard get a table of their own, see
    `photo_tables.of_shard`.

    Parameters
    ----------
    listing : Listing
        From `photo_listing.find_photos`.
    maker : dict
        From `photo_folders.made_by`.
    prompts : sequence of Click or Box
        In the photo's pixels, for a segmenter that takes them.
    hard : bool
        Cut along the model's coarser edges instead of the photo's own.
    formats : sequence of str
        Also write the masks of all photos in the table in these formats; see `mask_formats.write_format`.

    Raises
    ------
    PetsegError
        If the folder holds other results, is in use or cannot be written, if a prompt lies outside its photo, or if
        somebody else's file has the name of a format.
    """
    check_folder(out, maker)
    for kind in formats:
        check_format(out, kind)
    asked, shard = "; ".join(as_option(prompt) for prompt in prompts), listing.shard
    results, failures = out / of_shard(RESULTS, shard), out / of_shard(FAILED, shard)
    failing, n_failed = temporary_for(failures), 0
    states: dict[Photo, dict[str, str]] = {}
    pool, held = ThreadPoolExecutor(THREADS), contextlib.ExitStack()

    def usable(pairs: Iterable[tuple[Photo, Future]]) -> Iterator[tuple[Photo, Any]]:
        nonlocal n_failed
        for photo, future in pairs:
            try:
                yield photo, future.result()
            except DataError as error:
                reason = str(error).removeprefix(photo.path.name).strip()
                with writing(out):
                    append_row(failing, (photo.name, reason))
                states.pop(photo, None)
                n_failed += 1
                log.warning("failed: %s: %s", printable(photo.name), printable(reason))
                bar.update()

    def read(photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        with contextlib.suppress(OSError):  # before the photo is read: if it changes meanwhile, the next run does it
            states[photo] = state_of(photo.path)
        return read_for(segmenter, photo)

    def announced(items: Iterable[tuple]) -> Iterator[tuple]:
        for item in items:
            with writing(out):
                begin(out, [item[0].stem], shard)
            yield item

    with held:
        held.callback(pool.shutdown, cancel_futures=True)
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(out, shard=shard))
            plan = Plan(listing, out, asked)
            for line in listing.left_out:
                log.warning("%s", line)
            write_table(failing, OF_FAILED, [])
            held.callback(failing.unlink, missing_ok=True)
        bar = held.enter_context(tqdm(total=plan.n_todo, desc="segmenting", unit="photo", disable=plan.n_todo < 2))
        reading = _ahead(pool, read, ((photo,) for photo in plan.todo))
        segmented = segmented_photos(segmenter, usable(reading), prompts, hard)
        first = list(itertools.islice(segmented, 1))  # a click outside the photo ends it here, before anything changes
        with writing(out):
            with alone_in(out, wait=PATIENCE) if shard else contextlib.nullcontext():
                check_folder(out, maker)  # again: until the folder was locked, another run could write there
                write_json(out / MADE_BY, maker)
            begin(out, (photo.stem for photo in plan.todo if any(map(os.path.lexists, photo.results(out)))), shard)
            write_table(results, COLUMNS, plan.rows)
        for photo, row in usable(
            _ahead(
                pool, partial(_save, out, segmenter.card["image_size"]), announced(itertools.chain(first, segmented))
            )
        ):
            row |= {"prompts": asked, "photo": photo.place, **states.pop(photo, dict.fromkeys(STATE, ""))}
            if not row["overlay"]:
                why = f"it is longer than a JPEG can be, {LONGEST_JPEG:,} pixels. The mask and the cut-out are written."
                log.warning("no overlay: %s: %s", printable(photo.name), why)
            with writing(out):
                append_row(results, [row[column] for column in COLUMNS])
            bar.update()
        with writing(out):
            (out / of_shard(BEGUN, shard)).unlink(missing_ok=True)
            if n_failed:
                failing.replace(failures)
            else:
                failures.unlink(missing_ok=True)
            for kind in dict.fromkeys(formats):
                write_format(out, kind)
    return Counts(plan.n_todo - n_failed, plan.n_photos - plan.n_todo, n_failed)


# For one photo: the class of each pixel ``uint8 (H, W)``, its opacity there (0 to 255), and the confidence.
_Result = tuple[np.ndarray, np.ndarray, float]


def as_option(prompt: Box | Click) -> str:
    """Return a click or a box as the table shows it: as the command line's option."""
    if isinstance(prompt, Box):
        return f"box {prompt.x0:g},{prompt.y0:g},{prompt.x1:g},{prompt.y1:g}"
    return f"{'click' if prompt.positive else 'not'} {prompt.x:g},{prompt.y:g}"


def _ahead(pool: ThreadPoolExecutor, work: Callable, items: Iterable[tuple]) -> Iterator[tuple[Photo, Future]]:
    """Yield the photo at the start of each item, and the future of ``work(*item)``; a few are started ahead of time."""
    waiting: deque[tuple[Photo, Future, int]] = deque()
    for item in items:
        pixels = sum(part.size // 3 for part in item if isinstance(part, np.ndarray))
        waiting.append((item[0], pool.submit(work, *item), pixels))
        del item  # otherwise it would hold the image while the next one is made
        while len(waiting) > AHEAD or sum(pixels for _, _, pixels in waiting) > ROOM:
            yield waiting.popleft()[:2]
    while waiting:
        yield waiting.popleft()[:2]


def read_for(segmenter: Segmenter, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo and make its square for the model: shrinking it here, in a thread, saves the model waiting time."""
    image = read_photo(photo.path)
    return image, segmenter.letterbox(image).image(image, segmenter.model.scale)


def segmented_photos(
    segmenter: Segmenter, photos: Iterable[tuple], prompts: Sequence[Box | Click], hard: bool
) -> Iterator[tuple]:
    """Yield each photo with its image and a function that returns its `_Result`, to be called in a thread."""
    if segmenter.takes_prompts:
        for photo, (image, _) in photos:
            opened = segmenter.open(image)
            for prompt in prompts:
                opened.add(prompt)
            yield photo, image, partial(_selected, opened, hard)
        return
    for photo, (image, square) in photos:  # one by one: on a CPU, several at once are no faster and need more memory
        # The square is letterboxed again there, which leaves it unchanged.
        (probabilities,) = segmenter.probabilities([square])
        yield photo, image, partial(_likeliest, probabilities, segmenter.letterbox(image), image, hard)


def _likeliest(probabilities: np.ndarray, box: Letterbox, image: np.ndarray, hard: bool) -> _Result:
    background, *pets = probabilities[:, *box.window]
    pet = np.maximum(*pets)
    sure = (pet / (pet + background))[pet > background]  # as in `OpenPhoto.confidence`
    confidence = float(sure.mean()) if sure.size else 0.0
    if hard:
        mask = class_mask(probabilities, box)
        return mask, np.where(mask > 0, np.uint8(255), np.uint8(0)), confidence
    pet = np.maximum(probabilities[1], probabilities[2])
    alpha = cut_along(image, pet / (pet + probabilities[0]), box)
    dog = enlarge(probabilities[2] - probabilities[1], box, alpha.shape) > 0  # dog rather than cat
    return np.where(alpha > 127, dog + np.uint8(1), np.uint8(0)), alpha, confidence


def _selected(opened: OpenPhoto, hard: bool) -> _Result:
    alpha = opened.alpha(hard=hard)
    return (alpha > 127) * np.uint8(CLASSES.index(opened.label)), alpha, opened.confidence


def _save(out: Path, size: int, photo: Photo, image: np.ndarray, decide: Callable[[], _Result]) -> dict:
    """Write a photo's three files, and return its row of the table."""
    mask, alpha, confidence = decide()
    pet = mask > 0
    label = Image.fromarray(mask)
    label.putpalette(PALETTE)
    too_long = max(mask.shape) > LONGEST_JPEG
    # Each is made when its turn comes: for a large photo, all at once would take much memory.
    makers: list[Callable[[], np.ndarray | Image.Image]] = [
        lambda: _overlay(image, mask),
        lambda: cut_out(image, alpha, size),
        lambda: label,
    ]
    for path, make, (kind, options) in zip(photo.results(out), makers, SAVED_AS, strict=True):
        if kind == "JPEG" and too_long:
            with writing(out):
                path.unlink(missing_ok=True)  # left by an earlier photo of this name
            continue
        try:
            content = encoded(make(), kind, **options)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be written as {kind} ({error}).") from error
        _write(out, path, content)
    box = box_of(pet)
    row = {"file": photo.name, "width": mask.shape[1], "height": mask.shape[0], "class": CLASSES[species_of(mask)]}
    row |= {"share": f"{pet.mean():.6f}", "confidence": f"{confidence if box else 0:.4f}"}
    names = [path.as_posix() for path in photo.results(Path())]
    return (
        row
        | (dict(zip(BOX, box, strict=True)) if box else dict.fromkeys(BOX, ""))
        | {"mask": names[-1], "overlay": "" if too_long else names[0]}
    )


def box_of(pet: np.ndarray) -> list[int] | None:
    """Return first and last column and row of a mask ``bool (H, W)``, as in `photo_tables.BOX`; None if it is empty."""
    ys, xs = np.flatnonzero(pet.any(1)), np.flatnonzero(pet.any(0))
    return [int(xs[0]), int(ys[0]), int(xs[-1]), int(ys[-1])] if len(xs) else None


def _overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the photo half covered by its mask, made in strips: making an overlay takes several times its size."""
    over = np.empty_like(image)
    for start in range(0, len(mask), 256):
        strip = slice(start, start + 256)
        over[strip] = overlay(image[strip], mask[strip])
    return over


def _write(out: Path, path: Path, content: bytes) -> None:
    """Call `write_file`, leaving nothing behind if that fails."""
    with writing(out):
        try:
            write_file(path, content)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary_for(path).unlink(missing_ok=True)
            if error.errno == errno.ENAMETOOLONG:
                raise DataError("has too long a name: shorten it.") from error
            raise
