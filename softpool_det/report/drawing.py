"""Boxes and labels drawn on an image, for pages without scripts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

# Pixels; images are scaled to it, small ones as well: boxes and labels stay fine then.
LONGER_SIDE = 560
LABEL_SIZE = 15
# With more objects than this, labels hide them.
MAX_LABELS = 20
# Okabe and Ito's colours, which the colour-blind can distinguish; by category, cyclic.
COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)


@dataclass(frozen=True)
class DrawnObject:
    """An object to draw.

    Args:
        box: x, y, width, height in pixels of the image.
        label: text at the box.
        category: number of its category, for the colour.
    """

    box: tuple[float, float, float, float]
    label: str
    category: int


def draw_objects(image: Image.Image, objects: Sequence[DrawnObject]) -> bytes:
    """Draw the image as a PNG, scaled so that its longer side has `LONGER_SIDE` pixels.

    Labels are left out where there are more than `MAX_LABELS` objects.
    """
    scale = LONGER_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        _draw_box(draw, [scale * value for value in item.box], item)
    if len(objects) <= MAX_LABELS:
        for item in objects:
            _draw_label(draw, [scale * value for value in item.box], item, size)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _colour(item: DrawnObject) -> tuple[int, int, int]:
    return COLOURS[item.category % len(COLOURS)]


def _draw_box(draw: ImageDraw.ImageDraw, box: Sequence[float], item: DrawnObject) -> None:
    x, y, width, height = box
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
    # A dark rim, so that the line shows on any background.
    draw.line(corners, fill=(20, 20, 20), width=5)
    draw.line(corners, fill=_colour(item), width=3)


def _draw_label(
    draw: ImageDraw.ImageDraw, box: Sequence[float], item: DrawnObject, size: tuple[int, int]
) -> None:
    """Above the box where there is room, in it otherwise; never outside the image."""
    left, top, right, bottom = draw.textbbox((0, 0), item.label, font=_font())
    width, height = right - left + 6, bottom - top + 4
    x = min(max(0, box[0]), max(0, size[0] - width))
    y = box[1] - height if box[1] >= height else max(0, box[1])
    draw.rectangle((x, y, x + width, y + height), fill=(20, 20, 20))
    draw.rectangle((x, y, x + 2, y + height), fill=_colour(item))
    draw.text((x + 4 - left, y + 2 - top), item.label, fill=(255, 255, 255), font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib brings it along; it has far more letters than Pillow's own.
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), LABEL_SIZE)
