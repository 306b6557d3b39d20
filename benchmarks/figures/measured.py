"""Pictures of what benchmarks/results/ keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figures.style import BLUE, GREEN, GREY, RED, new_figure

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
EVERY_POOLING = RESULTS / "cpu" / "every_pooling.json"
AGAINST = RESULTS / "cpu" / "against_44565d8.json"
# Squares are hollow, so that a dot inside is seen.
_MARKS = (BLUE, "o", "full"), (RED, "s", "none")
BOTH = {"forward": "forward", "forward_backward": "forward and backward"}


def costs() -> dict[str, list[dict[str, Any]]]:
    """The poolings' rows by layout, the cheapest first."""
    rows = json.loads(EVERY_POOLING.read_text())["rows"]
    layers = [row for row in rows if row["peer"].endswith("Pool")]
    layers.sort(key=lambda row: -row["forward_backward"]["to_baseline"])
    return {
        layout: [row for row in layers if row["layout"] == layout]
        for layout in ("contiguous", "channels_last")
    }


def draw_costs() -> Any:
    """Time of every pooling through max pooling's, in both layouts."""
    figure, axes = new_figure(4.6, 1, 2, sharey=True)
    found = costs()
    order = [row["peer"] for row in found["contiguous"]]
    for axis, (layout, rows) in zip(axes, found.items(), strict=True):
        for (key, label), (colour, form, fill) in zip(BOTH.items(), _MARKS, strict=True):
            at = [order.index(row["peer"]) for row in rows]
            values = [row[key]["to_baseline"] for row in rows]
            axis.plot(values, at, form, color=colour, label=label, fillstyle=fill, markersize=7)
        axis.axvline(1, color=GREY, lw=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        axis.set(title=layout, xlabel="times of max pooling's time")
    axes[0].set_yticks(range(len(order)), order)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def speeds(instructions: str) -> dict[str, tuple[float, float]]:
    """Times of SoftPool and of max pooling through a copy's, forward, float32, by case."""
    found = {}
    for row in json.loads(AGAINST.read_text())[instructions]["comparison"]:
        window = row["window"]
        plain = (row["dtype"], row["peer"], row["direction"]) == ("float32", "softpool", "forward")
        if plain and row["group"] == "detection stem" and row["kept"]:
            case = f"{window['kernel']}x{window['kernel']}\n{row['layout']}"
            found[case] = row["to_floor"], row["to_floor"] / row["to_baseline"]
    return found


def draw_speeds() -> Any:
    """SoftPool beside max pooling and a copy, with two instruction sets."""
    figure, axes = new_figure(3.3, 1, 2, sharex=True, sharey=True)
    for axis, (key, name) in zip(axes, (("avx512", "AVX-512"), ("avx2", "AVX2")), strict=True):
        found = speeds(key)
        for number, (label, mark) in enumerate(
            zip(("SoftPool", "max pooling"), _MARKS, strict=True)
        ):
            colour, form, fill = mark
            values = [both[number] for both in found.values()]
            look = {"color": colour, "fillstyle": fill, "markersize": 7}
            axis.plot(values, range(len(found)), form, label=label, **look)
            for at, value in enumerate(values):
                # Above and below, because some values are equal.
                place = (0, 7 - 18 * number)
                axis.annotate(
                    f"{value:.1f}", (value, at), place, textcoords="offset points", fontsize=8,
                    ha="center",
                )  # fmt: skip
        axis.axvline(1, color=GREEN, lw=1.5, label="copy")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(name)
        axis.set_ylim(len(found) - 0.4, -0.6)
    axes[0].set_yticks(range(len(found)), list(found))
    figure.suptitle("Forward time relative to a copy's: less is better", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
