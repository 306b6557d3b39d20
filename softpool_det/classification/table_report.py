"""A table of the paper beside ours, as Markdown, JSON and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import sem
from scipy.stats import t as student
from tabulate import tabulate

from softpool_det.io.atomic import replacing, write_atomically, write_json


@dataclass(frozen=True)
class Cell:
    """A figure of the paper's, None where it has none, and ours by seed."""

    paper: float | None
    ours: dict[int, float]
    baseline: tuple[float | None, dict[int, float]] | None = None  # what they are compared with
    form: str = ".4g"  # as for `format`
    by_seed: bool = False  # show each seed's, not their mean

    def differences(self) -> dict[str, Any]:
        """Subtract the baseline: the paper's, our mean, half of its 95 % interval (NaN of one)."""
        printed, base = self.baseline or (None, {})
        paper = self.paper - printed if self.paper is not None and printed is not None else None
        values = [value - base[seed] for seed, value in self.ours.items() if seed in base]
        mean, count = float(np.mean(values)) if values else None, len(values)
        error = sem(values) if count > 1 else 0.0
        # Equal differences give no interval either: they come in steps of an image.
        half = float(student.ppf(0.975, count - 1) * error) if error > 1e-9 else np.nan
        return {"paper_difference": paper, "difference": mean, "half_interval": half}

    def texts(self) -> tuple[str, str]:
        """Write the paper's and ours."""
        paper, ours, half = self.differences().values()
        form, values = self.form, [*self.ours.values()]
        if values and not self.by_seed:
            values = [float(np.mean(values))]
        about = "" if np.isnan(half) else f" ± {half:.2f}"
        printed = "" if self.paper is None else f"{self.paper:{form}}"
        printed += "" if paper is None else f" ({paper:+.2f})"
        measured = ", ".join(f"{value:{form}}" for value in values)
        return printed, measured + ("" if ours is None else f" ({ours:+.2f}{about})")


@dataclass(frozen=True)
class Table:
    """Rows by label, each with a cell for every column."""

    title: str
    note: str
    rows: dict[str, dict[str, Cell]]

    def markdown(self) -> str:
        """Return the paper's line and ours for each row; lines that are empty are left out."""
        lines = []
        for label, row in self.rows.items():
            texts = zip(*(cell.texts() for cell in row.values()), strict=True)
            for source, shown in zip(("paper", "ours"), texts, strict=True):
                lines += [[label, source, *shown]] if any(shown) else []
        names = ["", "", *next(iter(self.rows.values()), ())]
        table = tabulate(lines, names, tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{table}\n\n{self.note}\n"

    def write(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        """Write NAME.md, NAME.json (with what it is `about`) and NAME.png."""
        write_atomically(folder / f"{name}.md", self.markdown())
        rows = {
            label: {
                n: {"paper": c.paper, "ours": c.ours, **c.differences()} for n, c in row.items()
            }
            for label, row in self.rows.items()
        }
        write_json(folder / f"{name}.json", {**about, "title": self.title, "rows": rows})
        with replacing(folder / f"{name}.png") as path:
            self._plot(path)

    def _plot(self, path: Path) -> None:
        """A panel for each column: differences from Original with intervals, else the figures."""
        from matplotlib.figure import Figure

        rows = list(self.rows.values())
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        compared = {n: cells for n, cells in columns.items() if any(c.baseline for c in cells)}
        columns = compared or columns
        figure = Figure((2 + 2.4 * len(columns), 1.2 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axis, (name, cells) in zip(axes, columns.items(), strict=True):
            shown = [[*cell.differences().values()] for cell in cells]
            if not compared:
                shown = [[c.paper, np.mean([*c.ours.values()] or np.nan), np.nan] for c in cells]
            # None and NaN are not drawn.
            theirs, ours, half = np.array(shown, float).T
            axis.plot(theirs, range(len(rows)), "D", color="0.6")
            axis.errorbar(ours, range(len(rows)), xerr=np.nan_to_num(half), fmt="o", color="C0")
            axis.axvline(0, color="0.8", zorder=0)
            axis.set_title(name, fontsize="small")
        axes[0].set_yticks(range(len(rows)), list(self.rows))
        axes[0].invert_yaxis()
        figure.suptitle(f"{self.title}: the paper's (grey) and ours", fontsize="small")
        figure.savefig(path, dpi=100)
