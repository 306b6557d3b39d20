"""Forest plots: differences with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from softpool_det.report.charts.svg import (
    GRID,
    INK,
    MUTED,
    SMALL_TEXT,
    STYLE,
    SURFACE,
    TEXT,
    add_axes,
    arm_colour,
    arm_marker,
    new_figure,
    to_svg,
)
from softpool_det.report.formatting import excludes_zero, has_interval, is_number, shorten, signed

ROW = 36
LABEL_LENGTH = 24

Row = tuple[str, Mapping[str, Any]]


def shared_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return an x range, in AP points, that holds 0 and the numbers of all `rows`."""
    entries = [entry for _, entry in rows]
    numbers = [entry[key] for entry in entries for key in ("value", "low", "high")]
    numbers += [value for entry in entries for value in entry.get("by_seed") or ()]
    found = [0.0, *filter(is_number, numbers)]
    low, high = min(found), max(found)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


@style.context(["default", STYLE])
def forest_chart(
    rows: Sequence[Row], limits: tuple[float, float], arm: int, axis_label: str, title: str
) -> Markup:
    """Draw one row for each difference: name and numbers, below them the interval.

    A filled marker says that the interval excludes 0, an empty one that it does not; small
    strokes are the seeds.

    Args:
        rows: a label and an entry with value, low and high (and by_seed) in AP points each.
        limits: of the x axis.
        arm: number of the candidate, for its colour and marker.
        axis_label: what the x axis shows, with its unit.
        title: what the chart shows, in words.
    """
    top, bottom = 6, 46
    figure = new_figure(top + ROW * len(rows) + bottom)
    axes = add_axes(figure, 4, 4, top, bottom)
    axes.set(xlim=limits, ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_text))
    axes.set_xlabel(axis_label, labelpad=4)
    for position, (label, entry) in enumerate(rows):
        _draw_text(axes, position, label, entry)
    _draw_intervals(axes, [entry for _, entry in rows], arm)
    return to_svg(figure, title)


def tick_text(value: float, _: int) -> str:
    """Write a difference on an axis, without zeros at the end."""
    return signed(value, 2).rstrip("0").rstrip(".") if value else "0"


def _draw_text(axes: Axes, position: int, label: str, entry: Mapping[str, Any]) -> None:
    numbers = signed(entry["value"])
    if has_interval(entry):
        numbers += f" [{signed(entry['low'])}, {signed(entry['high'])}]"
    place = axes.get_yaxis_transform()
    y, weight = position - 0.14, "bold" if excludes_zero(entry) else "normal"
    axes.text(0, y, shorten(label, LABEL_LENGTH), size=TEXT, transform=place)
    axes.text(1, y, numbers, size=SMALL_TEXT, weight=weight, ha="right", transform=place)


def _draw_intervals(axes: Axes, entries: Sequence[Mapping[str, Any]], arm: int) -> None:
    y = np.arange(len(entries)) + 0.21
    colour = arm_colour(arm)
    axes.hlines(y, *axes.get_xlim(), color=GRID, linewidth=0.8, zorder=0)
    axes.vlines(np.zeros(len(y)), y - 0.19, y + 0.19, color=INK, linewidth=1, zorder=1)
    for at, entry in zip(y, entries, strict=True):
        if has_interval(entry):
            ends = (entry["low"], entry["high"])
            axes.plot(ends, (at, at), color=colour, linewidth=2.4, zorder=2)
    seeds = [
        (at, value)
        for at, entry in zip(y, entries, strict=True)
        for value in filter(is_number, entry.get("by_seed") or ())
        if len(entry["by_seed"]) > 1
    ]
    if seeds:
        heights, values = np.array(seeds).T
        axes.vlines(values, heights + 0.06, heights + 0.24, color=MUTED, linewidth=1.2, zorder=3)
    for filled, face in ((True, colour), (False, SURFACE)):
        points = [
            (entry["value"], at)
            for at, entry in zip(y, entries, strict=True)
            if is_number(entry["value"]) and excludes_zero(entry) == filled
        ]
        axes.plot(
            *np.reshape(points, (-1, 2)).T,
            linestyle="none",
            marker=arm_marker(arm),
            markersize=7,
            markeredgewidth=1.8,
            markeredgecolor=colour,
            markerfacecolor=face,
            zorder=4,
            clip_on=False,
        )
