"""What all pictures have in common: size, colours, and files that a second run writes again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

from softpool_det.io.atomic import replacing

matplotlib.use("Agg")
from matplotlib import pyplot

# Okabe and Ito's colours, which colour-blind readers distinguish.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
# Pages show pictures at 600 px, 100 for each inch.
WIDTH, DPI, PALETTE = 6.0, 180, 64
STYLE = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def new_figure(height: float, *shape: int, **options: Any) -> tuple[Any, Any]:
    """`pyplot.subplots` in the pages' width, on white, which is legible on a dark page, too."""
    figure, axes = pyplot.subplots(*shape, figsize=(WIDTH, height), layout="constrained", **options)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    return figure, axes


def png_of(figure: Any) -> bytes:
    """The picture as a PNG; without a version in it, the same data give the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    pyplot.close(figure)
    return few_colours(Image.open(drawn), PALETTE)


def few_colours(picture: Image.Image, colours: int) -> bytes:
    """A PNG with a palette, a third of the size."""
    written = io.BytesIO()
    palette = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    palette.save(written, "PNG", optimize=True)
    return written.getvalue()


def save(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
