"""A table of the paper beside ours, as Markdown, JSON and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student
from tabulate import tabulate

from softpool_det.io.atomic import replacing, write_atomically, write_json

NOTE = (
    "paper: as printed, on ImageNet-1k. ours: mean over seeds; in parentheses the difference from "
    "the first arm's runs of the same seeds, with a 95 % interval (Student's t) where there are two "
    "or more."
)
_FORMS = {"accuracy": ".2f", "each": ".3g", "plain": ".4g"}


@dataclass(frozen=True)
class Cell:
    """One figure.

    Args:
        paper: the paper's; None where it has none.
        ours: by seed.
        baseline: what both are compared with: the paper's figure, and ours by seed.
        style: "accuracy" (percent, a mean), "each" (every seed's) or "plain".
    """

    paper: float | None
    ours: dict[int, float]
    baseline: tuple[float | None, dict[int, float]] | None = None
    style: str = "plain"

    @property
    def differences(self) -> list[float]:
        """Ours, seed by seed."""
        first = self.baseline[1] if self.baseline else {}
        return [value - first[seed] for seed, value in self.ours.items() if seed in first]

    @property
    def paper_difference(self) -> float | None:
        if self.paper is None or self.baseline is None or self.baseline[0] is None:
            return None
        return self.paper - self.baseline[0]

    def texts(self) -> tuple[str, str]:
        """The paper's and ours."""
        form = _FORMS[self.style]
        told = "" if self.paper is None else f"{self.paper:{form}}"
        if self.style == "each":
            return told, ", ".join(f"{value:{form}}" for value in self.ours.values())
        if self.paper_difference is not None:
            told += f" ({self.paper_difference:+.2f})"
        ours = f"{np.mean(list(self.ours.values())):{form}}" if self.ours else ""
        if self.differences:
            interval = half_interval(self.differences)
            about = "" if interval is None else f" ± {interval:.2f}"
            ours += f" ({np.mean(self.differences):+.2f}{about})"
        return told, ours

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"paper": self.paper, "ours": self.ours}
        if self.baseline is not None:
            values |= {
                "paper_difference": self.paper_difference,
                "differences": self.differences,
                "half_interval": half_interval(self.differences),
            }
        return values


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of a mean by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(student.ppf(0.975, len(values) - 1) * error)


@dataclass(frozen=True)
class Table:
    """Rows by label, with a cell for each column."""

    title: str
    columns: Sequence[str]
    rows: dict[str, list[Cell]]
    note: str = NOTE

    def markdown(self) -> str:
        """The paper's line and ours for each row; lines that are empty are left out."""
        lines = []
        for label, row in self.rows.items():
            for of, texts in zip(("paper", "ours"), zip(*map(Cell.texts, row)), strict=True):
                lines += [[label, of, *texts]] if any(texts) else []
        table = tabulate(lines, ["", "", *self.columns], tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{table}\n\n{self.note}\n"

    def to_json(self) -> dict[str, Any]:
        rows = {
            label: {name: cell.to_json() for name, cell in zip(self.columns, row, strict=True)}
            for label, row in self.rows.items()
        }
        return {"title": self.title, "rows": rows}

    def write(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        """Write NAME.md, NAME.json (with what it is `about`) and NAME.png."""
        write_atomically(folder / f"{name}.md", self.markdown())
        write_json(folder / f"{name}.json", {**about, **self.to_json()})
        with replacing(folder / f"{name}.png") as path:
            self._plot(path)

    def _plot(self, path: Path) -> None:
        """Differences from the first arm, ours with intervals; else the figures themselves."""
        from matplotlib.figure import Figure

        compared = any(cell.baseline for row in self.rows.values() for cell in row)
        columns = [
            (place, name)
            for place, name in enumerate(self.columns)
            if any(row[place].baseline or not compared for row in self.rows.values())
        ]
        height = 1.2 + 0.3 * len(self.rows)
        figure = Figure(figsize=(2 + 2.4 * len(columns), height), layout="constrained")
        axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axis, (place, name) in zip(axes, columns, strict=True):
            cells = [row[place] for row in self.rows.values()]
            for y, cell in enumerate(cells):
                told = cell.paper_difference if compared else cell.paper
                ours = cell.differences if compared else list(cell.ours.values())
                if told is not None:
                    axis.plot(told, y, "D", color="0.6", label="paper")
                if ours:
                    error = half_interval(ours) or 0
                    axis.errorbar(np.mean(ours), y, xerr=error, fmt="o", color="C0", label="ours")
            axis.set_title(name, fontsize="small")
            axis.axvline(0, color="0.8", zorder=0)
        axes[0].set_yticks(range(len(self.rows)), list(self.rows))
        axes[0].invert_yaxis()
        shown = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels())}
        figure.legend(shown.values(), shown.keys(), loc="outside lower right", ncols=2)
        figure.savefig(path, dpi=100)
