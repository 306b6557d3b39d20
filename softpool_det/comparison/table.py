"""The table of a comparison, as data and as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from softpool_det.comparison.cost import Cost

AP_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Detectron2's name of a task -> what stands before AP in its columns.
TASK_PREFIX = {"bbox": "", "segm": "mask "}
GIB = 1024**3


def average_precision(run: dict, task: str = "bbox", column: str = "AP") -> float:
    """In percent; NaN, which JSON spells null, where there is nothing to find (APl, say)."""
    value = run["metrics"][task][column]
    return math.nan if value is None else value


@dataclass(frozen=True)
class ArmResult:
    """All runs of one arm by seed, each as `run_arm` returns it, and what a detector costs."""

    name: str
    runs: dict[int, dict]
    cost: Cost

    def row(self) -> dict[str, float]:
        """Mean over seeds of every column; the largest for memory."""
        runs = list(self.runs.values())
        row = {}
        for task, prefix in TASK_PREFIX.items():
            if task in runs[0]["metrics"]:
                for column in AP_COLUMNS:
                    row[prefix + column] = statistics.mean(
                        average_precision(run, task, column) for run in runs
                    )
        row["params (M)"] = self.cost.parameters / 1e6
        row["GFLOPs"] = self.cost.gflops
        if runs[0]["train_seconds"] is not None:
            row["train (min)"] = statistics.mean(run["train_seconds"] for run in runs) / 60
        row["infer (ms/image)"] = self.cost.inference_ms
        row["peak memory (GiB)"] = max(run["peak_memory_bytes"] for run in runs) / GIB
        return row


def comparison_data(arms: Sequence[ArmResult]) -> dict:
    """Everything that was measured, for comparison.json: baseline first, then the candidate."""
    baseline, candidate = (arm.row() for arm in arms)
    return {
        "rows": {arm.name: arm.row() for arm in arms},
        "difference": {
            column: candidate[column] - baseline[column]
            for column in baseline
            if column in candidate
        },
        "seeds": list(arms[0].runs),
        "runs": {arm.name: arm.runs for arm in arms},
    }


def comparison_markdown(data: dict) -> str:
    """The table: a row per arm, then the candidate minus the baseline."""
    columns = list(data["difference"])
    rows = [
        [name, *(_number(row[column]) for column in columns)] for name, row in data["rows"].items()
    ]
    rows.append(["difference", *(_number(data["difference"][c], "+") for c in columns)])
    text = tabulate(rows, headers=["", *columns], tablefmt="github", disable_numparse=True)
    return f"{text}\n\n{seed_note(data)}\n"


def seed_note(data: dict) -> str:
    """What the seeds say: the spread of each arm, and the differences seed by seed."""
    seeds = ", ".join(map(str, data["seeds"]))
    if len(data["seeds"]) == 1:
        return f"One seed ({seeds})."
    by_arm = _ap_by_arm(data)
    lines = [f"Means over seeds {seeds}. AP from seed to seed:"]
    lines += [f"- {name}: {_spread(values)}" for name, values in by_arm.items()]
    baseline, candidate = by_arm.values()
    differences = [_number(b - a, "+") for a, b in zip(baseline, candidate, strict=True)]
    lines.append(f"- difference: {', '.join(differences)}")
    return "\n".join(lines)


def known_spread_note(data: dict) -> str:
    """What an earlier comparison over several seeds says of one over a single seed."""
    seeds = ", ".join(map(str, data["seeds"]))
    spreads = "; ".join(f"{name}: {_spread(values)}" for name, values in _ap_by_arm(data).items())
    devices = {run["device"] for runs in data["runs"].values() for run in runs.values()}
    return (
        f"\nOver seeds {seeds} these configs gave AP ({', '.join(devices)}): {spreads}.\n"
        'A difference within that spread says nothing; SEEDS="1 2 3" runs several.\n'
    )


def _ap_by_arm(data: dict) -> dict[str, list[float]]:
    return {
        name: [average_precision(run) for run in runs.values()]
        for name, runs in data["runs"].items()
    }


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.1f} to {high:.1f} (spread {high - low:.1f})"


def _number(value: float, sign: str = "") -> str:
    return "n/a" if math.isnan(value) else f"{value:{sign}.2f}"
