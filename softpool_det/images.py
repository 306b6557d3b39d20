"""Image files of strangers: none that is a program, or claims more pixels than PIL's limit."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# By content, not by name. PIL knows more: of those, PostScript (EPS) is a program, which PIL has
# Ghostscript run.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


_DAMAGE = (SyntaxError, EOFError, ValueError, TypeError, IndexError, OverflowError, struct.error)


class ImageError(ValueError):
    """An image that cannot be read, or is too large; names the file.

    A DataLoader whose worker met it raises it anew with the worker's whole traceback as its text,
    of which the last line is the one that counts.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image by its header; pixels are decoded when they are asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it is in none of `FORMATS`, is damaged, or has more pixels than
            :func:`pixel_limit`.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except (FileNotFoundError, ImageError):
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path} cannot be read as an image ({known})") from error
    # What PIL's decoders raise for files that are damaged.
    except (Image.DecompressionBombError, OSError, *_DAMAGE) as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from error


def pixel_limit() -> float:
    """Pixels above which PIL reads no image: 179 million, unless a program changed that."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def read_rgb(path: str | Path) -> Image.Image:
    """Read an image file as RGB; raises what :func:`open_image` does."""
    with open_image(path) as image:
        return image.convert("RGB")


def check_pixels(path: str | Path) -> None:
    """Raise what :func:`open_image` does, without decoding anything."""
    with open_image(path):
        pass
