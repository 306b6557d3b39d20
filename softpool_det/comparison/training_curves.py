"""What a run's losses were while it trained."""

from __future__ import annotations

import json
from pathlib import Path

METRICS_FILE = "metrics.json"


def training_curve(folder: Path, seed: int) -> dict | None:
    """Losses by iteration, from the metrics.json that Detectron2 writes.

    Args:
        folder: of the run.
        seed: of the run.

    Returns:
        seed, iterations and losses (by name, a number for each iteration); None where nothing was
        trained. Iterations that a resumed run did again are as they were the last time.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return None
    by_iteration: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line at which a run was killed
        losses = {name: value for name, value in entry.items() if _is_loss(name, value)}
        if "total_loss" in losses:
            by_iteration[entry["iteration"]] = losses
    if not by_iteration:
        return None
    iterations = sorted(by_iteration)
    names = by_iteration[iterations[-1]]
    return {
        "seed": seed,
        "iterations": iterations,
        "losses": {name: [by_iteration[i].get(name) for i in iterations] for name in names},
    }


def _is_loss(name: str, value: object) -> bool:
    return "loss" in name and isinstance(value, int | float)
