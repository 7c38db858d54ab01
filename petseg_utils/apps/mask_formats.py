"""Masks in the formats of other programs: COCO's instances, as run lengths or polygons, and YOLO's labels.

A mask does not separate pets of the same species, so all cats of a photo are one object, and all dogs another.
"""

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from petseg_utils.apps.photo_tables import ENDINGS, RESULTS, read_table, write_file
from petseg_utils.data.labels import CLASSES, SPECIES
from petseg_utils.segmenter import read_photo
from petseg_utils.study import PetsegError, shown, write_json

TOLERANCE = 1.0  # photo pixels by which an outline may be straightened: enough to turn stairs into a slope
INFO = {"description": "Masks by petseg"}
YOLO_COMMENT = "# By petseg. Both splits are all photos: to validate on others, divide photos.txt into two files."
LEAST = 0.99  # IoU of a part before and after straightening; if it would be lower, the outline stays as it is


def write_format(out: Path, kind: str) -> None:
    """Write all masks of a folder of results in another format, from its table and the files on disk.

    Parameters
    ----------
    out : Path
        Folder of results, see `segment_folder.segment_photos`.
    kind : str
        ``coco`` and ``coco-polygons`` write a file of that name, ``.json``, in which photos are paths from `out`.
        ``yolo`` writes a folder ``yolo`` with ``labels/NAME.txt``, with ``images/``, which links to the photos, with
        their list ``photos.txt`` and with ``data.yaml``.

    Raises
    ------
    PetsegError
        If something that petseg did not write has that name; see `check_format`.
    """
    check_format(out, kind)
    rows = [row for row in read_table(out / RESULTS) if (out / row["mask"]).is_file()]
    rows.sort(key=lambda row: row["photo"])  # numbers do not depend on the order in which photos were segmented
    if kind == "yolo":
        _write_yolo(out, rows)
    else:
        masks = ((row["photo"], read_mask(out / row["mask"])) for row in rows)
        write_json(_place(out, kind), coco(masks, polygons=kind == "coco-polygons"), indent=None)


def check_format(out: Path, kind: str) -> None:
    """Raise an error if something that petseg did not write is in the way.

    Parameters
    ----------
    out, kind : Path, str
        See `write_format`.

    Raises
    ------
    PetsegError
        If there is such a file or folder.
    """
    place = _place(out, kind)
    if os.path.lexists(place) and not _is_own(place):
        raise PetsegError(
            f"{shown(place)} was not written by petseg segment, so it is not replaced: move it, or name another folder "
            "with -o."
        )


def _place(out: Path, kind: str) -> Path:
    """Return the path of a format's file or folder."""
    return out / (kind if kind == "yolo" else f"{kind}.json")


def _is_own(place: Path) -> bool:
    """Return whether petseg wrote a file or folder of `_place`; a link counts as somebody else's."""
    folders = [place, place / "labels", place / "images"]
    if any(path.is_symlink() for path in folders):
        return False
    file, begins = (place / "data.yaml", YOLO_COMMENT) if place.is_dir() else (place, json.dumps({"info": INFO})[:-1])
    try:
        with file.open("rb") as content:  # a file may be large, and its beginning is enough
            return content.read(len(begins)) == begins.encode()
    except OSError:
        return False


def read_mask(path: Path) -> np.ndarray:
    """Read a mask that `petseg segment` wrote, ``uint8 (H, W)``."""
    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image)


def coco(masks: Iterable[tuple[str, np.ndarray]], *, polygons: bool = False) -> dict:
    """Return masks in COCO's format for instances.

    Parameters
    ----------
    masks : iterable of (str, ndarray)
        File names of photos and their masks, ``uint8 (H, W)``: 0 background, 1 cat, 2 dog.  A 3 marks something that a
        user clicked on and that is no pet; it is called background.
    polygons : bool
        Write outlines, which may be straightened by up to a pixel, instead of compressed run lengths, which are
        exact.  COCO's polygons have no holes, so each hole is joined to its outline by a cut of zero width.

    Returns
    -------
    dict
        ``images``, ``annotations`` and ``categories``, numbered from 1.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    names = dict(SPECIES)
    for name, mask in masks:
        height, width = mask.shape
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        for value in np.unique(mask[mask > 0]).tolist():
            names.setdefault(value, CLASSES[0])
            selected = mask == value
            runs = encoded_runs(selected)
            shape = [joined(part).ravel().tolist() for part in parts(selected)] if polygons else runs
            numbers = {"id": len(annotations) + 1, "image_id": len(images), "category_id": value, "iscrowd": 0}
            measures = {"area": int(run_lengths.area(runs)), "bbox": run_lengths.toBbox(runs).tolist()}
            annotations.append(numbers | measures | {"segmentation": shape})
    categories = [{"id": value, "name": name} for value, name in names.items()]
    return {
        "info": INFO,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def coco_file(name: str, mask: np.ndarray) -> bytes:
    """Return the content of a JSON file for one photo, with run lengths; see `coco`."""
    return json.dumps(coco([(name, mask)])).encode()


def encoded_runs(selected: np.ndarray) -> dict:
    """Return COCO's compressed run lengths of a mask ``bool (H, W)``, with the counts as text, as JSON needs."""
    runs = run_lengths.encode(np.asfortranarray(selected, np.uint8))
    return {"size": list(map(int, runs["size"])), "counts": runs["counts"].decode("ascii")}


