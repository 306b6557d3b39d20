"""What training runs of one config are known to differ by, from an earlier comparison."""

from __future__ import annotations

import json
from pathlib import Path


def read_known_spread(path: str | Path) -> dict[str, float]:
    """Read the widest range of AP over one arm's seeds, in percent, by task ("bbox", "segm").

    Args:
        path: a comparison.json (or what benchmarks/excerpt.py keeps of one) with two seeds or more.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file.
    """
    path = Path(path)
    wanted = "the comparison.json of a comparison with two seeds or more is wanted"
    try:
        data = json.loads(path.read_text())
        by_task: dict[str, list[float]] = {}
        for task, results in data["tasks"].items():
            values = [figures["AP"]["by_seed"] for figures in results["metrics"].values()]
            by_task[task] = [max(ap) - min(ap) for ap in values]
        seeds = len(data["seeds"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: no known spread in it ({error!r}); {wanted}") from error
    if seeds < 2 or not by_task:
        raise ValueError(f"{path}: has {seeds} seed(s); {wanted}")
    return {task: max(ranges) for task, ranges in by_task.items()}
