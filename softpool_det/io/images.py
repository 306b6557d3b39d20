"""Image files of strangers: none that is a program, or claims more pixels than PIL's limit.

Every picture is read by :func:`load_image`, in training, evaluation and reports alike.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

logger = logging.getLogger(__name__)

# By content, not by name. PIL knows more: of those, PostScript (EPS) is a program, which PIL has
# Ghostscript run.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Modes that Pillow itself turns into RGB rightly.
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
# Where Pillow opens 16 bits as the mode of 32: old versions do so with PNG, all with PPM.
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
# An image of 16 bits with nothing above this holds 12 bits or fewer.
_DARK = 4095

# How an image with an EXIF orientation is turned to be shown.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# From this orientation on, width and height are swapped.
_FIRST_SWAPPED = 5

_DAMAGE = (SyntaxError, EOFError, ValueError, TypeError, IndexError, OverflowError, struct.error)

_warned: set[str] = set()


class ImageError(ValueError):
    """An image that cannot be read, or is too large; names the file.

    A DataLoader whose worker met it raises it again with the worker's whole traceback as its text,
    of which the last line counts.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


class Header(NamedTuple):
    """What an image file says of itself before any pixel is decoded.

    Args:
        size: (width, height) in pixels, as the image is shown.
        orientation: EXIF's, 1 to 8; 1 without one. From 5 on, the stored size is the
            swapped one.
    """

    size: tuple[int, int]
    orientation: int


@contextlib.contextmanager
def open_image(source: str | Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image by its header; pixels are decoded when they are asked for.

    Raises:
        FileNotFoundError: the file does not exist.
        ImageError: it is in none of `FORMATS`, is damaged, is a folder, or has more pixels than
            :func:`pixel_limit`.
    """
    try:
        with contextlib.ExitStack() as stack:
            # Not by its path: Pillow (13.0) then maps the file into memory, and mixes up the pixels
            # of an uncompressed TIFF that EXIF turns by 90 degrees.
            if isinstance(source, str | Path):
                file: IO[bytes] = stack.enter_context(open(source, "rb"))
            else:
                file = source
            yield stack.enter_context(Image.open(file, formats=FORMATS))
    except (FileNotFoundError, ImageError):
        raise
    except IsADirectoryError as error:
        raise ImageError(
            f"{source} cannot be read as an image: it is a folder; give a list of the files in it"
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageError(f"{source} cannot be read as an image ({known})") from error
    # What PIL's decoders raise for files that are damaged.
    except (Image.DecompressionBombError, OSError, *_DAMAGE) as error:
        raise ImageError(f"{source} cannot be read as an image: {error}") from error


def pixel_limit() -> float:
    """Pixels above which PIL reads no image: 179 million, unless a program changed that."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def load_image(source: str | Path | IO[bytes]) -> Image.Image:
    """Decode an image with 8 bits a channel, turned as its EXIF orientation says.

    Grey images of 16 bits keep the upper eight, as Pillow does with colours of 16 bits.

    Returns:
        An image of a mode that `convert("RGB")` reads rightly; that drops an alpha channel and
        keeps the colours as stored.

    Raises:
        FileNotFoundError: the file does not exist.
        ImageError: as for :func:`open_image`; or there are several frames or pages, or pixels
            whose range is unknown.
    """
    with open_image(source) as image:
        _check_frames(image)
        image.load()
        # Pillow turns a TIFF while it loads, and its orientation is 1 from then on.
        turn = _TURNS.get(_orientation(image))
        plain = image if image.mode in _EIGHT_BIT_MODES else _upper_bits(image, str(source))
        return plain if turn is None else plain.transpose(turn)


def read_rgb(source: str | Path | IO[bytes]) -> Image.Image:
    """Read an image as RGB; raises what :func:`load_image` does."""
    return load_image(source).convert("RGB")


def read_bgr(path: str | Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) in the order of OpenCV; see :func:`load_image`."""
    return np.ascontiguousarray(np.asarray(read_rgb(path))[:, :, ::-1])


def read_header(path: str | Path) -> Header:
    """Read size and orientation; raises what :func:`open_image` does."""
    with open_image(path) as image:
        orientation = _orientation(image)
        # Of a TIFF, Pillow has swapped the size itself.
        swap = orientation >= _FIRST_SWAPPED and image.format != "TIFF"
        return Header(image.size[::-1] if swap else image.size, orientation)


def explain_size(path: str | Path, annotated: tuple[int, int]) -> str | None:
    """Return why an image does not have the (width, height) of its annotation; None if it has.

    Raises:
        FileNotFoundError, ImageError: as for :func:`open_image`.
    """
    shown, orientation = read_header(path)
    if shown == annotated:
        return None
    sizes = f"it is {shown[0]}x{shown[1]} pixels, its annotation says {annotated[0]}x{annotated[1]}"
    if orientation < _FIRST_SWAPPED or shown[::-1] != annotated:
        return sizes
    return (
        f"{sizes}: that is the stored size, but EXIF orientation {orientation} turns the image. If "
        "the boxes are in stored pixels, remove the tag from the file; otherwise swap width and "
        "height in the annotation"
    )


def check_header(path: str | Path) -> str:
    """Refuse what :func:`load_image` would without decoding a pixel; gives Pillow's mode.

    Raises:
        FileNotFoundError, ImageError: as for :func:`load_image`.
    """
    with open_image(path) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ValueError(f"it has {image.width}x{image.height} pixels, more than {limit}")
        _check_frames(image)
        _check_mode(image)
        return image.mode


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # of damaged tags Pillow raises anything; the pixels may be whole
        return 1
    return value if value in _TURNS else 1


def _check_frames(image: Image.Image) -> None:
    # Phones write MPO: a JPEG whose other pictures are previews and depth maps of the first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1 and isinstance(image, TiffImagePlugin.TiffImageFile):
        frames = _count_pages(image)
    if frames > 1:
        raise ValueError(
            f"it has {frames} frames or pages; save the one you want as a file of its own"
        )


def _count_pages(image: TiffImagePlugin.TiffImageFile) -> int:
    """Count a TIFF's pages, without reduced copies and masks of others (tag NewSubfileType)."""
    pages = 0
    for number in range(image.n_frames):
        image.seek(number)
        pages += not image.tag_v2.get(254, 0) & 0b101
    image.seek(0)
    return pages


def _check_mode(image: Image.Image) -> None:
    wide = image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS
    if image.mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES) and not wide:
        raise ValueError(
            f"Pillow's mode {image.mode} does not say which value is white; save it as RGB "
            "or grey with 8 bits a channel, or as 16-bit grey with white at 65535"
        )


def _upper_bits(image: Image.Image, name: str) -> Image.Image:
    """Reduce a grey image of 16 bits to 8; a TIFF may state 12."""
    _check_mode(image)
    values, bits = np.asarray(image), 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        (bits,) = image.tag_v2[TiffImagePlugin.BITSPERSAMPLE]
        # White is 0, which Pillow assumes where the tag is missing.
        if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0) == 0:
            values = 2**bits - 1 - values
    if bits == 16 and values.max() <= _DARK and "dark" not in _warned:
        _warned.add("dark")
        logger.warning(
            "%s has 16 bits but no value above %d: it will look nearly black, because 65535 is "
            "read as white (reported once)",
            *(name, int(values.max())),
        )
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))
