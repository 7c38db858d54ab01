"""The audit: read every file of a data set and list what is wrong with it."""

import contextlib
import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from petseg_utils.data.datasets import (
    OFFICIAL_COUNTS,
    DataError,
    Picture,
    find_data,
    list_pictures,
    read_pair,
    species_of,
)
from petseg_utils.data.image_files import ImageFileError, orientation, read_image_file
from petseg_utils.study import shown

EXPECTED_FORMATS = {".png": ("PNG",)}  # by the ending of a photo's name; for other endings, `JPEG`
JPEG = ("JPEG", "MPO")
# Photos are read upright, masks as they are stored.
TURNED = ("its mask must show it upright", "of a mask that is ignored")


@dataclass(frozen=True)
class Finding:
    """Something the audit found.

    Parameters
    ----------
    name : str
        The picture.
    level : str
        ``error`` (the picture cannot be used) or ``warning`` (it is used nevertheless).
    kind : str
        ``missing``, ``unreadable``, ``size differs``, ``mask values``, ``other type``, ``turned``, ``no pet``,
        ``duplicate`` or ``list`` (then `name` is a split).
    message : str
        What was found, with the file's name.
    """

    name: str
    level: str
    kind: str
    message: str


def inspect_picture(picture: Picture) -> tuple[np.ndarray | None, np.ndarray | None, list[Finding]]:
    """Read one picture with its mask, and report what is wrong with them.

    Returns
    -------
    (ndarray or None, ndarray or None, list of Finding)
        Photo ``uint8 (H, W, 3)`` and label ``uint8 (H, W)``, both None if there is an error; then the findings.
    """
    headers = [_header(path) for path in (picture.image, picture.mask)]
    findings = [
        Finding(
            picture.name, "warning", "turned", f"{shown(path)}: its EXIF orientation is {header[2]}, not 1; {what}."
        )
        for path, header, what in zip((picture.image, picture.mask), headers, TURNED, strict=True)
        if header and header[2] != 1
    ]
    try:
        image, label = read_pair(picture)
    except DataError as error:
        return None, None, [Finding(picture.name, "error", error.kind, str(error)), *findings]
    if headers[0] and headers[0][0] not in EXPECTED_FORMATS.get(picture.image.suffix.lower(), JPEG):
        kind, mode, _ = headers[0]
        message = f"{shown(picture.image)}: a {kind} file in mode {mode}, whatever its name says."
        findings.append(Finding(picture.name, "warning", "other type", message))
    if not species_of(label):
        findings.append(Finding(picture.name, "warning", "no pet", f"{shown(picture.mask)}: no pet pixel in the mask."))
    return image, label, findings


def _header(path: Path) -> tuple[str | None, str, int] | None:
    """Return the format, mode and EXIF orientation of an image file; None if it cannot be read."""
    with contextlib.suppress(ImageFileError):  # reading the whole file reports what is wrong with it
        return read_image_file(path, lambda image: (image.format, image.mode, orientation(image)))
    return None


def audit(root: Path, *, progress: bool = True) -> dict:
    """Read every listed file of a data set, and report what is wrong.

    Parameters
    ----------
    root : Path
        The data set's folder; see `datasets.find_data`.

    Returns
    -------
    dict
        ``layout``, ``splits`` (pictures per split), ``breeds`` (number of them), ``errors``, ``warnings`` (findings as
        dicts) and ``official`` (whether the counts are those of the full data set).

    Raises
    ------
    DataError
        If there is no such folder, it has neither layout, or neither split has pictures.
    """
    _, layout = find_data(root)
    pictures: list[Picture] = []
    lists: list[Finding] = []
    for split in OFFICIAL_COUNTS:
        try:
            pictures += list_pictures(root, split)
        except DataError as error:  # an empty split matters only where it is needed, a bad list is always an error
            lists.append(Finding(split, "warning" if error.kind == "empty" else "error", "list", str(error)))
    if not pictures:
        raise DataError(" ".join(finding.message for finding in lists))

    def look(picture: Picture) -> tuple[str | None, list[Finding]]:
        image, _, findings = inspect_picture(picture)
        return None if image is None else content_hash(image), findings

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        results = list(tqdm(pool.map(look, pictures), total=len(pictures), desc="auditing", disable=not progress))
    findings = lists + [finding for _, of_picture in results for finding in of_picture]
    first_with: dict[str, Picture] = {}
    for picture, (content, _) in zip(pictures, results, strict=True):
        first = first_with.setdefault(content, picture) if content else picture
        if first is not picture:
            message = f"{shown(picture.image)}: same pixels as {first.name} ({first.split})."
            findings.append(Finding(picture.name, "warning", "duplicate", message))
    splits = Counter(picture.split for picture in pictures)
    return {
        "layout": layout,
        "splits": dict(splits),
        "breeds": len({picture.breed for picture in pictures}),
        "official": dict(splits) == OFFICIAL_COUNTS,
        "errors": [asdict(finding) for finding in findings if finding.level == "error"],
        "warnings": [asdict(finding) for finding in findings if finding.level == "warning"],
    }


def audit_lines(report: dict) -> str:
    """Format what `audit` returns as text for the terminal."""
    counts = ", ".join(f"{number} {split}" for split, number in report["splits"].items())
    full = "the full official set" if report["official"] else "not the full official set of 3,680 + 3,669"
    lines = [f"{report['layout']} layout: {counts} pictures, {report['breeds']} breeds ({full})"]
    for level in ("errors", "warnings"):
        lines.append(f"{len(report[level])} {level}" + (":" if report[level] else ""))
        lines += [f"  {finding['kind']:14} {finding['message']}" for finding in report[level]]
    return "\n".join(lines)


def content_hash(pixels: np.ndarray) -> str:
    """Return a hash of an array's shape and pixels: equal for copies of a picture under different names."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:16]
