"""pooled.png: an image and its pooled versions, as in the paper's figures 3, 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softpool_det.report.markdown import printable
from softpool_det.similarity.measure import load_image, pool
from softpool_det.similarity.metrics import psnr, same_size, ssim
from softpool_det.similarity.photographs import Photograph
from softpool_det.similarity.poolings import State, apply, build, pooling_of
from softpool_det.similarity.table import LABELS

COLUMNS = 6
# Inches of a panel, dots per inch.
PANEL, TITLE, DPI = 1.75, 0.5, 110
# Pixels of the original in a zoomed crop, a multiple of 2, 3, 5 and 8.
ZOOM = 120
# What figure 3 pools again and again, where it is chosen.
REPEATED = ("max", "avg", "softpool-unit", "softpool-imagenet", "softpool-bytes")
# Kernel size and stride, as in figure 6.
WINDOWS = ((2, 2), (3, 2), (3, 3), (5, 3), (5, 5))


class Panel(NamedTuple):
    """A picture (3, H, W) in 0 to 1, its label, and a box (left, top, side) to mark in it."""

    label: str
    pixels: np.ndarray
    box: tuple[int, int, int] | None = None


class Part(NamedTuple):
    """Panels under one title."""

    title: str
    panels: list[Panel]


class Chosen(NamedTuple):
    """What the pictures show: keys, k, seed, and the states of trained poolings by key."""

    keys: Sequence[str]
    kernel: int
    seed: int
    states: Mapping[str, State]


def draw(photographs: Sequence[Photograph], chosen: Chosen, file: Path, pdf: Path | None) -> None:
    """Write the picture of these images as a PNG, and as a PDF, too, where `pdf` is a path."""
    parts = [part for photograph in photographs for part in _parts(photograph, chosen)]
    rows = [-(-len(part.panels) // COLUMNS) for part in parts]
    heights = [count * PANEL + TITLE for count in rows]
    figure = Figure(figsize=(COLUMNS * PANEL, sum(heights)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    folders = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, count, place in zip(parts, rows, folders, strict=True):
        place.suptitle(part.title, fontsize=9, fontweight="bold", x=0.01, ha="left", **_PLAIN)
        axes = place.subplots(count, COLUMNS, squeeze=False).flat
        for number, axis in enumerate(axes):
            axis.axis("off")
            if number < len(part.panels):
                _show(axis, part.panels[number])
    figure.savefig(file)
    if pdf is not None:
        # Without the time, so that the same pictures are the same file.
        figure.savefig(pdf, metadata={"CreationDate": None})


# A file's name may have dollar signs, which are not formulas.
_PLAIN = {"parse_math": False}


def _show(axis, panel: Panel) -> None:
    axis.imshow(panel.pixels.clip(0, 1).transpose(1, 2, 0), interpolation="nearest")
    axis.set_title(panel.label, fontsize=7, pad=2, **_PLAIN)
    if panel.box is not None:
        left, top, side = panel.box
        axis.add_patch(Rectangle((left, top), side, side, fill=False, color="#e69f00", lw=1.5))


def _parts(photograph: Photograph, chosen: Chosen) -> list[Part]:
    name = printable(photograph.name)
    # What all of the windows below fill: no crop of another size moves the pictures.
    image = load_image(photograph, 1)
    box = _detail(image)
    start = "" if chosen.states else "; trained ones at their start"
    return [
        Part(
            f"{name}: pooled 2x2 three times (figure 3; trained ones at their start)",
            _repeated(image, box, chosen),
        ),
        Part(
            f"{name}: every pooling, k = {chosen.kernel} (figure 5{start})",
            _compared(photograph, chosen, box),
        ),
        Part(f"{name}: SoftPool, ImageNet, by kernel and stride (figure 6)", _windows(image, box)),
    ]


def _detail(image: torch.Tensor) -> tuple[int, int, int]:
    """Find the crop with the most contrast, on a grid, as left, top and side."""
    grey = image[0].mean(0)
    side = min(ZOOM, *grey.shape)
    step = max(1, side // 2)
    tiles = grey.unfold(0, side, step).unfold(1, side, step)
    contrast = tiles.flatten(2).std(2)
    row, column = divmod(int(contrast.argmax()), contrast.shape[1])
    return column * step, row * step, side


def _cut(image: torch.Tensor, box: tuple[int, int, int], scale: int = 1) -> np.ndarray:
    """Crop the box from an image that was reduced by `scale`."""
    left, top, side = (length // scale for length in box)
    return image[0, :, top : top + max(side, 1), left : left + max(side, 1)].numpy()


def _originals(image: torch.Tensor, box: tuple[int, int, int]) -> list[Panel]:
    return [Panel("original", image[0].numpy(), box), Panel("original, crop", _cut(image, box))]


def _repeated(image: torch.Tensor, box: tuple[int, int, int], chosen: Chosen) -> list[Panel]:
    keys = [key for key in REPEATED if key in chosen.keys] or list(chosen.keys[: COLUMNS - 1])
    wholes, crops = _originals(image, box)
    rows = [[wholes], [crops]]
    for key in keys[: COLUMNS - 1]:
        pooled = image
        for turn in range(3):
            pooled = pool(key, pooled, 2, chosen.seed, None, f"figure {turn}")
        rows[0].append(Panel(LABELS[key], pooled[0].numpy()))
        rows[1].append(Panel(f"{LABELS[key]}, crop", _cut(pooled, box, 8)))
    blank = Panel("", np.ones((3, 1, 1)))
    first = rows[0] + [blank] * (COLUMNS - len(rows[0]))
    return first + rows[1]


def _compared(photograph: Photograph, chosen: Chosen, box: tuple[int, int, int]) -> list[Panel]:
    image = load_image(photograph, chosen.kernel)
    panels = _originals(image, box)
    for key in chosen.keys:
        state = chosen.states.get(key)
        pooled = pool(key, image, chosen.kernel, chosen.seed, state, photograph.name)
        one, other = (side.numpy()[0] for side in same_size(image, pooled, "nearest"))
        decibels = psnr(one, other)
        figures = "equal" if decibels is None else f"{ssim(one, other):.3f}, {decibels:.1f} dB"
        panels.append(Panel(f"{LABELS[key]}\n{figures}", _cut(pooled, box, chosen.kernel)))
    return panels


def _windows(image: torch.Tensor, box: tuple[int, int, int]) -> list[Panel]:
    softpool = pooling_of("softpool-imagenet")
    panels = _originals(image, box)[1:]
    for kernel, stride in WINDOWS:
        layer = build(softpool, kernel, 0, stride).double()
        with torch.no_grad():
            pooled = apply(softpool, layer, image)
        panels.append(Panel(f"{kernel}x{kernel}, stride {stride}", _cut(pooled, box, stride)))
    return panels
