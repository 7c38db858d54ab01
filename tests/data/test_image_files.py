"""The one way in for image files: errors in words, turned by EXIF, colours and depths as they are meant."""

import itertools
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from petseg_utils.data import image_files
from petseg_utils.data.datasets import DataError, read_image
from petseg_utils.data.image_files import ImageFileError, orientation, read_image_file, upright_rgb
from petseg_utils.segmenter import MAX_PIXELS, read_photo

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # of what it passes over in EXIF
GREY = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
NOISE = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)


def exif(turn, *entries):
    """EXIF of one directory: the orientation, and raw entries of (tag, type, count, four bytes)."""
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", turn, 0)), *entries])
    listed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + listed + bytes(24)


BROKEN = {
    "a text for a number": (0x011A, 2, 4, b"300\0"),
    "a fraction below zero": (0x011A, 5, 1, b"\xff\xff\xff\xff"),
    "a place far outside": (0x010F, 2, 500, b"\0\0\0\xf0"),
    "an unknown type": (0x0110, 99, 1, b"\0\0\0\0"),
    "a directory in the nowhere": (0x8769, 4, 1, b"\xff\xff\0\0"),
    "a GPS directory that is a text": (0x8825, 2, 4, b"gps\0"),
    "a count past all bounds": (0x0131, 10, 0xFFFFFFF, b"\0\0\0\0"),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("entry", BROKEN.values(), ids=BROKEN)
def test_a_photo_is_turned_whatever_else_its_exif_holds(tmp_path, kind, entry):
    path = tmp_path / "photo"
    Image.fromarray(NOISE).save(path, kind, exif=exif(6, entry))
    assert read_image(path).shape == (40, 30, 3)
    if kind == "PNG":
        np.testing.assert_array_equal(read_image(path), np.rot90(NOISE, -1))


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0no TIFF header", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", exif(0), exif(9), exif(6)[:20]]
)
def test_exif_that_cannot_be_read_turns_nothing(tmp_path, broken):
    Image.fromarray(NOISE).save(tmp_path / "photo.png", exif=broken)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), NOISE)


def test_every_orientation_is_what_pillows_own_function_makes_of_it(tmp_path):
    from PIL import ImageOps

    for turn in range(1, 9):
        Image.fromarray(NOISE).save(tmp_path / "photo.png", exif=exif(turn))
        with Image.open(tmp_path / "photo.png") as image:
            assert orientation(image) == turn
            np.testing.assert_array_equal(upright_rgb(image), np.asarray(ImageOps.exif_transpose(image)))


ERRORS = [
    *(
        struct.error("unpack requires a buffer"),
        TypeError("no number"),
        KeyError(7),
        OverflowError("too large"),
        EOFError(),
    ),
    *(zlib.error("Error -3"), RecursionError("depth"), AttributeError("no palette"), AssertionError(), MemoryError()),
    *(ZeroDivisionError("by zero"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), RuntimeError("a\nb")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_decoder_raises_is_said_of_the_file(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    Image.fromarray(NOISE).save(tmp_path / "photo.png")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", fail)
        for read in (read_image, read_photo):
            with pytest.raises(DataError, match=r"^photo\.png:? .*\.$") as told:
                read(tmp_path / "photo.png")
            assert "\n" not in str(told.value)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"^photo\.png "):
        read_photo(tmp_path / "photo.png")


def write_tiff(path, levels, order="<", *, signed=False, bits=None, white_is_zero=False):
    """A TIFF of one strip, as no function of Pillow's would write it."""
    levels = np.asarray(levels)
    kind = 3 if levels.dtype.kind == "f" else 2 if signed else 1
    data = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    height, width = levels.shape
    entries = [
        *((256, 4, width), (257, 4, height), (258, 3, bits or levels.dtype.itemsize * 8), (259, 3, 1)),
        *((262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))),
        (339, 3, kind),
    ]
    ifd = struct.pack(f"{order}H", len(entries))
    for tag, form, value in entries:
        ifd += struct.pack(f"{order}HHI", tag, form, 1) + struct.pack(
            f"{order}HH" if form == 3 else f"{order}I", value, *[0] * (form == 3)
        )
    path.write_bytes(
        (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data)) + data + ifd + bytes(4)
    )
    return path


