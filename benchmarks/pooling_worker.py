"""One process of bench_pooling.py: measures with one allocator, instruction set and build.

python benchmarks/pooling_worker.py PLAN.json RESULT.json
python benchmarks/pooling_worker.py PLAN.json              (for --against: see pooling/serve.py)

None of them can be changed in a process that runs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from measuring import allocator
from measuring.files import write_json
from pooling.cases import Case
from pooling.names import EXACT, FUSED, SOFT, UNFUSED, ZOO
from pooling.plan import Plan


def own_peers(case: Case) -> set[str]:
    """What is this project's: without it a case has failed."""
    if case.group == ZOO:
        from softpool_det.layers import POOLINGS

        return set(POOLINGS)
    return {FUSED, UNFUSED} if case.group == "fused stem" else {SOFT, EXACT}


def effort(plan: Plan) -> dict:
    """Seconds and rounds that a case gets."""
    if plan.quick:
        return {"seconds": 0.3, "min_rounds": 2}
    return {"seconds": 0.5 if plan.device == "cuda" else 1.5, "min_rounds": 3}


def measured_faults(plan: Plan) -> int | None:
    """Page faults of one max pooling whose output is 16 MiB, to see that the allocator obeys."""
    import torch
    import torch.nn.functional as F

    if plan.device == "cuda":
        return None
    input = torch.ones(1, 64, 512, 512)
    allocator.touch(4 * input.nbytes)
    F.max_pool2d(input, 2)
    return allocator.page_faults(lambda: F.max_pool2d(input, 2))


def main() -> None:
    plan = Plan.from_json(json.loads(Path(sys.argv[1]).read_text()))
    if plan.device == "cpu":
        allocator.use(plan.setting)
    import torch
    from measuring.machine import require

    require(plan.device)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    if len(sys.argv) == 2:
        from pooling.serve import serve

        serve(plan)
    else:
        measure_all(plan, Path(sys.argv[2]))


def measure_all(plan: Plan, path: Path) -> None:
    from measuring.machine import description
    from pooling.measure import measure
    from pooling.report import case_table, title

    faults = measured_faults(plan)
    setting = plan.setting if plan.isa is None else f"{plan.setting}, {plan.isa}"
    rows: list[dict] = []
    result = {
        "plan": asdict(plan),
        "machine": description(plan.device),
        "page_faults_of_a_16_mib_output": faults,
        "rows": rows,
    }
    heap = 0
    failed = []
    for case in plan.cases():
        if plan.setting == "kept" and case.bytes_needed > heap:
            heap = case.bytes_needed
            allocator.touch(heap)
        try:
            measured = measure(case, plan.device, memory=plan.memory, **effort(plan))
        except RuntimeError as error:
            print(f"Failed: {title(case, setting)}: {error}\n", flush=True)
            failed.append(title(case, setting))
            continue
        if not own_peers(case) <= {row["peer"] for row in measured}:
            failed.append(title(case, setting))
        print(case_table(case, setting, measured), flush=True)
        where = {**case.as_json(), "setting": plan.setting, "isa": plan.isa}
        rows += [{**where, **row} for row in measured]
        # Each time, so that a later failure loses nothing.
        write_json(path, result)
    if failed:
        sys.exit("error: SoftPool failed in these cases (details above):\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
