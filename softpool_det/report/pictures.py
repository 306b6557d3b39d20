"""Pictures for the report, and how they get into it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from softpool_det.io.images import ImageError, read_rgb

# CSS pixels; what is larger is reduced. Enough for a panel on a screen of high density, and for
# the enlarged view.
MAX_SIDE = 640
QUALITY = 82


@dataclass(frozen=True)
class PictureRow:
    """Pictures that belong side by side.

    Args:
        title: of the row ("SoftPool: channel 7").
        caption: what there is to see.
        pictures: a label and the bytes of a PNG, JPEG or WebP file each.
    """

    title: str
    caption: str
    pictures: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as a data URI, with its size in pixels."""

    label: str
    uri: str
    width: int
    height: int


def embed(row: PictureRow) -> list[EmbeddedPicture]:
    """Pictures of a row as data URIs, none larger than `MAX_SIDE` on a side.

    Raises:
        ValueError: a picture cannot be read.
    """
    return [_embed(label, data, row.title) for label, data in row.pictures]


def _embed(label: str, data: bytes, title: str) -> EmbeddedPicture:
    try:
        image = read_rgb(io.BytesIO(data))
    except ImageError as error:
        raise ValueError(
            f"picture {label!r} of {title!r} must be a PNG, JPEG or WebP file, got {len(data)} "
            f"bytes that cannot be read as one ({error})"
        ) from error
    return embed_image(label, image)


def embed_image(label: str, image: Image.Image) -> EmbeddedPicture:
    """Return an RGB image as a data URI, at most `MAX_SIDE` on a side."""
    image = image.copy()
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=6)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return EmbeddedPicture(label, f"data:image/webp;base64,{encoded}", *image.size)