DEEP = {
    "16 bits": (GREY.astype(np.uint16) * 257, {}),
    "16 bits, big-endian": (GREY.astype(np.uint16) * 257, {"order": ">"}),
    "12 bits in 16": (GREY.astype(np.uint16) * 16, {}),
    "8 bits in 16": (GREY.astype(np.uint16), {"order": ">"}),
    "16 bits, signed": (GREY.astype(np.int16) * 128, {"signed": True}),
    "16 bits, signed, big-endian": (GREY.astype(np.int16) * 128, {"signed": True, "order": ">"}),
    "8 bits in 16, signed": (GREY.astype(np.int16), {"signed": True}),
    "32 bits": (GREY.astype(np.uint32) << 24, {}),
    "16 bits in 32": (GREY.astype(np.int32) * 257, {"signed": True}),
    "8 bits in 32": (GREY.astype(np.int32), {"signed": True, "order": ">"}),
    "32 bits, signed": (GREY.astype(np.int32) << 23, {"signed": True}),
    "floats to 1": (GREY.astype(np.float32) / 255, {}),
    "floats to 1, big-endian": (GREY.astype(np.float32) / 255, {"order": ">"}),
    "floats to 255": (GREY.astype(np.float32), {}),
    "floats to 65535": (GREY.astype(np.float32) * 257, {}),
    "16 bits, white is zero": ((255 - GREY).astype(np.uint16) * 257, {"white_is_zero": True}),
}


@pytest.mark.parametrize(("levels", "options"), DEEP.values(), ids=DEEP)
def test_deep_levels_are_scaled_to_eight_bits(tmp_path, levels, options):
    read = read_photo(write_tiff(tmp_path / "deep.tif", levels, **options))
    np.testing.assert_array_equal(read, np.dstack([GREY] * 3))


def test_a_png_of_16_bits_is_as_dark_as_it_is(tmp_path):
    Image.fromarray(np.full((4, 4), 512, np.uint16)).save(tmp_path / "dark.png")
    assert (read_photo(tmp_path / "dark.png") == 2).all()


@pytest.mark.parametrize(
    ("levels", "signed"),
    [
        (GREY.astype(np.int16) - 200, True),
        (GREY.astype(np.float32) / 255 * 7, False),
        (GREY.astype(np.float32) - 100, False),
        (np.where(GREY > 9, GREY / 255, np.nan).astype(np.float32), False),
        (np.where(GREY > 9, GREY, np.inf).astype(np.float32), False),
    ],
)
def test_levels_of_which_none_is_known_to_be_white_are_refused_in_words(tmp_path, levels, signed):
    path = write_tiff(tmp_path / "odd.tif", levels, signed=signed)
    with pytest.raises(DataError, match=r"^odd\.tif has levels from \S+ to \S+, and its white level is unknown"):
        read_photo(path)
    with pytest.raises(DataError, match=r"^odd\.tif: levels from"):
        read_image(path)


@pytest.mark.parametrize("way", ["jpeg", "group4", "zstd", "lzma", "raw", "packbits", "tiff_lzw", "tiff_deflate"])
def test_of_tiff_only_the_ways_that_scanners_and_editors_write_are_read(tmp_path, way):
    image = Image.fromarray(NOISE)
    (image.convert("1") if way == "group4" else image).save(tmp_path / "a.tif", compression=way)
    if way in ("raw", "packbits", "tiff_lzw", "tiff_deflate"):
        np.testing.assert_array_equal(read_photo(tmp_path / "a.tif"), NOISE)
    else:
        with pytest.raises(DataError, match=rf"^a\.tif is in the format TIFF compressed as {way} \(read: uncompressed"):
            read_photo(tmp_path / "a.tif")


def test_a_tiff_that_pillow_cannot_read_is_called_a_tiff(tmp_path):
    path = write_tiff(tmp_path / "wide.tif", GREY.astype(np.float64))
    with pytest.raises(DataError, match=r"^wide\.tif is in the format TIFF, but damaged or with its pixels stored"):
        read_photo(path)


