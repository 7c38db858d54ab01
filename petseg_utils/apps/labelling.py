"""Labelling photos one after the other: the data set that they become, in the official layout, and the way through it.

A data set that is made here has a table besides, ``labelled.csv``: which photo became which picture, and which show no
pet.  The lists are made from it.
"""

import contextlib
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from petseg_utils.apps.cutouts import encoded
from petseg_utils.apps.page_state import heard_prompt, told_prompt
from petseg_utils.apps.photo_folders import alone_in, writing
from petseg_utils.apps.photo_listing import Listing, find_photos
from petseg_utils.apps.photo_tables import read_rows, write_file, write_table
from petseg_utils.data.datasets import DataError, breed_of
from petseg_utils.data.labels import SPECIES
from petseg_utils.models.prompts import Prompt, distance_to
from petseg_utils.segmenter import OpenPhoto, Segmenter, read_photo
from petseg_utils.study import PetsegError, shown

TABLE = "labelled.csv"
COLUMNS = ("photo", "name", "species", "split", "prompts")  # a photo without a pet has no name and no split
NO_PET = "none"
SPLITS = ("trainval", "test")
BREEDS = {"cat": "Cat", "dog": "dog"}  # where none is named; in the official names breeds of cats begin with a capital
ONE_IN = 5  # pictures goes into the test split
BORDER = 0.01  # of the photo's longer side: how far the undecided border reaches to each side of an outline
QUALITY = 95  # of the JPEG files
CHANGING = ".changing"  # names the pictures whose files are being written or deleted


