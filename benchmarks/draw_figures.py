"""Draw the pictures of docs/assets/, from what benchmarks/results/ keeps and from the operator.

    make figures
    python benchmarks/draw_figures.py --output docs/assets --only operator gradients

report.png is the report of `make demo` in Chromium. Without such a report or Chromium, the
committed picture is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from figures.findings import draw_doses, draw_sparsity, draw_temperatures
from figures.measured import draw_costs, draw_speeds
from figures.pages import draw_report, draw_rooms, draw_similarity
from figures.style import STYLE, png_of, save
from figures.window import draw_gradients, draw_operator

# A figure of Matplotlib, a PNG's bytes, or None for what cannot be drawn here.
FIGURES: dict[str, Callable[[], Any]] = {
    "operator": draw_operator,
    "gradients": draw_gradients,
    "temperature": draw_temperatures,
    "doses": draw_doses,
    "sparsity": draw_sparsity,
    "cost": draw_costs,
    "speed": draw_speeds,
    "rooms": draw_rooms,
    "similarity": draw_similarity,
    "report": draw_report,
}


def content_of(name: str) -> bytes | None:
    """The picture as a PNG."""
    with matplotlib.rc_context(STYLE):
        drawn = FIGURES[name]()
        return drawn if drawn is None or isinstance(drawn, bytes) else png_of(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("docs/assets"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        path, content = args.output / f"{name}.png", content_of(name)
        if content is None:
            print(f"{path}: kept, because drawing it needs Chromium and `make demo`'s report")
        else:
            save(path, content)
            print(f"{path}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
