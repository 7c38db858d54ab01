"""Broken files of every kind, through the door that reads them: a sentence, or a right answer, and soon.

`make test` tries a hundred of each kind; ``PETSEG_FUZZ=20000`` (`make fuzz`) so many in all, other ones each day.
"""

import contextlib
import io
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from petseg_utils.apps.photo_folders import RESULTS, read_table
from petseg_utils.data.image_files import ImageFileError, read_image_file, upright_rgb
from petseg_utils.models.cards import SHIPPED, read_card
from petseg_utils.models.exported import ExportedModel
from petseg_utils.models.feature_cache import caches
from petseg_utils.scores.records import read_records
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import ROOT, STUDIES, PetsegError, load_study
from petseg_utils.training.checkpoints import load, restore_state

LONGEST = 5  # seconds
LARGEST = 1_500_000  # kilobytes of memory that a file may take
PHOTO = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)


def picture(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(turn: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = turn, "a maker"
    return tags


def read_photo_file(path: Path) -> None:
    with contextlib.suppress(ImageFileError):
        pixels = read_image_file(path, upright_rgb, max_pixels=52_000_000)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size


def read_study(path: Path) -> None:
    study = load_study(str(path))
    assert 16 <= study.image_size <= 1024 and len(set(study.seeds)) == len(study.seeds) > 0


def read_checkpoint(path: Path) -> None:
    network, card = load(path)
    assert card["model"] == "unet" and all(x.isfinite().all() for x in network.parameters())


def read_own_card(path: Path) -> None:
    card = read_card(path.with_suffix(".safetensors"))
    assert 16 <= card["image_size"] <= 1024 and isinstance(card["settings"], dict)


def read_onnx(path: Path) -> None:
    model = ExportedModel(path)
    classes = Segmenter(model, path).probabilities([PHOTO])
    assert classes.shape == (1, 3, 224, 224) and np.isfinite(classes).all()


def read_result_table(path: Path) -> None:
    out = path.parent
    for row in read_table(path):
        assert (out / row["mask"]).resolve().is_relative_to(out.resolve())


def read_record_lines(path: Path) -> None:
    assert all({"model", "seed", "protocol"} <= record.keys() for record in read_records(path))


def list_caches(path: Path) -> None:
    assert len(caches(path.parent.parent)) == 1


def _records() -> bytes:
    return b"".join((ROOT / "figures" / "sample" / "records.jsonl").read_bytes().splitlines(keepends=True)[:4])


def _table() -> bytes:
    columns = "file,width,height,class,share,x0,y0,x1,y1,confidence,prompts,mask,photo,overlay,bytes,modified,sha256\n"
    rows = (f"{n},4,4,cat,0.5,0,0,3,3,0.9,[],a{n}_mask.png,../{n}.jpg,a{n}_overlay.jpg,1,2,ab\n" for n in range(4))
    return (columns + "".join(rows)).encode()


def _state(path: Path) -> None:
    restore_state(path, {"model": None, "average": None}, {})


class Kind:
    """A kind of file: what it is called, sound ones to begin with, and what reads it.

    `beside` are files that lie beside it, whole; `inputs` is how many are tried for one of another kind.
    """

    def __init__(
        self, name: str, seeds: Callable[[], list[bytes]], read: Callable[[Path], None], beside=(), inputs: float = 1
    ):
        self.name, self.seeds, self.read, self.beside, self.inputs = name, seeds, read, beside, inputs


UNET = (SHIPPED / "unet.safetensors", SHIPPED / "unet.json")
KINDS = {
    "jpeg": Kind(
        "a.jpg",
        lambda: [picture("JPEG", exif=exif(6)), picture("JPEG", progressive=True), picture("JPEG", subsampling=0)],
        read_photo_file,
        inputs=2,
    ),
    "mpo": Kind(
        "a.mpo",
        lambda: [picture("MPO", save_all=True, append_images=[Image.fromarray(PHOTO)], exif=exif(3))],
        read_photo_file,
    ),
    "png": Kind("a.png", lambda: [picture("PNG"), picture("PNG", exif=exif(8))], read_photo_file, inputs=2),
    "webp": Kind("a.webp", lambda: [picture("WEBP"), picture("WEBP", lossless=True)], read_photo_file, inputs=2),
    "tiff": Kind(
        "a.tif",
        lambda: [picture("TIFF", compression=how) for how in (None, "tiff_lzw", "jpeg", "tiff_adobe_deflate")],
        read_photo_file,
        inputs=2,
    ),
    "bmp": Kind("a.bmp", lambda: [picture("BMP")], read_photo_file),
    "gif": Kind("a.gif", lambda: [picture("GIF")], read_photo_file),
    "avif": Kind("a.avif", lambda: [picture("AVIF")], read_photo_file),
    "toml": Kind("mine.toml", lambda: [(STUDIES / "smoke.toml").read_bytes()], read_study),
    "card": Kind("unet.json", lambda: [UNET[1].read_bytes()], read_own_card, beside=UNET[:1]),
    "safetensors": Kind(
        "unet.safetensors", lambda: [UNET[0].read_bytes()], read_checkpoint, beside=UNET[1:], inputs=0.3
    ),
    "state": Kind("last.safetensors", lambda: [UNET[0].read_bytes()], _state, inputs=0.3),
    "onnx": Kind(
        "decoder.onnx",
        lambda: [(SHIPPED / "decoder.onnx").read_bytes()],
        read_onnx,
        beside=(SHIPPED / "encoder.onnx",),
        inputs=0.3,
    ),
    "records": Kind("records.jsonl", _records, read_record_lines),
    "table": Kind(RESULTS, lambda: [_table()], read_result_table),
    "cache": Kind(
        "card.json", lambda: [b'{"encoder": "x", "shapes": [[1, 2, 2]], "mirrored": false, "version": 2}'], list_caches
    ),
}
TEXT = ("toml", "card", "records", "table", "cache")
WANTED = int(os.environ.get("PETSEG_FUZZ", 0))
TOTAL = sum(kind.inputs for kind in KINDS.values())


def broken(content: bytes, rng: random.Random) -> bytes:
    """A file with one to eight faults: bytes turned over, cut, doubled, moved, or replaced by what numbers end at."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(min(len(data), rng.choice((64, 1024, 10**9))) or 1) if data else 0
        length = rng.choice((1, 2, 4, 16, 256))
        how = rng.randrange(6)
        if how == 0:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            del data[place:]
        elif how == 2:
            del data[place : place + length]
        elif how == 3:
            data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
        elif how == 4:
            ends = (0, 1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
            data[place : place + 4] = rng.choice(ends).to_bytes(4, rng.choice(("little", "big")))
        else:
            data[place : place + length] = bytes(rng.randrange(256) for _ in range(length))
    return bytes(data)


def words(content: bytes, rng: random.Random) -> bytes:
    """Text with one of its values replaced by what it should never be."""
    values = [b"-1", b"0", b"1e999", b"NaN", b"nan", b"null", b"true", b"[]", b"{}", b'"x"', b"9" * 30, b"9" * 5000]
    values += [b"[" * 5000, b'"../../victim"', b'"\\u0000"', b"\xff\xfe", b"\0", b"=cmd", b"-0.0", b""]
    places = [place for place in range(len(content)) if content[place : place + 1] in (b" ", b",", b"=", b":")]
    start = rng.choice(places) + 1
    end = next((place for place in places if place >= start), len(content))
    return content[:start] + rng.choice(values) + content[end:]


@pytest.fixture
def door(tmp_path, monkeypatch):
    """Reads a file of a kind, and says how long it took and how much memory there is by now."""
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))

    def through(kind: Kind, content: bytes) -> None:
        folder = tmp_path / "there" / "features-x"
        folder.mkdir(parents=True, exist_ok=True)
        for path in kind.beside:
            if not (folder / path.name).exists():
                shutil.copy(path, folder)
        path = folder / kind.name
        path.write_bytes(content)
        began = time.process_time()  # of this process alone, however busy the machine is
        try:
            kind.read(path)
        except PetsegError as error:
            text = str(error)
            assert text and "\n" not in text and len(text) < 1500, text[:2000]
        assert time.process_time() - began < LONGEST

    return through


def memory(which: str) -> int:
    """Memory that this process has (``VmRSS``) or the most that it had (``VmHWM``), in kilobytes; 0 if not on Linux."""
    if sys.platform != "linux":
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


@pytest.mark.parametrize("name", KINDS)
def test_a_broken_file_costs_a_sentence(name, door, tmp_path):
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # forget the most that other tests had
    kind, before = KINDS[name], memory("VmRSS")
    sound = kind.seeds()
    sound = sound if isinstance(sound, list) else [sound]
    count = round(kind.inputs * WANTED / TOTAL) if WANTED else 100
    day = datetime.now(UTC).date().isoformat() if WANTED else ""
    rng = random.Random(f"{name} {day}")
    for number in range(count):
        seed = rng.choice(sound)
        content = (words if name in TEXT and number % 2 else broken)(seed, rng)
        try:
            door(kind, content)
        except BaseException:
            kept = Path(os.environ.get("PETSEG_FUZZ_KEPT", tmp_path)) / f"{name}-{number}"
            kept.write_bytes(content)
            print(f"kept as {kept}")
            raise
    assert memory("VmHWM") - before <= LARGEST


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


MANY = settings(
    max_examples=WANTED // 20 or 100,
    deadline=None,
    derandomize=not WANTED,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@MANY
@given(key=st.sampled_from(sorted(json.loads(UNET[1].read_bytes()))), value=JSONS)
def test_a_card_with_any_value_anywhere_costs_a_sentence(door, key, value):
    card = json.loads(UNET[1].read_bytes()) | {key: value}
    door(Kind("unet.json", list, lambda path: read_checkpoint(path.with_suffix(".safetensors")), UNET[:1]),
         json.dumps(card).encode())  # fmt: skip


@MANY
@given(name=st.sampled_from(sorted(KINDS)), content=st.binary(max_size=600))
def test_any_bytes_at_all_cost_a_sentence(door, name, content):
    door(KINDS[name], content)
