"""Reading an image file: the one way in for photos and masks, and all that can be wrong with the file."""

import contextlib
import importlib
import io
import struct
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")  # what is looked for in a file; JPEG finds MPO
PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp")  # endings of the photos of a data set
# TIFF has the most ways of keeping pixels, each with a decoder of its own, and no data set here needs it.  Scanners and
# editors write these, unless they are told otherwise; JPEG in TIFF, where the worst faults have been, is refused.
_TIFF_WAYS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
_LONGEST = 1_000_000  # pixels of a side: to make a longer one small takes minutes and gigabytes
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
# Of levels that are floats: what white is, if the brightest lies in this range; sharpening leaves some beyond white.
_WHITES = ((1, -1, 2), (255, 16, 256), (4095, 256, 4096), (65535, 4096, 65536))
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's numbers for them
_WHITE_IS_ZERO, _SIGNED = 0, 2
_PROBE = Image.fromarray(np.moveaxis(np.mgrid[0:256:51, 0:256:51, 0:256:51], 0, -1).astype(np.uint8).reshape(1, -1, 3))
_HEIC = (".heic", ".heif")
_NEEDS = {"HEIC": "pip install pillow-heif", "AVIF": "pip install --upgrade pillow"}

# What a picture says in words (editors keep whole histories there) is in nobody's way: it may take as much memory as a
# large photo does.
_TEXT = 256 * 1024 * 1024
PngImagePlugin.MAX_TEXT_CHUNK = max(_TEXT, PngImagePlugin.MAX_TEXT_CHUNK)
PngImagePlugin.MAX_TEXT_MEMORY = max(_TEXT, PngImagePlugin.MAX_TEXT_MEMORY)


class ImageFileError(Exception):
    """An image file that cannot be used.

    Parameters
    ----------
    fault : str
        ``missing``, ``no access``, ``no image``, ``other format``, ``no reader``, ``too large``, ``too long``,
        ``no memory``, ``levels`` or ``damaged``.
    detail : str
        What Pillow says of it, the name of its format, what to install, or its darkest and brightest level.
    """

    def __init__(self, fault: str, detail: str = ""):
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault, self.detail = fault, detail


def upright_rgb(image: Image.Image, *, by_profile: bool = True) -> np.ndarray:
    """An image's pixels, ``uint8 (H, W, 3)``, as a viewer shows them.

    EXIF orientation is applied, colours become sRGB's by the image's own profile, transparency is laid on white, and
    grey, palette, CMYK, 16-bit, 32-bit and float images become RGB.

    Parameters
    ----------
    by_profile : bool
        Without it colours are taken as they are stored.

    Raises
    ------
    ImageFileError
        If levels are such that nobody can tell which of them is white.
    """
    image.load()
    turn, profile = _TURNS.get(orientation(image)), image.info.get("icc_profile") if by_profile else None
    bitmap = image.format in ("BMP", "TIFF")
    if image.mode in _DEEP:
        image = _eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
        if bitmap and alpha.getextrema() == (0, 0):  # a fourth byte that whoever wrote it left empty
            alpha = None
    image = _srgb(image.convert("RGB") if image.mode == "P" else image, profile)
    if alpha is not None:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(image if turn is None else image.transpose(turn))


def orientation(image: Image.Image) -> int:
    """How an image is to be turned, by EXIF's numbers from 1 to 8; 1, upright, where its EXIF says nothing readable.

    EXIF is only read: Pillow's `ImageOps.exif_transpose` also writes it anew, which fails on many a camera's tags.
    """
    for find in (
        lambda: image.getexif().get(ExifTags.Base.Orientation),
        lambda: _orientation_entry(image.info["exif"]),
    ):
        with contextlib.suppress(Exception):  # there is no end to what is found in EXIF
            if (value := find()) in _TURNS:
                return int(value)
    return 1


