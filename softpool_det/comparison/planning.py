"""How many seeds a comparison needs, before it runs."""

from __future__ import annotations

import json
from pathlib import Path

from softpool_det.report.wording import TASKS, power_note
from softpool_det.statistics.power import power_of
from softpool_det.statistics.verdict import simultaneous


def plan_notes(path: Path) -> list[str]:
    """Plan, in a line for each difference of an earlier comparison, the seeds that would show one.

    Args:
        path: its comparison.json, or what benchmarks/excerpt.py keeps of it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file, or of fewer than two seeds.
    """
    wanted = "the comparison.json of a comparison with two seeds or more is wanted"
    try:
        data = json.loads(path.read_text())
        notes = []
        for task, results in data["tasks"].items():
            overall = data.get("confidence", 0.95)
            confidence = simultaneous(overall, len(results["differences"]))
            for difference in results["differences"]:
                power = power_of(difference["metrics"]["AP"], data["images"], confidence)
                note = power_note({**difference, "power": power})
                notes.append(f"{TASKS[task]}. {note}" if note else "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: nothing to plan by ({error!r}); {wanted}") from error
    if not all(notes) or not notes:
        raise ValueError(f"{path}: has {len(data['seeds'])} seed(s); {wanted}")
    return notes
