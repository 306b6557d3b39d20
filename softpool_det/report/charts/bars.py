"""What goes wrong, and whether scores mean what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from scipy.stats import binomtest

from softpool_det.report.charts.svg import (
    INK,
    MUTED,
    SMALL_TEXT,
    STYLE,
    WIDTH,
    add_axes,
    add_legend,
    arm_colour,
    arm_marker,
    legend_height,
    new_figure,
    to_svg,
)
from softpool_det.report.formatting import is_number, plain, signed

BAR = 15
GAP = 14
# CSS pixels: of the types of error, of a bar's number, and of all that the bars have.
TYPE_WIDTH, NUMBER_WIDTH, EDGE = 84, 56, 6
BARS_WIDTH = WIDTH - TYPE_WIDTH - EDGE

Values = Mapping[str, Mapping[str, float | None]]


@style.context(["default", STYLE])
def error_chart(values: Values, names: Sequence[str], types: Mapping[str, str], title: str):
    """Draw AP50 points lost to each type of error, as bars from 0, one for each arm.

    Args:
        values: by arm, AP50 points by type of error.
        names: the arms in order.
        types: labels by type of error, in order.
        title: what the chart shows, in words.
    """
    return _grouped_bars(values, names, types, title, first=0, difference=False)


@style.context(["default", STYLE])
def error_difference_chart(
    values: Values, names: Sequence[str], types: Mapping[str, str], title: str
):
    """As :func:`error_chart`, for candidate minus baseline; `names` are the candidates."""
    return _grouped_bars(values, names, types, title, first=1, difference=True)


def _grouped_bars(
    values: Values,
    names: Sequence[str],
    types: Mapping[str, str],
    title: str,
    first: int,
    difference: bool,
) -> Markup:
    group = BAR * len(names) + GAP
    top, bottom = legend_height(names), 46
    figure = new_figure(top + group * len(types) + bottom)
    axes = add_axes(figure, TYPE_WIDTH, EDGE, top, bottom)
    axes.set_ylim(group * len(types), 0)
    middles = [group * (number + 0.5) for number in range(len(types))]
    axes.set_yticks(middles, list(types.values()))
    # Clear of a marker at the axes' edge.
    axes.tick_params(axis="y", labelcolor=INK, pad=8)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(_bar_limits(values, names, difference))
    axes.set_xlabel(f"{'difference in ' if difference else ''}AP50 points lost")
    for number, kind in enumerate(types):
        for arm, name in enumerate(names):
            y = group * number + GAP / 2 + BAR * (arm + 0.5)
            _draw_bar(axes, y, values[name].get(kind), first + arm, difference)
    axes.axvline(0, color=INK, linewidth=1)
    axes.spines["left"].set_visible(False)
    add_legend(figure, names, first, lines=False)
    return to_svg(figure, title)


def _bar_limits(values: Values, names: Sequence[str], difference: bool) -> tuple[float, float]:
    numbers = [0.0, *filter(is_number, (v for name in names for v in values[name].values()))]
    low, high = min(numbers), max(numbers)
    if low == high:
        return (-1.0, 1.0) if difference else (0.0, 1.0)
    # Numbers stand beyond the ends of the bars.
    sides = 1 + (low < 0)
    room = (high - low) * NUMBER_WIDTH / (BARS_WIDTH - sides * NUMBER_WIDTH)
    return low - room * (low < 0), high + room


def _draw_bar(axes: Axes, y: float, value: float | None, arm: int, difference: bool) -> None:
    if not is_number(value):
        axes.text(0, y, "  n/a", va="center", size=SMALL_TEXT, color=MUTED)
        return
    colour = arm_colour(arm)
    axes.barh(y, value, height=BAR * 0.42, color=colour)
    axes.plot(value, y, marker=arm_marker(arm), markersize=6, color=colour, clip_on=False)
    side = -1 if value < 0 else 1
    axes.annotate(
        signed(value) if difference else plain(value, 2),
        (value, y),
        xytext=(7 * side, 0),
        textcoords="offset points",
        va="center",
        ha="left" if side > 0 else "right",
        size=SMALL_TEXT,
    )


@style.context(["default", STYLE])
def reliability_chart(bins: Sequence[Mapping[str, Any]], arm: int, level: float, title: str):
    """Draw the precision of detections over their mean score, both from 0 to 1.

    Vertical lines are Wilson intervals of each bin, as if detections were independent; bins
    without detections are left out.

    Args:
        bins: with count, mean score and precision each.
        arm: number of the arm, for its colour and marker.
        level: confidence of the intervals, from 0 to 1.
        title: what the chart shows, in words.
    """
    figure = new_figure(276)
    axes = add_axes(figure, 46, 10, 8, 46)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    filled = [entry for entry in bins if entry["count"] and is_number(entry["precision"])]
    scores = np.array([entry["score"] for entry in filled], dtype=float)
    colour = arm_colour(arm)
    axes.plot(scores, [entry["precision"] for entry in filled], color=colour, linewidth=1.2)
    for score, entry in zip(scores, filled, strict=True):
        right = round(entry["precision"] * entry["count"])
        low, high = binomtest(right, entry["count"]).proportion_ci(level, method="wilson")
        axes.vlines(score, low, high, color=colour, linewidth=1.6)
        axes.plot(score, entry["precision"], marker=arm_marker(arm), markersize=5, color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score of the bin", ylabel="precision")
    note = "dashed: perfectly calibrated"
    axes.text(0.03, 0.97, note, size=SMALL_TEXT, color=MUTED, va="top")
    return to_svg(figure, title)
