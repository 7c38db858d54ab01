"""Label photos one after the other: the data set that they become, in the official layout, and the way through them.

A data set made here also has a table, ``labelled.csv``, which says which photo became which picture, and which photos
show no pet.  The lists are made from it.
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
BREEDS = {"cat": "Cat", "dog": "dog"}  # if none is named; official names of cat breeds start with a capital
ONE_IN = 5  # one in so many pictures goes into the test split
BORDER = 0.01  # of the photo's longer side: how far the undecided border reaches to either side of an outline
QUALITY = 95  # of the JPEG files
CHANGING = ".changing"  # lists the pictures whose files are being written or deleted


@contextlib.contextmanager
def labelling(folder: Path, out: Path) -> Iterator["Labelling"]:
    """Lock a data set and label the photos of a folder into it, for as long as the context is open.

    Parameters
    ----------
    folder : Path
        Photos, also in sub-folders.
    out : Path
        Folder of the data set; created if needed, otherwise one that was begun by this function.

    Raises
    ------
    PetsegError
        If there are no photos, if somebody else is writing to the data set, if petseg did not make it or its lists were
        changed, or if it lies among the photos.
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
            _write_lists(out, rows)  # again, as a run may have been killed between writing the table and the lists
        yield Labelling(out, listing, rows)


@dataclass(eq=False)
class Labelling:
    """A data set that is being labelled; made by `labelling`.

    Parameters
    ----------
    rows : dict of str to dict
        Rows of its table, by the photos' paths relative to `out`.
    failed : dict of str to str
        Photos that cannot be read, by name, with the reason.
    """

    out: Path
    listing: Listing
    rows: dict[str, dict]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.photos = {photo.name: photo for photo in self.listing}
        self.names = list(self.photos)

    def row(self, name: str) -> dict | None:
        """Return a photo's row of the table; None as long as it is still to be labelled."""
        return self.rows.get(self._key(name))

    def _key(self, name: str) -> str:
        return self.photos[name].place

    @property
    def tally(self) -> str:
        """The state of the labelling, in sentences."""
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
        """Write a photo, its trimap and its lines, replacing what was written of this photo before.

        Parameters
        ----------
        image : ndarray
            RGB ``uint8 (H, W, 3)``, upright; written as JPEG, without anything else that the photo's file held.
        selected : ndarray
            Where the pet is, ``bool (H, W)``.
        species : str
            ``cat`` or ``dog``.
        breed : str
            As the user wrote it; by default one name for all cats, and one for all dogs.
        prompts : sequence of Click, Scribble or Box
            What led to the selection, so that it can be shown again.

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
        """Note that a photo shows no pet: it does not come up again, and is not in the data set."""
        with self._changing(name):
            self._set(name, {"name": "", "species": NO_PET, "split": "", "prompts": ""})

    @contextlib.contextmanager
    def _changing(self, name: str, stem: str = "") -> Iterator[None]:
        """Let a photo's files be replaced by those named `stem`; afterwards, delete those of the two that no row names.

        After a kill, the next start deletes them.
        """
        before = self.row(name) or {"name": ""}
        with writing(self.out):
            write_file(self.out / CHANGING, f"{stem}\n{before['name']}\n".encode())
            try:
                yield
            finally:
                _sweep(self.out)

    def _set(self, name: str, row: dict) -> None:
        """Set a photo's row, first in the table and then in the lists."""
        key = self._key(name)
        rows = self.rows | {key: {"photo": key} | row}
        write_table(self.out / TABLE, COLUMNS, [[row[column] for column in COLUMNS] for row in rows.values()])
        self.rows = rows
        _write_lists(self.out, rows)

    def _free_name(self, prefix: str) -> str:
        """Return a name that neither a picture nor an existing file has; some disks do not tell A from a."""
        taken = {row["name"].casefold() for row in self.rows.values()}
        numbered = (f"{prefix}_{number}" for number in itertools.count(1))
        free = (stem for stem in numbered if stem.casefold() not in taken)
        return next(stem for stem in free if not any(path.exists() for path in files_of(self.out, stem)))

    def _split(self, name: str) -> str:
        """Return the split of a photo, chosen by its name; the fifth picture is a test picture if there is none yet."""
        splits = [row["split"] for row in self.rows.values() if row["split"]]
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        chosen = int.from_bytes(digest[:8], "big") % ONE_IN == 0
        return SPLITS[chosen or (len(splits) >= ONE_IN - 1 and "test" not in splits)]


