"""One look for all charts, and SVG that takes its colours from the page around it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from softpool_det.report.formatting import shorten

# CSS pixels, which are matplotlib's points here: a phone shows the charts at their own size.
WIDTH = 320
SMALL_TEXT = 11.5
TEXT = 12.5
LEGEND_LINE = 18

# Matplotlib draws in colours that mean nothing; the page's style sheet says what they are.
INK, MUTED, GRID, SURFACE = "#010203", "#010204", "#010205", "#010206"
_ARMS = ("#010210", "#010211", "#010212", "#010213", "#010214", "#010215")
_CSS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    **{colour: f"var(--arm-{index})" for index, colour in enumerate(_ARMS)},
}
_SENTINEL = re.compile("|".join(_CSS))
# The page chooses the family.
_FONT = re.compile(r"font-family: [^;]*; ?")
# Arms differ in these as well, for those who see no colours.
_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.3)), (0, (7, 1.6, 1.2, 1.6)), (0, (3, 3)), (0, (9, 2)))
_MARKERS = ("o", "s", "D", "^", "v", "P")
MARKER_SIGNS = ("●", "■", "◆", "▲", "▼", "✚")

# Matplotlib's own type for it lists every key.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": SMALL_TEXT,
    "text.color": INK,
    "axes.labelsize": SMALL_TEXT,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": SMALL_TEXT,
    "lines.linewidth": 1.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL_TEXT,
    "ytick.labelsize": SMALL_TEXT,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


def arm_colour(index: int) -> str:
    """Return the colour of an arm, by its number."""
    return _ARMS[index % len(_ARMS)]


def arm_dashes(index: int):
    """Return the line style of an arm, by its number."""
    return _DASHES[index % len(_DASHES)]


def arm_marker(index: int) -> str:
    """Return the marker of an arm, by its number."""
    return _MARKERS[index % len(_MARKERS)]


def new_figure(height: float) -> Figure:
    """`WIDTH` x `height` CSS pixels."""
    return Figure(figsize=(WIDTH / 72, height / 72))


def add_axes(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes that keep these distances, in CSS pixels, from the figure's edges."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    box = (
        left / width,
        bottom / height,
        (width - left - right) / width,
        (height - top - bottom) / height,
    )
    return figure.add_axes(box)


def legend_height(names: Sequence[str]) -> float:
    """Return the height of a legend, in CSS pixels."""
    return LEGEND_LINE * len(names) + 6


def add_legend(figure: Figure, names: Sequence[str], first: int = 0, lines: bool = True) -> None:
    """Add the arms' names above the axes, where they can hide nothing.

    Args:
        names: from the arm with the number `first` on.
        lines: whether the chart shows lines; bars with a marker at their end otherwise.
    """
    handles = [
        Line2D(
            [],
            [],
            color=arm_colour(index),
            linestyle=arm_dashes(index) if lines else "none",
            marker=None if lines else arm_marker(index),
            markersize=6,
            label=shorten(name, 40),
        )
        for index, name in enumerate(names, first)
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        borderpad=0,
        borderaxespad=0,
        handlelength=2.8 if lines else 1,
        labelspacing=(LEGEND_LINE - SMALL_TEXT * 1.2) / SMALL_TEXT,
    )


def to_svg(figure: Figure, title: str) -> Markup:
    """Convert the figure to an `<svg>` element for an HTML page.

    Text stays text. Colours become `currentColor` and the custom properties --muted, --grid,
    --surface and --arm-0 to --arm-5 of the page's style sheet.

    Args:
        title: what the chart shows, for those who cannot see it; no other on the page has it.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    _name(root, title)
    _recolour(root)
    _rename_ids(
        root, "chart-" + hashlib.sha256(title.encode(errors="backslashreplace")).hexdigest()[:8]
    )
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _name(root: ElementTree.Element, title: str) -> None:
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    # It would hold for the whole page, which has its own.
    for definitions in root.findall(f"{{{_SVG}}}defs"):
        for style in definitions.findall(f"{{{_SVG}}}style"):
            definitions.remove(style)
    # The style sheet sets the size: as wide as there is room for.
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", title)
    element = ElementTree.Element(f"{{{_SVG}}}title")
    element.text = title
    root.insert(0, element)


def _recolour(root: ElementTree.Element) -> None:
    for element in root.iter():
        for attribute in ("style", "fill", "stroke"):
            if attribute in element.attrib:
                value = _SENTINEL.sub(lambda match: _CSS[match[0]], element.attrib[attribute])
                element.set(attribute, _FONT.sub("", value))


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Make ids unique on the page, and always the same; those that nothing refers to go."""
    href, url = f"{{{_XLINK}}}href", re.compile(r"url\(#([^)]+)\)")
    names: dict[str, str] = {}

    def renamed(identifier: str) -> str:
        return names.setdefault(identifier, f"{prefix}-{len(names)}")

    for element in root.iter():
        for key, value in element.attrib.items():
            if key == href:
                element.set(key, f"#{renamed(value.removeprefix('#'))}")
            elif match := url.search(value):
                element.set(key, url.sub(f"url(#{renamed(match[1])})", value))
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in names:
            element.set("id", names[identifier])
