"""Two builds side by side: a process for each, of which one works at a time, in turn."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pooling.cases import Case
from pooling.names import BETA, BOTH, DIRECTIONS, EXACT, FLOOR, FORWARD, FUSED, LEARNED, SOFT
from pooling.plan import Plan
from pooling.report import line

WORKER = Path(__file__).resolve().parents[1] / "pooling_worker.py"
OLD, NEW = "old", "new"
OWN = (SOFT, EXACT, BETA, LEARNED, FUSED)
# Rows that a new build may not slow down by more: new / old.
KEPT = (SOFT, FUSED)
MOST = 1 / 0.95

NOTE = """\
old, new: ms of a call, the first quartile, which other work on the machine moves least. control:
new/old of the stock pooling, the same code in both: how far the machine can be trusted. /base,
/floor: of the new build's time. kept: whether it is at most 1/0.95 of the old one's."""
_HEADERS = ["case", "pooling", "old ms", "new ms", "new/old", "control", "/base", "/floor", "kept"]
_WIDTHS = [36, 12, 6, 6, 7, 7, 5, 6, 6]
_SIDES = ["<", "<"] + [">"] * 6 + ["<"]


def refusal(folder: Path) -> str | None:
    """What keeps a folder from being measured."""
    if not (folder / "softpool_det" / "ops").is_dir():
        return f"{folder} is not a checkout of softpool_det: it has no softpool_det/ops"
    if not list((folder / "softpool_det").glob("_C*.so")):
        return (
            f"{folder} has no compiled operator softpool_det/_C*.so: run `python setup.py "
            f"build_ext --inplace` there"
        )
    return None


class Build:
    """The process that measures one build."""

    def __init__(self, name: str, plan_file: Path, folder: Path | None):
        self.name = name
        environment = {"KINETO_LOG_LEVEL": "99", **os.environ}
        if folder is not None:
            paths = [str(folder.resolve()), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(plan_file)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            raise RuntimeError(f"a measuring process ended with status {status}, as said above")
        return json.loads(answer)

    def ask(self, **command: int) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()


@contextmanager
def started(plan: Plan, folder: Path, other: Path) -> Iterator[list[Build]]:
    plan_file = folder / "plan.json"
    plan_file.write_text(json.dumps(asdict(plan)))
    builds = [Build(OLD, plan_file, other), Build(NEW, plan_file, None)]
    try:
        yield builds
    finally:
        for build in builds:
            build.process.kill()
            build.process.wait()


def compare(plan: Plan, other: Path, folder: Path) -> dict:
    """Measure every case in both builds and print what comes out.

    Args:
        plan: of both processes.
        other: the checkout to compare with.
        folder: for the plan's file.

    Returns:
        "processes", "failed" and "rows", each row with its "build", "old" or "new"; and
        "comparison", a row for each of this project's poolings and direction.

    Raises:
        RuntimeError: a process ended, or did not import what it should.
    """
    result: dict[str, list] = {"processes": [], "failed": [], "comparison": [], "rows": []}
    with started(plan, folder, other) as builds:
        for build in builds:
            about = build.read()
            print(f"{build.name}: {about['package']}")
            result["processes"].append({"build": build.name, **about})
        imported = Path(result["processes"][0]["package"]).parent
        if imported != other.resolve():
            raise RuntimeError(f"the old process imported {imported} rather than {other}")
        print(f"\n{NOTE}")
        place = ""
        for index, case in enumerate(plan.cases()):
            reasons = {build.name: build.ask(case=index)["failed"] for build in builds}
            if any(reasons.values()):
                result["failed"] += [f"{case}, {n}: {why}" for n, why in reasons.items() if why]
                continue
            found = _alternate(builds, plan.quick)
            where = {**case.as_json(), "setting": plan.setting, "isa": plan.isa}
            for name, measured in found.items():
                result["rows"] += [{**where, "build": name, **row} for row in measured]
            compared = _compared(case, found)
            result["comparison"] += compared
            if case.place != place:
                place = case.place
                print(f"\n**{place}**\n\n{_heads()}")
            for row in compared:
                print(_line(_cells(case, row)), flush=True)
    print(f"\n{_summary(result['comparison'])}\n")
    return result


def _alternate(builds: list[Build], quick: bool) -> dict[str, list[dict]]:
    """Rounds of one build and the other in turn; each one's rows."""
    seconds, least = (1, 3) if quick else (8, 9)
    start = time.perf_counter()
    count = 0
    while count < least or time.perf_counter() - start < seconds:
        for build in builds:
            build.ask(round=count)
        count += 1
    return {build.name: build.ask(rows=True)["rows"] for build in builds}


def _compared(case: Case, found: dict[str, list[dict]]) -> list[dict]:
    """A row for each of this project's poolings and direction."""
    rows = {name: {row["peer"]: row for row in rows} for name, rows in found.items()}
    result = []
    for peer, direction in itertools.product(rows[NEW], DIRECTIONS):
        if peer not in OWN:
            continue

        def quartile(build: str, peer: str, direction: str = direction) -> float | None:
            return rows[build][peer][direction]["q1_ms"] if peer in rows[build] else None

        old, new = quartile(OLD, peer), quartile(NEW, peer)
        ratio = _quotient(new, old)
        stock = quartile(NEW, case.baseline)
        result.append(
            {
                **case.as_json(),
                "peer": peer,
                "direction": direction,
                "old_ms": old,
                "new_ms": new,
                "new_to_old": ratio,
                "control": _quotient(stock, quartile(OLD, case.baseline)),
                "to_baseline": _quotient(new, stock),
                "to_floor": _quotient(new, quartile(NEW, FLOOR)),
                "kept": ratio <= MOST if ratio is not None and peer in KEPT else None,
            }
        )
    return result


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _heads() -> str:
    rules = [
        "-" * (width - 1) + {"<": "-", ">": ":"}[side]
        for width, side in zip(_WIDTHS, _SIDES, strict=True)
    ]
    return f"{_line(_HEADERS)}\n{_line(rules)}"


def _line(cells: list[str]) -> str:
    return line(cells, _WIDTHS, _SIDES)


def _cells(case: Case, row: dict) -> list[str]:
    spoken = {FORWARD: "fwd", BOTH: "both"}[row["direction"]]

    def figure(key: str, digits: int = 2) -> str:
        return "" if row[key] is None else f"{row[key]:.{digits}f}"

    return [
        f"{case.dtype} {case.layout} {case.window.short} {spoken}",
        row["peer"].replace("softpool", "soft"),
        figure("old_ms"),
        figure("new_ms"),
        figure("new_to_old", 3),
        figure("control", 3),
        figure("to_baseline"),
        figure("to_floor"),
        {None: "", True: "kept", False: "SLOWER"}[row["kept"]],
    ]


def _summary(comparison: list[dict]) -> str:
    judged = [row for row in comparison if row["kept"] is not None]
    kept = sum(row["kept"] for row in judged)
    return f"{kept} of {len(judged)} rows take at most 1/0.95 of the old build's time."
