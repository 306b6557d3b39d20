"""The sweep as a picture."""

from __future__ import annotations

import math
from pathlib import Path

from pooling.names import AVG, BOTH, FLOOR, FORWARD, MAX, SOFT


def plot(path: Path, rows: list[dict], title: str) -> None:
    """Draw time against size, both logarithmic: forward, and forward with backward.

    Args:
        path: the picture; its ending says the format.
        rows: as in the report; those of the sweep are drawn.
        title: what it was measured on.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for axis, direction, name in zip(
        axes, (FORWARD, BOTH), ("forward", "forward + backward"), strict=True
    ):
        for peer, style in ((SOFT, "o-"), (MAX, "s-"), (AVG, "^-"), (FLOOR, "k:")):
            points = sorted(
                (math.prod(row["shape"]), row[direction]["median_ms"])
                for row in rows
                if row["group"] == "sweep" and row["peer"] == peer
            )
            axis.loglog(*zip(*points, strict=True), style, label=peer, base=10)
        axis.set(title=name, xlabel="elements of the input")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds")
    axes[0].legend()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
