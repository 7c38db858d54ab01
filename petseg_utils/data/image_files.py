"""Reading image files: all photos and masks are read here, and all that can be wrong with a file is named here."""

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

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")  # formats that are tried; JPEG also finds MPO
PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp")  # endings of the photos of a data set
# TIFF has the most ways of storing pixels, each with a decoder of its own, and no data set here needs it.  Scanners and
# editors write these ones by default; JPEG in TIFF, where the worst faults have been, is rejected.
_TIFF_WAYS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
_LONGEST = 1_000_000  # most pixels along a side: shrinking a longer one takes minutes and gigabytes
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
# For float levels: the white level, if the brightest level lies in this range; sharpening leaves some beyond white.
_WHITES = ((1, -1, 2), (255, 16, 256), (4095, 256, 4096), (65535, 4096, 65536))
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's numbers for them
_WHITE_IS_ZERO, _SIGNED = 0, 2
_PROBE = Image.fromarray(np.moveaxis(np.mgrid[0:256:51, 0:256:51, 0:256:51], 0, -1).astype(np.uint8).reshape(1, -1, 3))
_HEIC = (".heic", ".heif")
_NEEDS = {"HEIC": "pip install pillow-heif", "AVIF": "pip install --upgrade pillow"}

# The text in a picture (editors keep whole histories there) must not be a reason to reject it: it may take as much
# memory as a large photo does.
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
        Pillow's message, the name of the format, what to install, or the darkest and brightest level.
    """

    def __init__(self, fault: str, detail: str = ""):
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault, self.detail = fault, detail


def upright_rgb(image: Image.Image, *, by_profile: bool = True) -> np.ndarray:
    """Return an image's pixels, ``uint8 (H, W, 3)``, as a viewer shows them.

    The EXIF orientation is applied, colours are converted to sRGB by the image's own profile, transparent images are
    placed on white, and grey, palette, CMYK, 16-bit, 32-bit and float images become RGB.

    Parameters
    ----------
    by_profile : bool
        If false, colours are taken as they are stored.

    Raises
    ------
    ImageFileError
        If it cannot be known which level is white.
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
        if bitmap and alpha.getextrema() == (0, 0):  # a fourth byte that the program that wrote it left empty
            alpha = None
    image = _srgb(image.convert("RGB") if image.mode == "P" else image, profile)
    if alpha is not None:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(image if turn is None else image.transpose(turn))


def orientation(image: Image.Image) -> int:
    """Return an image's EXIF orientation, from 1 to 8; 1, upright, if its EXIF gives none that can be read.

    EXIF is only read: Pillow's `ImageOps.exif_transpose` also rewrites it, which fails on many cameras' tags.
    """
    for find in (
        lambda: image.getexif().get(ExifTags.Base.Orientation),
        lambda: _orientation_entry(image.info["exif"]),
    ):
        with contextlib.suppress(Exception):  # EXIF may hold anything, and so reading it may raise anything
            if (value := find()) in _TURNS:
                return int(value)
    return 1


def _orientation_entry(exif: bytes) -> int | None:
    """Find the orientation in EXIF's first directory, reading past entries at which Pillow stops."""
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
    """Scale a deep grey image to 256 levels: `Image.convert` would clip its levels instead.

    White is the highest level of the file's depth or of a smaller depth that holds all levels, such as 12 bits in 16.
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
            levels = levels.view(np.uint32)  # Pillow has no mode for unsigned 32-bit levels, and reads them as signed
        low, high = int(levels.min()), int(levels.max())
        if low < 0:
            raise ImageFileError("levels", f"{low} to {high}")
        depths = (8, 12, 16, 24, depth) if tags else (16, depth)  # a 16-bit PNG uses all of its 16 bits
        grey = (levels >> next(bits for bits in depths if high < 2**bits and bits <= depth) - 8).astype(np.uint8)
    return Image.fromarray(255 - grey if _first(tags, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO else grey)


def _first(tags: Mapping[int, Any], tag: int, otherwise: int) -> int:
    """Return a TIFF tag's value, the first one if there is one for each channel."""
    value = tags.get(tag, otherwise)
    return value[0] if isinstance(value, tuple) else value


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to RGB by its own ICC profile; one that is broken or for another mode is ignored."""
    if profile or image.mode == "LAB":
        with contextlib.suppress(Exception):  # the profile may hold anything: not only lcms raises errors over it
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            convert = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), image.mode, "RGB")
            # Most profiles are sRGB under one name or another: those photos stay as they are, to the last bit.
            if image.mode != "RGB" or np.abs(np.asarray(convert.apply(_PROBE), int) - np.asarray(_PROBE)).max() > 2:
                return convert.apply(image)
    return image.convert("RGB")


@cache
def _readable() -> tuple[str, ...]:
    """Return those of the `FORMATS` that this installation can read."""
    with contextlib.suppress(ImportError):  # optional: users whose photos need it can install it
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _unidentified(path: Path) -> ImageFileError:
    """Return the error for a file that Pillow does not recognise: it needs another library, or is no known image."""
    with path.open("rb") as file:
        start = file.read(64)
    brands = start[8:] if start[4:8] == b"ftyp" else b""
    if b"avif" in brands or b"avis" in brands:
        kind = "AVIF"
    elif any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")) or path.suffix.lower() in _HEIC:
        kind = "HEIC"
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ImageFileError("other format", "TIFF, but damaged or with its pixels stored in an unusual way")
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

    Format and size are checked in the file's header, before anything is decoded.

    Parameters
    ----------
    reading : callable
        Computes the result from the opened image, as `upright_rgb` does.
    formats : collection of str, optional
        Pillow's names of the formats that are allowed, whatever the file is called; by default all of `FORMATS`.
    max_pixels : int, optional
        The most pixels allowed, in addition to Pillow's own limit (about 90 megapixels).

    Raises
    ------
    ImageFileError
        If the file cannot be used, for whatever reason.
    """
    try:
        if not path.is_file():
            raise ImageFileError("missing")
        with Image.open(path, formats=_readable()) as image:
            if formats is not None and image.format not in formats:
                raise ImageFileError("other format", str(image.format))
            if image.format == "TIFF" and (way := image.info.get("compression")) not in _TIFF_WAYS:
                raise ImageFileError(
                    "other format", f"TIFF compressed as {way} (read: uncompressed, PackBits, LZW, ZIP)"
                )
            # Pillow only warns above its limit, and turning the warning into an error would affect other threads too.
            limits = [limit for limit in (max_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
            if image.width * image.height > min(limits, default=image.width * image.height):
                raise ImageFileError("too large", f"more than {min(limits)} pixels")
            if max(image.size) > _LONGEST:
                raise ImageFileError("too long")
            return reading(image)
    except ImageFileError:
        raise
    except FileNotFoundError as error:  # deleted since the check
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
    except Exception as error:  # decoders raise errors of many classes: struct.error, TypeError, zlib.error, ...
        raise ImageFileError("damaged", " ".join(str(error).split()) or type(error).__name__) from error