@contextlib.contextmanager
def labelling(folder: Path, out: Path) -> Iterator["Labelling"]:
    """Hold a data set to label the photos of a folder into it, for as long as the context is open.

    Parameters
    ----------
    folder : Path
        Photos, also in sub-folders.
    out : Path
        Folder of the data set; made if need be, else one that was begun by this.

    Raises
    ------
    PetsegError
        If there are no photos, somebody else writes to the data set just now, it was not made by this, or its lists
        were changed, or it lies among the photos.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise PetsegError("The data set would lie among the photos: name a folder elsewhere with -o.")
    listing = find_photos([folder], out)
    if out.exists() and not out.is_dir():
        raise PetsegError(f"{shown(out)} is a file: name a folder with -o.")
    with contextlib.ExitStack() as held:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(out, "petseg demo --label"))
            if not (out / TABLE).exists():
                if any((out / name).exists() for name in ("images", "annotations", "TrainVal", "Test")):
                    raise PetsegError(
                        f"{shown(out)} holds data that was not labelled by petseg: name another folder with -o."
                    )
                write_table(out / TABLE, COLUMNS, [])
            rows = {row["photo"]: row for row in read_rows(out / TABLE, COLUMNS)}
            _check_lists(out, rows)
            _sweep(out)
            (out / "images").mkdir(exist_ok=True)
            _write_lists(out, rows)  # once more: a run may have been killed between the table and them
        yield Labelling(out, listing, rows)


@dataclass(eq=False)
class Labelling:
    """A data set that is being labelled; made by `labelling`.

    Parameters
    ----------
    rows : dict of str to dict
        Of its table, by the paths of the photos from `out`.
    failed : dict of str to str
        Photos that cannot be read, by their names, and why.
    """

    out: Path
    listing: Listing
    rows: dict[str, dict]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.photos = {photo.name: photo for photo in self.listing}
        self.names = list(self.photos)

    def row(self, name: str) -> dict | None:
        """What the table says of a photo, None as long as it is to be asked for."""
        return self.rows.get(self._key(name))

    def _key(self, name: str) -> str:
        return self.photos[name].place

    @property
    def tally(self) -> str:
        """How far this is, in sentences."""
        counts = Counter(row["species"] for row in map(self.row, self.names) if row)
        done = [f"{counts[species]} {species}{'s' if counts[species] != 1 else ''}" for species in SPECIES.values()]
        nothing = f", {counts[NO_PET]} without a pet" if counts[NO_PET] else ""
        listed = "; ".join(f"{name} {reason}" for name, reason in self.failed.items())
        return f"Labelled: {' and '.join(done)}{nothing}." + (f" Left out: {listed}" if listed else "")

    def save(
        self,
        name: str,
        image: np.ndarray,
        selected: np.ndarray,
        species: str,
        breed: str = "",
        prompts: Sequence[Prompt] = (),
    ) -> None:
        """Write a photo, its trimap and its lines; what was written of this photo before is replaced.

        Parameters
        ----------
        image : ndarray
            RGB ``uint8 (H, W, 3)``, upright; written as JPEG, without what else the photo's file held.
        selected : ndarray
            Where the pet is, ``bool (H, W)``.
        species : str
            ``cat`` or ``dog``.
        breed : str
            As somebody wrote it; by default one for all cats, and one for all dogs.
        prompts : sequence of Click, Scribble or Box
            What led to the selection, to show it once more.

        Raises
        ------
        PetsegError
            If nothing is selected, or it cannot be written.
        """
        if not selected.any():
            raise PetsegError("Nothing is selected: click on the pet, or say that there is none.")
        before, prefix = self.row(name), breed_name(species, breed)
        kept = before is not None and breed_of(before["name"]) == prefix
        stem = before["name"] if before and kept else self._free_name(prefix)
        split = (before or {}).get("split") or self._split(name)
        told = json.dumps([told_prompt(prompt) for prompt in prompts])
        try:
            content = encoded(image, "JPEG", quality=QUALITY)
        except (OSError, ValueError) as error:
            raise PetsegError(f"The photo cannot be written as JPEG ({error}): skip it.") from error
        photo, mask = files_of(self.out, stem)
        with self._changing(name, stem):
            write_file(photo, content)
            write_file(mask, encoded(trimap(selected), "PNG"))
            self._set(name, {"name": stem, "species": species, "split": split, "prompts": told})

    def no_pet(self, name: str) -> None:
        """Note that a photo shows no pet: it is not asked for again, and is not in the data set."""
        with self._changing(name):
            self._set(name, {"name": "", "species": NO_PET, "split": "", "prompts": ""})

    @contextlib.contextmanager
    def _changing(self, name: str, stem: str = "") -> Iterator[None]:
        """Give a photo the files `stem` in place of those that it had; what no row names in the end is deleted.

        That holds after a kill, too: then the next start does it.
        """
        before = self.row(name) or {"name": ""}
        with writing(self.out):
            write_file(self.out / CHANGING, f"{stem}\n{before['name']}\n".encode())
            try:
                yield
            finally:
                _sweep(self.out)

    def _set(self, name: str, row: dict) -> None:
        """Give a photo its row, in the table and then in the lists."""
        key = self._key(name)
        rows = self.rows | {key: {"photo": key} | row}
        write_table(self.out / TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows.values()])
        self.rows = rows
        _write_lists(self.out, rows)

    def _free_name(self, prefix: str) -> str:
        """A name that no picture has, nor any file that is there; some disks take A for a."""
        taken = {row["name"].casefold() for row in self.rows.values()}
        numbered = (f"{prefix}_{number}" for number in itertools.count(1))
        free = (stem for stem in numbered if stem.casefold() not in taken)
        return next(stem for stem in free if not any(path.exists() for path in files_of(self.out, stem)))

    def _split(self, name: str) -> str:
        """The split of a photo, by its name; the fifth picture is one to test on, if there is none yet."""
        splits = [row["split"] for row in self.rows.values() if row["split"]]
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        chosen = int.from_bytes(digest[:8], "big") % ONE_IN == 0
        return SPLITS[chosen or (len(splits) >= ONE_IN - 1 and "test" not in splits)]


@dataclass(eq=False)
class Walk:
    """Somebody's way through the photos.

    Parameters
    ----------
    data : Labelling
        The data set; several may walk through it.
    at : int
        Which photo is open, counted from 0; the number of photos at the end.
    photo : OpenPhoto, optional
        That photo; none at the end.
    row : dict, optional
        What the table said of it when it was opened.
    """

    data: Labelling
    segmenter: Segmenter
    at: int = -1
    photo: OpenPhoto | None = None
    row: dict | None = None

    @property
    def name(self) -> str:
        """Of the open photo, in the listing."""
        return self.data.names[self.at]

    @property
    def progress(self) -> str:
        """Which photo is open, and how far the whole is, in sentences."""
        where = (
            "All photos were shown" if self.photo is None else f"{self.at + 1} of {len(self.data.names)}: {self.name}"
        )
        return f"{where}. {self.data.tally}"

    @property
    def end(self) -> str:
        """What to do when there is no photo left, in sentences."""
        skipped = sum(self.data.row(name) is None and name not in self.data.failed for name in self.data.names)
        again = f" Skipped: {skipped}; they come again the next time." if skipped else ""
        out = self.data.out
        return f"That was all.{again} Now: petseg data audit {out}, and petseg train decoder --data {out}"

    @property
    def before(self) -> str:
        """What was said of the open photo earlier, in a sentence; empty where nothing was."""
        if self.row is None:
            return ""
        what = "without a pet" if self.row["species"] == NO_PET else f"as a {self.row['species']}"
        return f"Saved before {what}; saving replaces that. "

    def forward(self) -> None:
        """Open the next photo that is to be labelled; behind the last one, none."""
        for at in range(self.at + 1, len(self.data.names)):
            if self.data.row(self.data.names[at]) is None and self._open(at):
                return
        self.at, self.photo, self.row = len(self.data.names), None, None

    def back(self) -> None:
        """Open the photo before, labelled or not, with what was said to it.

        Raises
        ------
        PetsegError
            If this is the first.
        """
        if not any(self._open(at) for at in reversed(range(self.at))):
            raise PetsegError("This is the first photo.")

    def save(self, species: str, breed: str = "") -> None:
        """Save the open photo as it is selected, see `Labelling.save`, and go on."""
        if self.photo is not None:
            self._check()
            selected = self.photo.alpha() > 127
            self.data.save(self.name, self.photo.image, selected, species, breed, self.photo.prompts)
            self.forward()

    def no_pet(self) -> None:
        """Note that the open photo shows no pet, and go on."""
        if self.photo is not None:
            self._check()
            self.data.no_pet(self.name)
            self.forward()

    def suggested(self) -> tuple[str, str]:
        """Species and breed of the open photo: as they were saved, else what it looks like, and no breed."""
        assert self.photo is not None
        row = self.row
        if row is None or row["species"] == NO_PET:
            return self.photo.label, ""
        breed = breed_of(row["name"])
        return row["species"], "" if breed == BREEDS[row["species"]] else breed

    def _check(self) -> None:
        if self.data.row(self.name) is not self.row:
            raise PetsegError("This photo was labelled in another window meanwhile: skip it, or go back to it later.")

    def _open(self, at: int) -> bool:
        name = self.data.names[at]
        if name in self.data.failed:
            return False
        path = self.data.photos[name].path
        try:
            photo = self.segmenter.open(read_photo(path))
        except DataError as error:
            self.data.failed[name] = str(error).removeprefix(path.name).strip()
            return False
        self.at, self.photo, self.row = at, photo, self.data.row(name)
        with contextlib.suppress(PetsegError):  # the photo was changed, and a click lies outside it now
            for told in json.loads((self.row or {}).get("prompts") or "[]"):
                photo.add(heard_prompt(told))
        return True


def trimap(selected: np.ndarray) -> np.ndarray:
    """A mask ``bool (H, W)`` as an official trimap ``uint8 (H, W)``: 1 pet, 2 background, 3 border along the outline.

    The border reaches `BORDER` of the longer side to each side, but a pixel at least.  Where that would leave no pet at
    all, it lies outside the mask only.
    """
    reach = max(1, round(BORDER * max(selected.shape)))
    inner = distance_to(~selected) > reach
    if not inner.any():
        inner = selected
    return np.where(inner, np.uint8(1), np.where(distance_to(selected) <= reach, np.uint8(3), np.uint8(2)))


def breed_name(species: str, written: str) -> str:
    """A breed as the official names have it: words joined by lines, of cats with a capital, of dogs without."""
    words = "_".join(re.findall(r"\w+", written.lower()))
    if not words.strip("_"):
        return BREEDS[species]
    if species == "dog":
        return words
    capital = words[:1].upper() + words[1:]
    return capital if capital[:1].isupper() else f"{BREEDS[species]}_{words}"


def files_of(out: Path, stem: str) -> tuple[Path, Path]:
    """Photo and trimap of a picture of the data set."""
    return out / "images" / f"{stem}.jpg", out / "annotations" / "trimaps" / f"{stem}.png"


def _sweep(out: Path) -> None:
    """Delete the files of pictures that were being changed and that no row names: a kill or a full disk left them."""
    note = out / CHANGING
    if note.is_file():
        named = {row["name"] for row in read_rows(out / TABLE, COLUMNS)}  # on the disk, which may be ahead of us
        for stem in note.read_text(encoding="utf-8", errors="replace").splitlines():
            if re.fullmatch(r"\w+", stem) and stem not in named:  # our own names, which lead nowhere else
                for path in files_of(out, stem):
                    path.unlink(missing_ok=True)
        note.unlink()


def _check_lists(out: Path, rows: dict[str, dict]) -> None:
    """Refuse lists with lines that are not this table's: they would be lost."""
    own = {row["name"] for row in rows.values()}
    for split in SPLITS:
        path = out / "annotations" / f"{split}.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            if line.strip() and line.split()[0] not in own:
                raise PetsegError(
                    f"{shown(path)} lists {line.split()[0]}, which {TABLE} does not know: the lists are made from that "
                    "table. Name another folder with -o, or take the line out."
                )


def _write_lists(out: Path, rows: dict[str, dict]) -> None:
    """Write ``trainval.txt`` and ``test.txt``: lines of name, number of the class, of the species and of the breed."""
    numbers = {name: number for number, name in SPECIES.items()}
    classes: dict[str, tuple[int, int, int]] = {}
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for row in rows.values():
        if not row["name"]:
            continue
        breed, species = breed_of(row["name"]), numbers[row["species"]]
        if breed not in classes:
            alike = sum(known[1] == species for known in classes.values())
            classes[breed] = (len(classes) + 1, species, alike + 1)
        lines[row["split"]].append(" ".join(map(str, (row["name"], *classes[breed]))))
    (out / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
    for split, listed in lines.items():
        write_file(out / "annotations" / f"{split}.txt", "".join(f"{line}\n" for line in listed).encode())
