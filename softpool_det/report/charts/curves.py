"""Curves: precision over recall, and losses over the iterations of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.ticker import FuncFormatter, MaxNLocator

from softpool_det.report.charts.svg import (
    STYLE,
    add_axes,
    add_legend,
    arm_colour,
    arm_dashes,
    legend_height,
    new_figure,
    to_svg,
)

# More points than this are not to be seen on so small a chart.
POINTS = 120


@style.context(["default", STYLE])
def precision_recall_chart(
    curves: Mapping[str, Mapping[str, Any]], names: Sequence[str], threshold: str, title: str
) -> Markup:
    """Draw precision over recall, both from 0 to 1, a line for each arm.

    Args:
        curves: by arm, as in comparison.json.
        names: the arms in order.
        threshold: a key of a curve's "precision".
        title: what the chart shows, in words.
    """
    top = legend_height(names)
    figure = new_figure(top + 270)
    axes = add_axes(figure, 46, 8, top, 46)
    for arm, name in enumerate(names):
        precision = _floats(curves[name]["precision"][threshold])
        style = {"color": arm_colour(arm), "linestyle": arm_dashes(arm)}
        axes.plot(_floats(curves[name]["recall"]), precision, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall (share of objects found)")
    axes.set_ylabel("precision (share of detections right)")
    add_legend(figure, names)
    return to_svg(figure, title)


@style.context(["default", STYLE])
def training_chart(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str], loss: str, title: str
) -> Markup:
    """Draw a loss over the iterations: thin lines are the seeds, a thick one is their mean.

    Args:
        runs: by arm, a dict with seed, iterations and losses for each run; arms may be missing.
        names: the arms in order.
        loss: a key of a run's "losses"; runs without it are left out.
        title: what the chart shows, in words.
    """
    shown = [name for name in names if any(loss in run["losses"] for run in runs.get(name, ()))]
    top = legend_height(names)
    figure = new_figure(top + 230)
    axes = add_axes(figure, 46, 10, top, 46)
    for name in shown:
        arm = names.index(name)
        style = {"color": arm_colour(arm), "linestyle": arm_dashes(arm)}
        lines = [_thinned(run, loss) for run in runs[name] if loss in run["losses"]]
        if len(lines) > 1:
            for x, y in lines:
                axes.plot(x, y, color=arm_colour(arm), linewidth=0.7, alpha=0.5)
            lines = _mean_line(lines)
        for x, y in lines:
            axes.plot(x, y, **style)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss (no unit)")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    add_legend(figure, names)
    return to_svg(figure, title)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)


def _thinned(run: Mapping[str, Any], loss: str) -> tuple[np.ndarray, np.ndarray]:
    """At most `POINTS` points, each the mean of neighbours."""
    x, y = _floats(run["iterations"]), _floats(run["losses"][loss])
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return tuple(np.array([values[part].mean() for part in parts]) for values in (x, y))  # type: ignore[return-value]


def _mean_line(lines: Sequence[tuple[np.ndarray, np.ndarray]]):
    """Return the mean of runs logged at the same iterations, or None."""
    first = lines[0][0]
    if not all(np.array_equal(first, x) for x, _ in lines):
        return []
    return [(first, np.mean([y for _, y in lines], axis=0))]
