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
    "Original's runs of the same seeds, with a 95 % interval (Student's t) where there are two or "
    "more."
)
_FORMS = {"accuracy": ".2f", "each": ".3g", "plain": ".4g"}


@dataclass(frozen=True)
class Cell:
    """One figure.

    Args:
        paper: the paper's; None where it has none.
        ours: by seed.
        baseline: what both are compared with: the paper's figure, and ours by seed.
        style: "accuracy" (percent), "each" (every seed's, not their mean) or "plain".
    """

    paper: float | None
    ours: dict[int, float]
    baseline: tuple[float | None, dict[int, float]] | None = None
    style: str = "plain"

    def differences(self) -> tuple[float | None, float | None, float]:
        """From the baseline: the paper's, our mean, and half of its 95 % interval (NaN of one)."""
        told, first = self.baseline or (None, {})
        paper = self.paper - told if self.paper is not None and told is not None else None
        values = [value - first[seed] for seed, value in self.ours.items() if seed in first]
        if not values:
            return paper, None, np.nan
        count = len(values)
        error = np.std(values, ddof=1) / np.sqrt(count) if count > 1 else np.nan
        return paper, float(np.mean(values)), float(student.ppf(0.975, max(count - 1, 1)) * error)

    def texts(self) -> tuple[str, str]:
        """The paper's and ours."""
        paper, ours, half = self.differences()
        values = list(self.ours.values())
        shown = values if self.style == "each" else [float(np.mean(values))] if values else []
        told, said = (
            ", ".join(f"{value:{_FORMS[self.style]}}" for value in part if value is not None)
            for part in ([self.paper], shown)
        )
        about = "" if np.isnan(half) else f" ± {half:.2f}"
        return (
            told if paper is None else f"{told} ({paper:+.2f})",
            said if ours is None else f"{said} ({ours:+.2f}{about})",
        )


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
            texts = [cell.texts() for cell in row]
            for place, of in enumerate(("paper", "ours")):
                shown = [pair[place] for pair in texts]
                lines += [[label, of, *shown]] if any(shown) else []
        table = tabulate(lines, ["", "", *self.columns], tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{table}\n\n{self.note}\n"

    def write(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        """Write NAME.md, NAME.json (with what it is `about`) and NAME.png."""
        write_atomically(folder / f"{name}.md", self.markdown())
        keys = ("paper_difference", "difference", "half_interval")
        rows = {
            label: {
                column: {"paper": cell.paper, "ours": cell.ours}
                | dict(zip(keys, cell.differences(), strict=True))
                for column, cell in zip(self.columns, row, strict=True)
            }
            for label, row in self.rows.items()
        }
        write_json(folder / f"{name}.json", {**about, "title": self.title, "rows": rows})
        with replacing(folder / f"{name}.png") as path:
            self._plot(path)

    def _plot(self, path: Path) -> None:
        """A panel for each column: differences from Original with intervals, else the figures."""
        from matplotlib.figure import Figure

        columns = list(zip(self.columns, zip(*self.rows.values(), strict=True), strict=True))
        compared = [column for column in columns if any(cell.baseline for cell in column[1])]
        columns = compared or columns
        figure = Figure((2 + 2.4 * len(columns), 1.2 + 0.3 * len(self.rows)), layout="constrained")
        axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axis, (name, cells) in zip(axes, columns, strict=True):
            for place, cell in enumerate(cells):
                told, ours, half = cell.differences()
                if not compared:
                    told, ours = cell.paper, np.mean([*cell.ours.values()]) if cell.ours else None
                # None and NaN are not drawn.
                theirs, mine, error = np.array([told, ours, half], float)
                axis.plot(theirs, place, "D", color="0.6")
                axis.errorbar(mine, place, xerr=np.nan_to_num(error), fmt="o", color="C0")
            axis.axvline(0, color="0.8", zorder=0)
            axis.set_title(name, fontsize="small")
        axes[0].set_yticks(range(len(self.rows)), list(self.rows))
        axes[0].invert_yaxis()
        figure.suptitle(f"{self.title}: the paper's (grey) and ours", fontsize="small")
        figure.savefig(path, dpi=100)