def test_a_bitmap_whose_fourth_byte_is_empty_is_opaque(tmp_path):
    # BITMAPV4 by bit fields, bottom row first: blue, green, red, and an alpha that nobody filled in.
    pixels = np.dstack([NOISE[::-1, :, ::-1], np.zeros((30, 40), np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 40, 30, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks + bytes(52)
    path = tmp_path / "empty.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + pixels)
    np.testing.assert_array_equal(read_photo(path), NOISE)
    Image.fromarray(np.dstack([NOISE, np.zeros((30, 40), np.uint8)])).save(tmp_path / "empty.tif")
    np.testing.assert_array_equal(read_photo(tmp_path / "empty.tif"), NOISE)
    Image.fromarray(np.dstack([NOISE, np.full((30, 40), 1, np.uint8)])).save(tmp_path / "clear.tif")
    assert (read_photo(tmp_path / "clear.tif") > 250).all()


@pytest.mark.parametrize("zipped", [False, True])
def test_pictures_with_long_texts_are_read(tmp_path, zipped):
    texts = PngImagePlugin.PngInfo()
    for number in range(3):
        texts.add_text(f"history {number}", "click " * 4_000_000, zip=zipped)
    Image.fromarray(NOISE).save(tmp_path / "edited.png", pnginfo=texts)
    np.testing.assert_array_equal(read_photo(tmp_path / "edited.png"), NOISE)


def icc(kind, mode, space, tags):
    """An ICC profile, version 2, of these tags."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(78), **tags}
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(data), b"lcms", 0x02100000, kind, mode, space, bytes(12), b"acsp"
    )
    return head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + data


def matrix_profile(red, green, blue, gamma):
    """An ICC profile of three primaries (their XYZ under D50) and a gamma."""
    points = {b"wtpt": (0.9642, 1, 0.8249), b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in point))
        for name, point in points.items()
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return icc(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


WIDE = matrix_profile((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2)  # Adobe RGB's


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_of_a_wider_profile_become_srgbs(tmp_path, kind):
    colour = (200, 90, 60)
    Image.new("RGB", (8, 8), colour).save(
        tmp_path / "wide",
        kind,
        icc_profile=WIDE,
        **{"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {}),
    )
    read = read_photo(tmp_path / "wide")[0, 0].astype(int)
    assert read[0] > 220 and abs(read[1] - 90) < 4  # the same red takes more of sRGB's
    alpha = Image.new("RGBA", (8, 8), (*colour, 255))
    alpha.putpixel((0, 0), (*colour, 0))
    if kind == "PNG":
        alpha.save(tmp_path / "clear", kind, icc_profile=WIDE)
        clear = read_photo(tmp_path / "clear")
        assert (clear[0, 0] == 255).all() and np.abs(clear[1, 1] - read).max() <= 1


@pytest.mark.parametrize("profile", ["sRGB", "broken", "cut", "of another mode"])
def test_other_profiles_change_nothing(tmp_path, profile):
    content = {
        "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "broken": b"no profile at all",
        "cut": WIDE[:200],
        "of another mode": WIDE,
    }[profile]
    image = Image.fromarray(GREY if profile == "of another mode" else NOISE)
    image.save(tmp_path / "photo.png", icc_profile=content)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), np.asarray(image.convert("RGB")))


def ink_profile():
    """An ICC profile of inks that all print grey: white paper, mid grey where any ink is, black under black."""
    nodes = itertools.product((0, 1), repeat=4)  # cyan, magenta, yellow, black: Lab in 8 bits
    lab = b"".join(bytes((0 if ink[3] else 128 if any(ink) else 255, 128, 128)) for ink in nodes)
    identity = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4 + lab + bytes(range(256)) * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return icc(b"prtr", b"CMYK", b"Lab ", {b"wtpt": white, b"A2B0": table})


def test_ink_is_converted_by_its_profile(tmp_path):
    inks = Image.new("CMYK", (24, 8))
    inks.paste((0, 255, 255, 0), (8, 0, 16, 8))  # red, if no profile says otherwise
    inks.paste((0, 0, 0, 255), (16, 0, 24, 8))
    inks.save(tmp_path / "ink.tif", icc_profile=ink_profile())
    inks.save(tmp_path / "plain.tif")
    paper, red, black = (read_photo(tmp_path / "ink.tif")[4, column].astype(int) for column in (4, 12, 20))
    assert paper.min() > 250 and black.max() < 10 and abs(red - 119).max() < 5
    assert read_photo(tmp_path / "plain.tif")[4, 12].tolist() == [255, 0, 0]
    inks.save(tmp_path / "ink.jpg", icc_profile=ink_profile(), quality=100, subsampling=0)
    assert abs(read_photo(tmp_path / "ink.jpg")[4, 12].astype(int) - 119).max() < 12


def test_lab_becomes_rgb(tmp_path):
    Image.new("LAB", (8, 8), (255, 128, 128)).save(tmp_path / "lab.tif")
    assert (read_photo(tmp_path / "lab.tif") > 250).all()


def test_what_cameras_of_50_megapixels_write_is_taken():
    for width, height in ((8160, 6144), (8192, 6144), (8280, 6208), (8688, 5792)):
        assert width * height <= MAX_PIXELS


def test_a_side_of_more_than_a_million_pixels_is_refused_before_it_is_decoded(tmp_path):
    """To bring it to a model's square took half a minute and 3 GB; at a million pixels it takes a second."""
    Image.new("1", (1, 1_000_001)).save(tmp_path / "tall.png")
    Image.new("1", (100_000, 2)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"^tall.png is longer than a million pixels: make it smaller"):
        read_photo(tmp_path / "tall.png")
    assert read_photo(tmp_path / "wide.png").shape == (2, 100_000, 3)


def brand(name, *others):
    """The first box of a file in ISO's container, as HEIC and AVIF begin."""
    brands = b"".join((name, bytes(4), *others))
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(50)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cat.heic", brand(b"heic", b"mif1", b"heic"), "pip install pillow-heif"),
        ("cat.HEIF", brand(b"mif1", b"mif1", b"heix"), "pip install pillow-heif"),
        ("cat.jpg", brand(b"heic"), "pip install pillow-heif"),
        ("cat.heic", b"begins otherwise", "pip install pillow-heif"),
        ("cat.avif", brand(b"avif", b"mif1"), "pip install --upgrade pillow"),
        ("cat.avif", brand(b"mif1", b"avif"), "pip install --upgrade pillow"),
    ],
)
def test_where_a_reader_lacks_it_is_said_what_to_install(tmp_path, monkeypatch, name, content, told):
    monkeypatch.setattr(image_files, "_readable", lambda: ("JPEG", "PNG"))
    (tmp_path / name).write_bytes(content)
    for read in (read_photo, read_image):
        with pytest.raises(DataError, match=rf"^{name}.* {told}"):
            read(tmp_path / name)


def test_a_damaged_file_of_a_kind_that_is_read_needs_no_other_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_readable", lambda: ("JPEG", "AVIF"))
    (tmp_path / "cat.avif").write_bytes(b"no picture")
    with pytest.raises(DataError, match="not a picture, or is damaged"):
        read_photo(tmp_path / "cat.avif")


@pytest.mark.skipif("AVIF" not in image_files._readable(), reason="this Pillow reads no AVIF")
def test_avif_is_read_upright(tmp_path):
    halves = Image.new("RGB", (40, 30), "white")
    halves.paste("black", (0, 0, 20, 30))  # the left half, which comes to the top
    halves.save(tmp_path / "cat.avif", exif=exif(6))
    read = read_photo(tmp_path / "cat.avif")
    assert read.shape == (40, 30, 3) and read[:15].mean() < 20 and read[25:].mean() > 235


def test_heic_is_read_upright_once(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    image_files._readable()
    assert pillow_heif
    Image.fromarray(NOISE).save(tmp_path / "cat.heic", format="HEIF", quality=100, exif=exif(6))
    assert read_photo(tmp_path / "cat.heic").shape == (40, 30, 3)


def test_other_formats_of_pillows_are_not_even_tried(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "photo.jpg", "PPM")
    with pytest.raises(ImageFileError, match="no image"):
        read_image_file(tmp_path / "photo.jpg", upright_rgb)
    assert not {"EPS", "PSD", "FPX", "WMF"} & set(image_files._readable())


def test_a_name_that_cannot_be_one_is_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_photo(tmp_path / "a\0b.jpg")


def test_pillows_own_functions_are_called_nowhere_else():
    """EXIF is never written anew, and no file is opened by all of Pillow's decoders."""
    package = Path(image_files.__file__).parents[1]
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "ImageOps.exif_transpose(" not in text, path
        assert text.count("Image.open(") == len(re.findall(r"Image\.open\(.*formats=", text)), path