def yolo_lines(mask: np.ndarray) -> list[str]:
    """Return lines of a YOLO label: class (0 cat, 1 dog) and one outline, x and y from 0 to 1, per species in a mask.

    YOLO's objects have a single outline, so holes and separate parts are joined to it by cuts of zero width.
    """
    height, width = mask.shape
    lines = []
    for value in SPECIES:
        rings = [ring for part in parts(mask == value) for ring in part]
        if rings:
            outline = joined(rings) / (width, height)
            lines.append(" ".join([str(value - 1), *(f"{place:.6f}" for place in outline.ravel())]))
    return lines


def _write_yolo(out: Path, rows: list[dict]) -> None:
    folder, listed = _place(out, "yolo"), []
    names = [f"  {value - 1}: {name}" for value, name in SPECIES.items()]
    # This file comes first, so that the folder is recognised as petseg's own even if the run is interrupted.
    _write_text(folder / "data.yaml", [YOLO_COMMENT, "train: photos.txt", "val: photos.txt", "names:", *names])
    for row in rows:
        stem = row["mask"].removesuffix(ENDINGS[-1])
        _write_text(folder / "labels" / f"{stem}.txt", yolo_lines(read_mask(out / row["mask"])))
        # Where training looks for the photo of labels/STEM.txt.
        listed.append(f"./{_link(folder / 'images', stem, out / row['photo']).relative_to(folder).as_posix()}")
    _write_text(folder / "photos.txt", listed)


def _write_text(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_file(path, text.encode("utf-8", "surrogateescape"))  # names may contain any bytes


def _link(folder: Path, stem: str, photo: Path) -> Path:
    """Link to a photo; if the disk has no links, write its pixels, upright and without the camera's metadata."""
    link, target = folder / f"{stem}{photo.suffix}", photo.resolve()
    link.parent.mkdir(parents=True, exist_ok=True)
    if target == link.parent.resolve() / link.name:
        return link  # the photo itself is there
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(target, link.parent.resolve()))
    except (OSError, ValueError):  # ValueError: on Windows, it is on another drive
        link = folder / f"{stem}.png"
        picture = io.BytesIO()
        Image.fromarray(read_photo(target)).save(picture, "PNG")
        write_file(link, picture.getvalue())
    return link


def parts(selected: np.ndarray) -> list[list[np.ndarray]]:
    """Return the connected parts of a mask, each as its outline and its holes.

    Parameters
    ----------
    selected : ndarray
        ``bool (H, W)``.

    Returns
    -------
    list of list of ndarray
        Rings ``int32 (n, 2)``: x and y of pixel corners, from 0 to the width and the height.
    """
    height, width = selected.shape
    # OpenCV's contours run through the centres of pixels, which takes half a pixel off each side, and thin parts away.
    # If pixels are quartered first, each quarter on the contour lies at one corner of its original pixel.
    quartered = selected.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, tree = cv2.findContours(quartered, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings_of: dict[int, list[np.ndarray]] = {}
    of_part = (
        [(number if branch[3] < 0 else int(branch[3])) for number, branch in enumerate(tree[0])] if contours else []
    )
    for number in sorted(range(len(contours)), key=lambda number: of_part[number] != number):  # outlines first
        rings_of.setdefault(of_part[number], []).append(_corners((contours[number][:, 0] + 1) // 2))
    return [_straightened(rings, height, width) for rings in rings_of.values()]


def _corners(ring: np.ndarray) -> np.ndarray:
    """Return a ring of points without repetitions, and without those on a straight line between others."""
    ring = ring[(ring != np.roll(ring, 1, 0)).any(1)]
    (x0, y0), (x1, y1) = (ring - np.roll(ring, 1, 0)).T, (np.roll(ring, -1, 0) - ring).T
    return ring[x0 * y1 != y0 * x1]


def _straightened(rings: list[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """Return an outline and its holes with fewer corners, as long as the part stays nearly the same."""
    fewer = [cv2.approxPolyDP(ring[:, None], TOLERANCE, closed=True)[:, 0] for ring in rings]
    fewer = [less if len(less) > 2 else ring for less, ring in zip(fewer, rings, strict=True)]
    before, after = (polygon_runs([joined(shape)], height, width) for shape in (rings, fewer))
    return fewer if run_lengths.iou([before], [after], [0])[0, 0] >= LEAST else rings


def polygon_runs(polygons: list[np.ndarray], height: int, width: int) -> dict:
    """Return the run lengths of the area inside polygons ``(n, 2)``, as pycocotools draws them."""
    flat = [np.asarray(polygon, float).ravel().tolist() for polygon in polygons]
    return run_lengths.merge(run_lengths.frPyObjects(flat, height, width))


def joined(rings: list[np.ndarray]) -> np.ndarray:
    """Join rings to a single one ``(n, 2)``: each is joined to those before it by a cut from corner to corner and back.

    A renderer that counts crossings, such as pycocotools', does not see the cuts.
    """
    path = rings[0]
    for ring in rings[1:]:
        start, at = nearest_corners(ring, path)
        path = np.concatenate([path[: at + 1], ring[start:], ring[: start + 1], path[at:]])
    return path


def nearest_corners(ring: np.ndarray, path: np.ndarray) -> tuple[int, int]:
    """Return which corners ``(n, 2)`` of a ring and of a path are nearest to each other."""
    nearest = [(((path - corner) ** 2).sum(1)).argmin() for corner in ring]
    start = int(((path[nearest] - ring) ** 2).sum(1).argmin())
    return start, int(nearest[start])
