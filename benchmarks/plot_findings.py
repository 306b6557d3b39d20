"""The figures of docs/findings.md, from what benchmarks/results/findings/ keeps of a study.

python benchmarks/plot_findings.py benchmarks/results/findings/plain_scenes.json \\
    --output docs/assets

Draws AP over the temperature, for each window and gradient, and AP over the largest weight.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_SOFT = re.compile(r"SoftPool (?P<window>\dx\d) beta (?P<beta>[\d.]+) (?P<gradient>\w+)")
# Where the average and the maximum stand on the axis: betas are 1 to 8.
ENDS = {"average": 0.5, "max": 16.0}


def placed(name: str) -> tuple[str, float] | None:
    """The line that an arm belongs to, and its place on the axis; None for a learned one."""
    match = _SOFT.fullmatch(name)
    if match:
        return f"{match['window']}, {match['gradient']}", float(match["beta"])
    kind, _, window = name.partition(" ")
    return (f"{window}, paper", ENDS[kind]) if kind in ENDS else None


def draw_temperatures(path: Path, data: dict[str, Any]) -> None:
    """AP over beta: every seed as a dot, the mean with its interval."""
    lines: dict[str, list[tuple[float, dict]]] = {}
    for name, figures in data["tasks"]["bbox"]["metrics"].items():
        place = placed(name)
        if place is not None:
            lines.setdefault(place[0], []).append((place[1], figures["AP"]))
            if name.startswith(("max", "average")):  # the same for both gradients
                lines.setdefault(place[0].replace("paper", "exact"), []).append(
                    (place[1], figures["AP"])
                )
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for number, (label, points) in enumerate(sorted(lines.items())):
        points.sort(key=lambda point: point[0])
        # Beside each other, so that intervals do not overlap.
        at = [beta * 1.04**number for beta, _ in points]
        values = [ap["value"] for _, ap in points]
        ends = [[ap["value"] - ap["low"] for _, ap in points]]
        ends.append([ap["high"] - ap["value"] for _, ap in points])
        container = axis.errorbar(at, values, ends, fmt="o-", capsize=3, label=label, markersize=4)
        colour = container[0].get_color()
        for x, (_, ap) in zip(at, points, strict=True):
            axis.plot([x] * len(ap["by_seed"]), ap["by_seed"], ".", color=colour, alpha=0.3)
    axis.set_xscale("log", base=2)
    axis.set_xticks([ENDS["average"], 1, 2, 4, 8, ENDS["max"]])
    axis.set_xticklabels(["average", "1", "2", "4", "8", "max"])
    axis.set(xlabel="temperature beta of the stem's SoftPool", ylabel="box AP")
    axis.grid(alpha=0.3)
    axis.legend(title="window, gradient")
    _save(figure, path)


def draw_sharpness(path: Path, data: dict[str, Any]) -> None:
    """AP over the largest weight of a window, a point for each arm."""
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, found in data["softness"].items():
        ap = data["tasks"]["bbox"]["metrics"][name]["AP"]
        ends = [[ap["value"] - ap["low"]], [ap["high"] - ap["value"]]]
        marker = "s" if "3x3" in name else "o"
        axis.errorbar(found["largest_weight"], ap["value"], ends, fmt=marker, capsize=3)
        axis.annotate(name, (found["largest_weight"], ap["value"]), fontsize=6, rotation=20)
    axis.set(xlabel="mean largest weight of a window (1: maximum)", ylabel="box AP")
    axis.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date inside: the same figures give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    data = json.loads(args.excerpt.read_text())
    lacking = [name for name in data["names"] if placed(name) is None and "learned" not in name]
    if lacking:
        raise SystemExit(f"error: {args.excerpt}: arms whose names hold no temperature: {lacking}")
    draw_temperatures(args.output / f"{args.excerpt.stem}_temperature.png", data)
    draw_sharpness(args.output / f"{args.excerpt.stem}_sharpness.png", data)


if __name__ == "__main__":
    main()