@dataclass(eq=False)
class Walk:
    """A user's way through the photos.

    Parameters
    ----------
    data : Labelling
        The data set; several users may walk through it.
    at : int
        Number of the open photo, counted from 0; the number of photos at the end.
    photo : OpenPhoto, optional
        That photo; none at the end.
    row : dict, optional
        The photo's row in the table when it was opened.
    """

    data: Labelling
    segmenter: Segmenter
    at: int = -1
    photo: OpenPhoto | None = None
    row: dict | None = None

    @property
    def name(self) -> str:
        """The open photo's name in the listing."""
        return self.data.names[self.at]

    @property
    def progress(self) -> str:
        """Which photo is open, and the state of the labelling, in sentences."""
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
        """How the open photo was labelled earlier, in a sentence; empty if it was not."""
        if self.row is None:
            return ""
        what = "without a pet" if self.row["species"] == NO_PET else f"as a {self.row['species']}"
        return f"Saved before {what}; saving replaces that. "

    def forward(self) -> None:
        """Open the next photo to be labelled; after the last one, none is open."""
        for at in range(self.at + 1, len(self.data.names)):
            if self.data.row(self.data.names[at]) is None and self._open(at):
                return
        self.at, self.photo, self.row = len(self.data.names), None, None

    def back(self) -> None:
        """Open the photo before this one, labelled or not, with its earlier prompts.

        Raises
        ------
        PetsegError
            If this is the first.
        """
        if not any(self._open(at) for at in reversed(range(self.at))):
            raise PetsegError("This is the first photo.")

    def save(self, species: str, breed: str = "") -> None:
        """Save the open photo with its selection, see `Labelling.save`, and go on."""
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
        """Return species and breed of the open photo: as saved; else the species that it looks like, and no breed."""
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
        with contextlib.suppress(PetsegError):  # the photo was changed, and a click now lies outside it
            for told in json.loads((self.row or {}).get("prompts") or "[]"):
                photo.add(heard_prompt(told))
        return True


def trimap(selected: np.ndarray) -> np.ndarray:
    """Convert a mask ``bool (H, W)`` to an official trimap ``uint8 (H, W)``: 1 pet, 2 background, 3 border.

    The border reaches `BORDER` of the longer side to either side of the outline, at least a pixel.  If that would leave
    no pet at all, the border lies only outside the mask.
    """
    reach = max(1, round(BORDER * max(selected.shape)))
    inner = distance_to(~selected) > reach
    if not inner.any():
        inner = selected
    return np.where(inner, np.uint8(1), np.where(distance_to(selected) <= reach, np.uint8(3), np.uint8(2)))


def breed_name(species: str, written: str) -> str:
    """Write a breed like the official names: words joined by underscores; for cats with a capital, for dogs without."""
    words = "_".join(re.findall(r"\w+", written.lower()))
    if not words.strip("_"):
        return BREEDS[species]
    if species == "dog":
        return words
    capital = words[:1].upper() + words[1:]
    return capital if capital[:1].isupper() else f"{BREEDS[species]}_{words}"


def files_of(out: Path, stem: str) -> tuple[Path, Path]:
    """Return the paths of photo and trimap of a picture of the data set."""
    return out / "images" / f"{stem}.jpg", out / "annotations" / "trimaps" / f"{stem}.png"


def _sweep(out: Path) -> None:
    """Delete files of pictures being changed that no row names: a kill or a full disk left them."""
    note = out / CHANGING
    if note.is_file():
        named = {row["name"] for row in read_rows(out / TABLE, COLUMNS)}  # from the disk, which may be ahead of us
        for stem in note.read_text(encoding="utf-8", errors="replace").splitlines():
            if re.fullmatch(r"\w+", stem) and stem not in named:  # our own names, which cannot lead elsewhere
                for path in files_of(out, stem):
                    path.unlink(missing_ok=True)
        note.unlink()


def _check_lists(out: Path, rows: dict[str, dict]) -> None:
    """Raise an error if the lists have lines that are not from this table, as they would be lost."""
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
    """Write ``trainval.txt`` and ``test.txt``: lines of name and numbers of class, species and breed in the species."""
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
