"""The comparison on one picture, for a pull request, a slide or a message."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from softpool_det.io.atomic import replacing
from softpool_det.report.charts.forest import shared_limits, tick_text
from softpool_det.report.charts.svg import arm_marker
from softpool_det.report.formatting import (
    excludes_zero,
    has_interval,
    interval,
    is_number,
    shorten,
    signed,
    true_minus,
)
from softpool_det.report.schema import check_comparison
from softpool_det.report.wording import (
    TASKS,
    has_simultaneous,
    heading,
    plural,
    scope,
    seed_note,
)

# Pixels, as the services that show cards of links want them.
WIDTH, HEIGHT = 1200, 630
EDGE = 40
CANDIDATES = 5
# Sizes in pixels. At half size, as in a message, the small text is still 10 pixels high.
TITLE, LEAST_TITLE, TEXT, SMALL = 46, 32, 24, 20
LINE = 1.35
AXIS_HEIGHT, FOOTER = 66, 44
LEAST_ROW, MOST_ROW = 25, 110
NAME_LENGTH = 60
REMARKS_LENGTH = 200
# Of all rows: names at the left, figures at the right.
LEFT, RIGHT = 330, 480
# Over Matplotlib's defaults, whatever the user's are; it brings the font along.
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
}


class _Row(NamedTuple):
    label: str
    arm: int
    difference: Mapping[str, Any]
    # Of AP; its interval is the one that decides.
    entry: Mapping[str, Any]


@style.context(["default", _STYLE])
def write_card(path: str | Path, comparison: Mapping[str, Any]) -> None:
    """Write a summary as a PNG of 1200 x 630 pixels: differences in AP, intervals and verdicts.

    Args:
        path: of the file, which is written atomically.
        comparison: the content of comparison.json; of more than five candidates the first five are
            shown.

    Raises:
        ValueError: the comparison lacks what every comparison has.
    """
    check_comparison(comparison)
    # The font lacks letters of some names; a box stands for each.
    with warnings.catch_warnings(), replacing(Path(path)) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        draw_card(comparison).savefig(
            temporary,
            format="png",
            dpi=72,
            metadata={"Software": None},
            pil_kwargs={"optimize": True},
        )


@style.context(["default", _STYLE])
def draw_card(comparison: Mapping[str, Any]) -> Figure:
    """Draw the summary as a figure whose unit, the point, is a pixel."""
    colours = _colours()
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=colours["surface"])
    FigureCanvasAgg(figure)
    pen = _Pen(figure, colours)
    names = comparison["names"]
    room = WIDTH - 2 * EDGE
    fits = pen.width(_title(names, NAME_LENGTH), TITLE, "bold") <= room
    size = TITLE if fits else LEAST_TITLE
    title = pen.fitted(partial(_title, names), size, room, "bold")
    pen.write(title, EDGE, EDGE, size, weight="bold")
    top = EDGE + TITLE * LINE
    bottom = HEIGHT - EDGE - SMALL
    facts = f"{scope(comparison)}; {100 * comparison['confidence']:g} % intervals"
    pen.write(facts, EDGE, bottom, SMALL, colour="muted")
    pen.write("softpool_det", WIDTH - EDGE, bottom, SMALL, colour="muted", align="right")
    rows = _rows(comparison)
    lines, size = pen.paragraphs(_sentences(comparison, rows), room, len(rows))
    height = len(lines) * size * LINE
    _draw_rows(pen, rows, top + 16, HEIGHT - EDGE - FOOTER - height)
    for number, line in enumerate(lines):
        place = HEIGHT - EDGE - FOOTER - height + number * size * LINE
        pen.write(line, EDGE, place, size)
    return figure


def _colours() -> dict[str, str]:
    """Those of the page in the light, by their names there."""
    text = (files("softpool_det.report") / "templates" / "page.css").read_text()
    return dict(re.findall(r"--([\w-]+): (#\w+);", text.partition("}")[0]))


def _title(names: Sequence[str], length: int) -> str:
    short = [shorten(name, length, middle=True) for name in names]
    # Not even short names of many fit.
    if len(names) > 2 and length < 16:
        short = [short[0], f"{len(names) - 1} candidates"]
    return heading(short)


def _rows(comparison: Mapping[str, Any]) -> list[_Row]:
    """List each candidate's rows, boxes before masks."""
    names, tasks = comparison["names"], comparison["tasks"]
    rows = []
    for arm, name in enumerate(names[1 : 1 + CANDIDATES], 1):
        for task, results in tasks.items():
            parts = [name] if len(names) > 2 else []
            parts += [TASKS[task]] if len(tasks) > 1 or not parts else []
            difference = next(d for d in results["differences"] if d["candidate"] == name)
            entry = difference["metrics"]["AP"]
            ends = {end: entry.get(f"simultaneous_{end}", entry[end]) for end in ("low", "high")}
            rows.append(_Row(": ".join(reversed(parts)), arm, difference, {**entry, **ends}))
    return rows