def _orientation_entry(exif: bytes) -> int | None:
    """The orientation in EXIF's first directory, past entries at which Pillow stops."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (number,) = struct.unpack_from(f"{order}H", data, start)
    for place in range(start + 2, start + 2 + 12 * number, 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, place)
        if tag == ExifTags.Base.Orientation:
            return value
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """A deep grey image in 256 levels: `Image.convert` would clip its levels instead of scaling them.

    White is what the file's depth makes it, or a lesser depth that holds all levels: of 12 bits in 16, for instance.
    """
    levels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode == "F":
        low, high = float(levels.min()), float(levels.max())
        white = next((w for w, least, most in _WHITES if least < high <= most and low >= -0.1 * w), None)
        if white is None:
            raise ImageFileError("levels", f"{low:g} to {high:g}")
        grey = np.rint(np.clip(levels / np.float32(white), 0, 1) * 255).astype(np.uint8)
    else:
        signed = _first(tags, _SAMPLE_FORMAT, 1) == _SIGNED
        depth = _first(tags, _BITS_PER_SAMPLE, 32 if image.mode == "I" else 16) - signed
        if depth == 32:
            levels = levels.view(np.uint32)  # Pillow has no mode for these, and takes them for signed
        low, high = int(levels.min()), int(levels.max())
        if low < 0:
            raise ImageFileError("levels", f"{low} to {high}")
        depths = (8, 12, 16, 24, depth) if tags else (16, depth)  # a PNG's 16 bits are 16
        grey = (levels >> next(bits for bits in depths if high < 2**bits and bits <= depth) - 8).astype(np.uint8)
    return Image.fromarray(255 - grey if _first(tags, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO else grey)


def _first(tags: Mapping[int, Any], tag: int, otherwise: int) -> int:
    """A TIFF tag's value, which is one for each channel, or one for all."""
    value = tags.get(tag, otherwise)
    return value[0] if isinstance(value, tuple) else value


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image in RGB, by its own ICC profile; one that is broken or another mode's is as good as none."""
    if profile or image.mode == "LAB":
        with contextlib.suppress(Exception):  # it is a stranger's: lcms is not the only one to stumble
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            convert = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), image.mode, "RGB")
            # Most profiles are sRGB's under one name or another: those photos stay as they are, to the last bit.
            if image.mode != "RGB" or np.abs(np.asarray(convert.apply(_PROBE), int) - np.asarray(_PROBE)).max() > 2:
                return convert.apply(image)
    return image.convert("RGB")


@cache
def _readable() -> tuple[str, ...]:
    """The formats of `FORMATS` that can be read here."""
    with contextlib.suppress(ImportError):  # no dependency: whoever has it, has photos that need it
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _unidentified(path: Path) -> ImageFileError:
    """Why Pillow does not know a file: another library reads it, or nothing does."""
    with path.open("rb") as file:
        start = file.read(64)
    brands = start[8:] if start[4:8] == b"ftyp" else b""
    if b"avif" in brands or b"avis" in brands:
        kind = "AVIF"
    elif any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")) or path.suffix.lower() in _HEIC:
        kind = "HEIC"
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageFileError("other format", "TIFF that is damaged or keeps its pixels in an unusual way")
    else:
        return ImageFileError("no image")
    if {"HEIC": "HEIF"}.get(kind, kind) in _readable():
        return ImageFileError("no image")
    return ImageFileError("no reader", f"{kind}, which is not read here yet: {_NEEDS[kind]}")


def read_image_file(
    path: Path,
    reading: Callable[[Image.Image], T],
    *,
    formats: Collection[str] | None = None,
    max_pixels: int | None = None,
) -> T:
    """Open an image file, and decode it as far as `reading` needs.

    Format and size are looked up in the file's header, before anything is decoded.

    Parameters
    ----------
    reading : callable
        Makes the result of the opened image, as `upright_rgb` does.
    formats : collection of str, optional
        Pillow's names of the formats that are allowed, whatever the file is called; by default all of `FORMATS`.
    max_pixels : int, optional
        The largest image allowed, beside Pillow's own limit (about 90 megapixels).

    Raises
    ------
    ImageFileError
        Whatever is wrong with the file.
    """
    try:
        if not path.is_file():
            raise ImageFileError("missing")
        with Image.open(path, formats=_readable()) as image:
            if formats is not None and image.format not in formats:
                raise ImageFileError("other format", str(image.format))
            if image.format == "TIFF" and (way := image.info.get("compression")) not in _TIFF_WAYS:
                raise ImageFileError(
                    "other format", f"TIFF compressed as {way}, instead of not at all or by LZW or ZIP"
                )
            # Pillow only warns of it, and a warning made an error for a moment is one for the other threads, too.
            limits = [limit for limit in (max_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
            if image.width * image.height > min(limits, default=image.width * image.height):
                raise ImageFileError("too large", f"more than {min(limits)} pixels")
            if max(image.size) > _LONGEST:
                raise ImageFileError("too long")
            return reading(image)
    except ImageFileError:
        raise
    except FileNotFoundError as error:  # deleted since we looked
        raise ImageFileError("missing") from error
    except PermissionError as error:
        raise ImageFileError("no access") from error
    except UnidentifiedImageError as error:
        with contextlib.suppress(OSError):
            raise _unidentified(path) from error
        raise ImageFileError("no image") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError("too large", str(error)) from error
    except MemoryError as error:
        raise ImageFileError("no memory") from error
    except Exception as error:  # decoders raise whatever they stumble over: struct.error, TypeError, zlib.error, ...
        raise ImageFileError("damaged", " ".join(str(error).split()) or type(error).__name__) from error
