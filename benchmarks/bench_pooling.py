"""Time and memory of SoftPool beside max, average and plain-PyTorch poolings, and the targets.

python benchmarks/bench_pooling.py --quick
python benchmarks/bench_pooling.py --json results.json --plot sweep.png

docs/performance.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from measuring import allocator
from measuring.arguments import positive
from measuring.files import write_json
from pooling.plan import Plan
from pooling.plot import plot
from pooling.report import NOTE, targets_table, verdicts
from pooling.targets import outcomes

CAPABILITIES = ("avx512", "avx2", "plain")


def plans(args: argparse.Namespace) -> list[Plan]:
    """One for each process, in their order."""
    common = {"device": args.device, "threads": args.threads, "quick": args.quick}
    shape = args.shape
    main = ("given",) if shape else ("main", "fused")
    rest = () if shape else ("sweep",) if args.quick else ("others", "sweep")
    # The one that counts first: it gets all cases. What a call allocates is the same in both.
    settings = ["caching"] if args.device == "cuda" else list(reversed(allocator.available()))
    result = [Plan(main + rest, setting=settings[0], isa=None, shape=shape, memory=True, **common)]
    for setting in settings[1:]:
        result.append(Plan(main, setting=setting, isa=None, shape=shape, memory=False, **common))
    if args.isa:
        parts = ("given",) if shape else ("main",)
        result += [
            Plan(parts, setting=settings[0], isa=isa, shape=shape, memory=False, **common)
            for isa in CAPABILITIES
        ]
    return result


def run(plan: Plan, folder: Path) -> tuple[dict | None, bool]:
    """A process's result as far as it came, and whether it came to its end."""
    worker = Path(__file__).with_name("pooling_worker.py")
    # The profiler says on every start that there is no GPU.
    environment = {"KINETO_LOG_LEVEL": "99", **os.environ}
    if plan.isa is not None:
        environment["SOFTPOOL_CPU_CAPABILITY"] = plan.isa
    (folder / "plan.json").write_text(json.dumps(asdict(plan)))
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, str(worker), str(folder / "plan.json"), str(result)]
    status = subprocess.run(command, env=environment).returncode
    return json.loads(result.read_text()) if result.exists() else None, status == 0


def heading(plan: Plan) -> str:
    text = {
        "kept": "Allocator: kept (freed blocks stay with the process, set by mallopt)",
        "default": "Allocator: default (glibc returns freed blocks to the system)",
        "caching": "Allocator: PyTorch's caching CUDA allocator",
    }[plan.setting]
    return f"## {text}" + (f"; instruction set: {plan.isa}" if plan.isa else "")


def show_machine(result: dict) -> None:
    machine = result["machine"]
    where = f"{machine['device_name']}, {machine['threads']} CPU threads"
    what = f"torch {machine['torch']}, Python {machine['python']}"
    print(f"{where}; {what}, softpool_det {machine['softpool_det']} ({machine['compiler']})")
    faults = result["page_faults_of_a_16_mib_output"]
    if faults is not None:
        print(f"Page faults of one max pooling with an output of 16 MiB: {faults}")
    print()


def report(args: argparse.Namespace, results: list[dict], failed: list[str]) -> dict:
    """Print the targets; return everything."""
    rows = [row for result in results for row in result["rows"]]
    found: list[dict] = []
    if args.shape:
        print("No targets: they are set for the detection stem, not for a given shape.")
    elif results:
        found = outcomes([row for row in rows if row["isa"] is None], args.device)
        settings = list(dict.fromkeys(result["plan"]["setting"] for result in results))
        threads = results[0]["machine"]["threads"]
        print("## Targets\n")
        if args.device == "cpu" and threads != 2:
            print(f"They are set for 2 threads; these are {threads}.\n")
        print(f"{targets_table(found, settings)}\n\n{verdicts(found)}.")
    processes = [{k: v for k, v in result.items() if k != "rows"} for result in results]
    return {"processes": processes, "failed": failed, "targets": found, "rows": rows}


def shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) not in (4, 5) or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not N,C,H,W or N,C,D,H,W with positive numbers, such as 2,64,400,672"
        )
    return sizes


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute: targets and a short sweep")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, help="of PyTorch (default: its choice)")
    parser.add_argument("--shape", type=shape, help="N,C,[D,]H,W in place of the usual shapes")
    parser.add_argument("--isa", action="store_true", help="also with each instruction set")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="time against size, a picture")
    args = parser.parse_args()
    if args.plot and args.shape:
        parser.error("--plot draws the sweep over sizes, which --shape leaves out: drop one")
    if args.isa and args.device == "cuda":
        parser.error("--isa is about the CPU's instruction sets: drop --device cuda")
    return args


def main() -> None:
    args = parsed()
    results, failed = [], []
    print(NOTE + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for plan in plans(args):
            print(heading(plan) + "\n", flush=True)
            result, whole = run(plan, Path(folder))
            if not whole:
                failed.append(heading(plan).removeprefix("## "))
            if result is not None:
                show_machine(result)
                results.append(result)
    figures = report(args, results, failed)
    if args.json:
        write_json(args.json, figures)
    if args.plot and results:
        machine = results[0]["machine"]
        plot(args.plot, figures["rows"], f"{machine['device_name']}, torch {machine['torch']}")
    if failed:
        sys.exit("error: these runs failed, as said above: " + "; ".join(failed))


if __name__ == "__main__":
    main()
