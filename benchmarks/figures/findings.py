"""Pictures of the study in docs/findings.md, from what benchmarks/results/findings/ keeps of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from figures.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "configs" / "studies" / "plain_scenes.yaml"
RECORDS = ROOT / "benchmarks" / "results" / "findings" / "plain_scenes.jsonl"
# What `benchmarks/study_records.py compare --output` writes.
EXCERPT = RECORDS.with_suffix(".json")
# All studies whose stems' sparsity is shown, by data, with a form for each.
DATA = {
    "plain": (EXCERPT, "o"),
    "photographs": (EXCERPT.with_name("hard_scenes.json"), "s"),
    "photographs, Mask R-CNN": (EXCERPT.with_name("mask_rcnn.json"), "^"),
}
STOCK = "max 3x3"
_SOFT = re.compile(r"SoftPool (?P<window>\dx\d) beta (?P<beta>[\d.]+) (?P<gradient>\w+)")
# Where the average and the maximum stand on the axis: betas are 1 to 8.
ENDS = {"average": 0.5, "max": 16.0}
TICKS = {ENDS["average"]: "average\n(beta 0)"} | {beta: f"{beta}" for beta in (1, 2, 4, 8)}
# Squares are hollow, so that a dot inside is seen.
_LINES = {
    "2x2, paper": (BLUE, "o", "full"),
    "2x2, exact": (GREEN, "s", "none"),
    "3x3, paper": (RED, "o", "full"),
    "3x3, exact": (ORANGE, "s", "none"),
}


def placed(name: str) -> tuple[str, float] | None:
    """The line that an arm belongs to, and its place on the axis; None for a learned beta."""
    match = _SOFT.fullmatch(name)
    if match:
        return f"{match['window']}, {match['gradient']}", float(match["beta"])
    kind, _, window = name.partition(" ")
    return (f"{window}, paper", ENDS[kind]) if kind in ENDS else None


def temperatures(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Places on the axis and AP of the runs of 2x2 windows with the paper's gradient, by line."""
    lines: dict[str, list[tuple[float, float]]] = {"2x2": [], "stock": []}
    for found in records:
        line, at = placed(found["arm"]) or ("", 0.0)
        if found["arm"] == STOCK:
            lines["stock"].append((2 * ENDS["max"], found["metrics"]["AP"]))
        elif line == "2x2, paper":
            lines["2x2"].append((at, found["metrics"]["AP"]))
    return lines


def draw_temperatures() -> Any:
    """AP over beta, a dot for each run of the study."""
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    study = yaml.safe_load(STUDY.read_text())
    planned = len(study["arms"]) * len(study["seeds"])
    lines = temperatures(records)
    figure, axis = new_figure(3.2)
    for name, colour in (("2x2", BLUE), ("stock", RED)):
        axis.plot(*zip(*lines[name], strict=True), "o", color=colour, alpha=0.7, markersize=7)
    _beta_axis(
        axis, TICKS | {ENDS["max"]: "max 2x2\n(beta inf)", 2 * ENDS["max"]: "stock\nmax 3x3"}
    )
    axis.set(xlabel="beta of SoftPool 2x2, paper's gradient", ylabel="box AP, plain scenes")
    dots = len(lines["2x2"]) + len(lines["stock"])
    state = f" Preliminary: {len(records)} of the study's {planned} are done, {dots} shown."
    axis.set_title(f"Each dot is a run.{state if len(records) < planned else ''}")
    return figure


def _beta_axis(axis: Any, ticks: dict[float, str]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    axis.grid(axis="y", alpha=0.3)


def doses(excerpt: dict[str, Any]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Places on the axis and AP of every arm but the learned beta, in order, by line."""
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {line: [] for line in _LINES}
    for name, figures in excerpt["tasks"]["bbox"]["metrics"].items():
        line, at = placed(name) or ("", 0.0)
        if line:
            lines[line].append((at, figures["AP"]))
    return {line: sorted(arms, key=lambda arm: arm[0]) for line, arms in lines.items()}


def draw_doses() -> Any:
    """Mean AP over beta with its 95 % interval, a line for each window and gradient."""
    figure, axis = new_figure(3.6)
    for shift, (line, arms) in enumerate(doses(json.loads(EXCERPT.read_text())).items()):
        colour, form, fill = _LINES[line]
        at = [beta * 1.06**shift for beta, _ in arms]  # intervals lie beside each other
        axis.errorbar(
            at, *_ends([ap for _, ap in arms]), fmt=f"{form}-", color=colour, fillstyle=fill,
            capsize=3, label=line,
        )  # fmt: skip
    _beta_axis(axis, TICKS | {ENDS["max"]: "max"})
    axis.set(xlabel="beta of the stem's SoftPool", ylabel="box AP, plain scenes")
    figure.legend(loc="outside lower center", ncols=4, title="window, gradient")
    return figure


def _ends(figures: list[dict[str, Any]]) -> tuple[list[float], list[list[float]]]:
    """Values, and how far their intervals reach down and up."""
    values = [ap["value"] for ap in figures]
    down = [ap["value"] - ap["low"] for ap in figures]
    return values, [down, [ap["high"] - ap["value"] for ap in figures]]


def sparsity(excerpt: dict[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The stem's softness, and AP minus stock's, of every arm but stock."""
    (results,) = excerpt["tasks"].values()
    differences = {entry["candidate"]: entry["metrics"]["AP"] for entry in results["differences"]}
    return {name: (excerpt["softness"][name], found) for name, found in differences.items()}


def draw_sparsity() -> Any:
    """AP minus stock's over the share of zeros and over the largest weight, by arm and data."""
    figure, axes = new_figure(4.2, 1, 2, sharey=True)
    labels = {
        "zeros": "share of zeros in a window",
        "largest_weight": "mean largest weight (maximum: 1)",
    }
    for axis, (key, label) in zip(axes, labels.items(), strict=True):
        for data, (path, form) in DATA.items():
            excerpt = json.loads(path.read_text()) if path.is_file() else None
            for name, (softness, ap) in sparsity(excerpt).items() if excerpt else ():
                line, _ = placed(name) or ("learned beta", 0.0)
                colour, _, fill = _LINES.get(line, (GREY, "", "full"))
                axis.errorbar(
                    softness[key], *_ends([ap]), fmt=form, color=colour, fillstyle=fill, capsize=2,
                    label=f"{data}: {line}",
                )  # fmt: skip
        axis.axhline(0, color="0.7", zorder=0)
        axis.grid(alpha=0.3)
        axis.set(xlabel=label)
        axis.locator_params("x", nbins=4)
    axes[0].set_ylabel("box AP minus stock's")
    shown = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        shown.values(), shown, loc="outside lower center", ncols=2, title="data: window, gradient"
    )
    return figure
