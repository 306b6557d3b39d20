"""Objects over a photograph as SVG outlines and labels, which the page's script filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from softpool_det.report.drawing import COLOURS, MAX_LABELS
from softpool_det.report.formatting import shorten
from softpool_det.report.pictures import MAX_SIDE, EmbeddedPicture

# Detections below it are not on the page: detectors give hundreds of them.
LEAST_SCORE = 0.05
LABEL_LENGTH = 24
# Units of the drawing by which a mask's outline may be off: half a CSS pixel in most panels.
TOLERANCE = 1.0

# x, y, width, height in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Threshold:
    """An arm's least score, and the positions of its slider, in hundredths.

    The position of `initial` stands for exactly that score, the others for their own.
    """

    initial: float

    @property
    def start(self) -> int:
        """Position of the initial score; scores may be other numbers than 0 to 1."""
        return _position(self.initial)

    @property
    def first(self) -> int:
        """Lowest position."""
        return min(round(100 * LEAST_SCORE), self.start)

    @property
    def text(self) -> str:
        """Return the initial score in words."""
        return _written(self.initial)

    def last(self, score: float) -> int:
        """Return the highest position at which a detection of that score is shown."""
        place = _position(score)
        return place if score >= self.initial else min(place, self.start - 1)


def _position(score: float) -> int:
    """Return the score in hundredths, cut rather than rounded."""
    return math.floor(round(100 * min(max(score, 0), 1), 6))


def _written(score: float) -> str:
    """Two decimals that say from which position on a detection is hidden."""
    return f"{_position(score) / 100 if 0 <= score <= 1 else score:.2f}"


@dataclass(frozen=True)
class Shape:
    """An object on the photograph.

    Args:
        path: its outline, SVG path data in the row's frame.
        is_mask: whether that is of a mask.
        place: CSS declarations that place the label.
        category: number of its category.
        name: of its category.
        score: of a detection; None for an object of the ground truth.
        right: whether a detection matches an object.
        last: position of its arm's slider up to which it is shown.
    """

    path: str
    is_mask: bool
    place: str
    category: int
    name: str
    score: float | None = None
    right: bool = True
    last: int = 100

    @property
    def label(self) -> str:
        """Name and score."""
        name = shorten(self.name, LABEL_LENGTH)
        return name if self.score is None else f"{name} {_written(self.score)}"

    @property
    def colour(self) -> int:
        """Number of its colour."""
        return self.category % len(COLOURS)


@dataclass(frozen=True)
class Panel:
    """One arm's objects on a photograph, best first; `threshold` is None for the ground truth."""

    name: str
    shapes: Sequence[Shape]
    threshold: Threshold | None = None

    def shows(self, shape: Shape) -> bool:
        """Whether the shape is shown at first."""
        return self.threshold is None or shape.last >= self.threshold.start

    @cached_property
    def right(self) -> int:
        """How many right ones are shown at first."""
        return sum(self.shows(shape) and shape.right for shape in self.shapes)

    @cached_property
    def wrong(self) -> int:
        """How many wrong ones are shown at first."""
        return sum(self.shows(shape) and not shape.right for shape in self.shapes)

    @property
    def labelled(self) -> bool:
        """Whether labels are shown at first: many hide what they name."""
        return self.right + self.wrong <= MAX_LABELS


@dataclass(frozen=True)
class GalleryRow:
    """Panels of one photograph, side by side.

    Args:
        title: of the row ("Image 139 (139.jpg): new +8.8 box AP").
        caption: what there is to see.
        photograph: embedded once for all panels.
        frame: width and height of the panels' coordinates.
        panels: the ground truth and each arm.
    """

    title: str
    caption: str
    photograph: EmbeddedPicture
    frame: tuple[float, float]
    panels: Sequence[Panel]


def classes_of(rows: Sequence[GalleryRow]) -> list[tuple[str, int]]:
    """Names and numbers of the classes on the photographs, by name."""
    shapes = (shape for row in rows for panel in row.panels for shape in panel.shapes)
    return sorted({(shape.name, shape.category) for shape in shapes})


def frame_of(width: int, height: int) -> tuple[float, float]:
    """Return width and height of the coordinates that shapes on an image of that size have."""
    scale = MAX_SIDE / max(width, height)
    return scale * width, scale * height


def outline(
    box: Box, mask: np.ndarray | None, frame: tuple[float, float], scale: float
) -> tuple[str, bool]:
    """Return SVG path data of the mask's outline and True; of the box without a (visible) mask.

    Args:
        box: x, y, width, height in pixels.
        mask: uint8 (H, W) of 0 and 1, or None.
        frame: of the row.
        scale: of the frame to pixels.
    """
    parts = [] if mask is None else _contours(mask, frame)
    if parts:
        return "".join(parts), True
    left, top, right, bottom = _corners(box, frame, scale)
    wide, high = _number(right - left), _number(bottom - top)
    return f"M{_number(left)} {_number(top)}h{wide}v{high}h-{wide}z", False


def label_place(box: Box, frame: tuple[float, float], scale: float) -> str:
    """Return CSS that keeps a label above its box where there is room, and inside the image."""
    left, top, right, _ = _corners(box, frame, scale)
    left, right = (100 * min(max(x / frame[0], 0), 1) for x in (left, right))
    top = 100 * min(max(top / frame[1], 0), 1)
    near = (
        f"left:{_number(left)}%;max-width:{_number(100 - left)}%"
        if 100 - left >= right
        else f"right:{_number(100 - right)}%;max-width:{_number(right)}%"
    )
    return f"{near};bottom:min({_number(100 - top)}%,100% - 1lh)"


def _contours(mask: np.ndarray, frame: tuple[float, float]) -> list[str]:
    size = (max(1, round(frame[0])), max(1, round(frame[1])))
    if max(size) > max(mask.shape):
        how, least = cv2.INTER_LINEAR, 127
    else:
        # A quarter of a pixel is enough: thin masks stay.
        how, least = cv2.INTER_AREA, 63
    resized = cv2.resize(255 * mask, size, interpolation=how)
    _, binary = cv2.threshold(resized, least, 1, cv2.THRESH_BINARY)
    found, _ = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in found:
        points = cv2.approxPolyDP(contour, TOLERANCE, True).reshape(-1, 2)
        if len(points) > 1:
            steps = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0).tolist())
            # From the middle of a pixel to its place in the frame.
            x, y = (points[0] + 0.5).tolist()
            parts.append(f"M{x} {y}l{steps}z")
    return parts


def _corners(
    box: Box, frame: tuple[float, float], scale: float
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in the frame; what is beyond it stays beyond it, but not far."""
    x, y, width, height = (scale * value for value in box)
    left, right = (min(max(value, -9), frame[0] + 9) for value in (x, x + width))
    top, bottom = (min(max(value, -9), frame[1] + 9) for value in (y, y + height))
    return left, top, right, bottom


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