def _sentences(comparison: Mapping[str, Any], rows: Sequence[_Row]) -> list[str]:
    """Return remarks, then the verdicts where there is room, or what their words rest on."""
    texts = [shorten(" ".join(comparison.get("remarks") or ()), REMARKS_LENGTH)]
    if len(rows) > 2:
        notes = []
        candidates = len(comparison["names"]) - 1
        if any(map(has_simultaneous, comparison["tasks"].values())):
            notes.append(f"The intervals allow for there being {candidates} candidates.")
        if candidates > CANDIDATES:
            hidden = plural(candidates - CANDIDATES, "candidate", "candidates")
            notes.append(f"Not shown here: {hidden}.")
        return [*texts, " ".join([*notes, seed_note(comparison)])]
    for row in rows:
        text = true_minus(row.difference["verdict"])
        # Longest first: a name may hold another.
        for name in sorted(comparison["names"], key=len, reverse=True):
            text = text.replace(name, shorten(name, NAME_LENGTH // 2, middle=True))
        texts.append(text)
    return texts


def _draw_rows(pen: _Pen, rows: Sequence[_Row], top: float, bottom: float) -> None:
    step = min(MOST_ROW, (bottom - top - AXIS_HEIGHT) / len(rows))
    top += (bottom - top - AXIS_HEIGHT - step * len(rows)) / 2
    axes = pen.axes(EDGE + LEFT, WIDTH - EDGE - RIGHT, top, top + step * len(rows))
    axes.set(xlim=shared_limits([(row.label, row.entry) for row in rows]), yticks=[])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_text))
    axes.tick_params(labelsize=SMALL - 2, colors=pen.colours["muted"], length=5)
    axes.spines["bottom"].set_color(pen.colours["muted"])
    axes.set_xlabel("difference in AP, points", size=SMALL, color=pen.colours["muted"])
    axes.axvline(0, color=pen.colours["ink"], linewidth=2)
    size = TEXT if step > 2 * TEXT else SMALL
    for number, row in enumerate(rows):
        entry = row.entry
        colour, middle = pen.colours[f"arm-{row.arm % 6}"], top + step * (number + 0.5)
        _draw_interval(axes, number, entry, min(0.5, 24 / step), colour)
        _draw_value(axes, number, entry, row.arm, colour)
        place, room = middle - size / 2, LEFT - 24
        label = pen.fitted(partial(shorten, row.label, middle=True), size, room)
        pen.write(label, EDGE, place, size)
        text = signed(entry["value"])
        if has_interval(entry):
            text += f" ({interval(entry, 2, True)})"
        # Below the figures, where there is room.
        word, below = row.difference.get("decision", ""), 0.6 * size if step > 60 else 0
        left = WIDTH - EDGE - RIGHT + 24
        pen.write(text, left, place - below, SMALL if not below else TEXT, weight="bold")
        right = {"x": WIDTH - EDGE, "align": "right"} if not below else {"x": left}
        pen.write(word, y=place + 1.6 * below, size=SMALL, **right)


def _draw_interval(
    axes: Axes, y: int, entry: Mapping[str, Any], height: float, colour: str
) -> None:
    if has_interval(entry):
        width = entry["high"] - entry["low"]
        axes.barh(y, width, height, entry["low"], color=colour, alpha=0.35)


def _draw_value(axes: Axes, y: int, entry: Mapping[str, Any], arm: int, colour: str) -> None:
    """Draw a marker, filled where the interval excludes 0, as in the page."""
    if is_number(entry["value"]):
        look = {"markersize": 13, "markeredgewidth": 3, "fillstyle": "none"}
        if excludes_zero(entry):
            look["fillstyle"] = "full"
        axes.plot(entry["value"], y, marker=arm_marker(arm), color=colour, **look)


class _Pen:
    """Writes on the figure, measured from its top left corner in pixels."""

    def __init__(self, figure: Figure, colours: Mapping[str, str]) -> None:
        self._figure, self.colours = figure, colours

    def axes(self, left: float, right: float, top: float, bottom: float) -> Axes:
        """Axes between these sides."""
        box = (left / WIDTH, 1 - bottom / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT)
        return self._figure.add_axes(box, facecolor="none")

    def write(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        *,
        weight: str = "normal",
        colour: str = "ink",
        align: str = "left",
    ) -> None:
        """Write a line whose upper edge is at `y`."""
        look = {"size": size, "weight": weight, "color": self.colours[colour]}
        place = (x / WIDTH, 1 - (y + size) / HEIGHT)
        self._figure.text(*place, text, ha=align, va="baseline", **look)

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Return the width of a line in pixels."""
        drawn = self._figure.text(0, 0, text, size=size, weight=weight)
        width = drawn.get_window_extent().width
        drawn.remove()
        return width

    def fitted(
        self, text_of: Callable[[int], str], size: float, room: float, weight: str = "normal"
    ) -> str:
        """Return the text of the longest names that fits."""
        lengths = range(NAME_LENGTH, 1, -2)
        return next(
            (t for t in map(text_of, lengths) if self.width(t, size, weight) <= room),
            text_of(lengths[-1]),
        )

    def paragraphs(self, texts: Sequence[str], room: float, rows: int) -> tuple[list[str], int]:
        """Break texts into lines that fit below `rows` rows, and return their size as well."""
        lines: list[str] = []
        for size in (TEXT, SMALL):
            lines = [line for text in texts for line in self._broken(text, size, room)]
            space = HEIGHT - 2 * EDGE - TITLE * LINE - 16 - FOOTER - AXIS_HEIGHT
            most = int((space - LEAST_ROW * rows) / (size * LINE))
            if len(lines) <= most:
                break
        else:
            lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
        return lines, size

    def _broken(self, text: str, size: float, room: float) -> list[str]:
        lines = [""]
        for word in shorten(text, 1000).split():
            longer = f"{lines[-1]} {word}".strip()
            if self.width(longer, size) <= room:
                lines[-1] = longer
            else:
                lines.append(self.fitted(partial(shorten, word), size, room))
        return list(filter(None, lines))
