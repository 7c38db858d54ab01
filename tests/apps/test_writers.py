"""What leaves by each writer, command line, page and notebook: the pet alone, and nothing that the camera noted."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from skimage.data import chelsea

from petseg_utils.apps import page
from petseg_utils.apps.cli import main
from petseg_utils.apps.widget import click_demo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")
SECRET = "51 28 38 N 0 0 5 W"
ANSWERS = ("mask", "cut-out")


def private_photo(folder: Path, kind: str) -> Path:
    """Chelsea before a bright ground, with a place, a serial number, a comment and a profile of the camera's."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9C9C] = 1, SECRET, SECRET.encode("utf-16-le")
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 28.0, 38.0), 29: SECRET})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif, "icc_profile": profile}
    if kind == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("comment", SECRET)
    else:
        options |= {"quality": 95, "comment": SECRET, "xmp": SECRET.encode()}
    path = folder / f"cat.{kind}"
    Image.fromarray(np.maximum(chelsea(), 9)).save(path, **options)
    assert SECRET.encode() in path.read_bytes()
    return path


def by_command_line(photo: Path, folder: Path, monkeypatch, *options: str) -> dict[str, bytes]:
    monkeypatch.setattr(sys, "argv", ["petseg", "segment", str(photo), "-o", str(folder / "out"), *options])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def by_hard_edges(photo: Path, folder: Path, monkeypatch) -> dict[str, bytes]:
    return by_command_line(photo, folder, monkeypatch, "--hard")


def by_clicks(photo: Path, folder: Path, monkeypatch) -> dict[str, bytes]:
    return by_command_line(photo, folder, monkeypatch, "--click", "200,150")


def by_page(photo: Path, folder: Path, monkeypatch) -> dict[str, bytes]:
    work, picture, *_ = page.open_file(str(photo), None, "point", "by class", 0.5)
    paths = [picture, *(page.save(what, work)[0] for what in ANSWERS)]
    return {Path(path).name: Path(path).read_bytes() for path in paths}


def by_widget(photo: Path, folder: Path, monkeypatch) -> dict[str, bytes]:
    demo, files = click_demo(), {}
    demo.canvas._handle_custom_msg(
        {"kind": "file", "name": photo.name, "first": True, "last": True}, [photo.read_bytes()]
    )
    monkeypatch.setattr(demo.canvas, "send", lambda said, buffers: files.update({said["name"]: buffers[0]}))
    demo.save_mask.click()
    demo.save_cutout.click()
    return {"picture.jpg": demo.canvas.picture} | files


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("write", [by_command_line, by_hard_edges, by_clicks, by_page, by_widget])
def test_nothing_of_the_background_and_nothing_that_the_camera_noted_leaves(tmp_path, monkeypatch, write, kind):
    files = write(private_photo(tmp_path, kind), tmp_path, monkeypatch)
    (cutout,) = (content for name, content in files.items() if "cut" in name)
    pixels = np.asarray(Image.open(io.BytesIO(cutout)))
    hidden = pixels[..., 3] == 0
    assert hidden.mean() > 0.1 and not pixels[hidden].any() and (pixels[..., 3] == 255).mean() > 0.1
    assert len(files) >= 3
    for name, content in files.items():
        assert SECRET.encode() not in content and SECRET.encode("utf-16-le") not in content, name
        if not name.endswith((".csv", ".json")):
            image = Image.open(io.BytesIO(content))
            image.load()
            assert not image.getexif() and not {"exif", "xmp", "comment", "icc_profile"} & set(image.info), name


@pytest.mark.parametrize("error", [struct.error("cut"), TypeError("no number"), RecursionError("depth")])
def test_whatever_a_decoder_raises_the_page_says_it(tmp_path, monkeypatch, error):
    photo = private_photo(tmp_path, "png")

    def fail(_):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    # In this process, where the decoder is the broken one.
    monkeypatch.setattr(page.children, "call", lambda name, function, *arguments: function(*arguments))
    work, _, said, *_ = page.open_file(str(photo), None, "point", "by class", 0.5)
    assert work is None and said.startswith('<p role="alert">cat.png ')


def test_a_photo_with_a_long_name_can_be_saved_from_the_page(tmp_path):
    photo = private_photo(tmp_path, "png").rename(tmp_path / f"{'猫' * 83}.png")
    work, *_ = page.open_file(str(photo), None, "point", "by class", 0.5)
    assert all(Path(page.save(what, work)[0]).is_file() for what in ANSWERS)
