"""What every comparison must have before it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softpool_det.report.wording import METRICS, TASKS

_NEEDED = ("names", "seeds", "images", "objects", "categories", "confidence", "tasks")


def check_comparison(comparison: Mapping[str, Any]) -> None:
    """Check what the report cannot do without.

    Args:
        comparison: the content of comparison.json.

    Raises:
        ValueError: naming what is missing or wrong.
    """
    missing = [key for key in _NEEDED if key not in comparison]
    if missing:
        raise ValueError(f"comparison must have {', '.join(_NEEDED)}; {', '.join(missing)} missing")
    names = comparison["names"]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"comparison['names'] must be two or more different names, got {names}")
    if not comparison["seeds"]:
        raise ValueError("comparison['seeds'] must name at least one seed, got none")
    tasks = comparison["tasks"]
    if not tasks or not set(tasks) <= set(TASKS):
        raise ValueError(f"comparison['tasks'] must have some of {list(TASKS)}, got {list(tasks)}")
    for task, results in tasks.items():
        _check_task(f"comparison['tasks'][{task!r}]", results, names)


def _check_task(where: str, results: Mapping[str, Any], names: list[str]) -> None:
    for key in ("metrics", "differences"):
        if key not in results:
            raise ValueError(f"{where} must have {key!r}, got {list(results)}")
    candidates = [difference["candidate"] for difference in results["differences"]]
    if candidates != names[1:]:
        raise ValueError(
            f"{where}['differences'] must have one for each of {names[1:]} in order, "
            f"got {candidates}"
        )
    tables = [results["metrics"].get(name, {}) for name in names]
    tables += [difference["metrics"] for difference in results["differences"]]
    for table in tables:
        lacking = [metric for metric in METRICS if metric not in table]
        if lacking:
            raise ValueError(f"{where}: every arm and difference needs {lacking[0]}")
