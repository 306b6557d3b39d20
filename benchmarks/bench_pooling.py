"""Time and memory of SoftPool beside max, average and plain-PyTorch poolings, and the targets.

python benchmarks/bench_pooling.py --quick
python benchmarks/bench_pooling.py --json results.json --plot sweep.png
python benchmarks/bench_pooling.py --against ../older-checkout --only "channels_last k3s2p1"

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
from pooling.against import compare, refusal
from pooling.plan import Plan
from pooling.plot import plot
from pooling.report import NOTE, targets_table, verdicts
from pooling.targets import outcomes

CAPABILITIES = ("avx512", "avx2", "plain")


def plans(args: argparse.Namespace) -> list[Plan]:
    """One for each process, in their order."""
    names = ("device", "threads", "quick", "only")
    common = {name: getattr(args, name) for name in names}
    shape = args.shape
    main = ("given",) if shape else ("main", "fused")
    rest = (
        ()
        if shape
        else ("windows", "sweep")
        if args.quick
        else ("windows", "others", "zoo", "sweep")
    )
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


def plan_against(args: argparse.Namespace) -> Plan:
    """Of both processes."""
    setting = "caching" if args.device == "cuda" else allocator.available()[-1]
    parts = ("given",) if args.shape else ("main", "fused", "windows")
    return Plan(
        parts,
        device=args.device,
        setting=setting,
        isa=os.environ.get("SOFTPOOL_CPU_CAPABILITY"),
        threads=args.threads,
        shape=args.shape,
        quick=args.quick,
        memory=False,
        only=args.only,
    )


def run(plan: Plan, folder: Path) -> tuple[dict | None, bool]:
    """A process's result as far as it came, and whether it came to its end."""
    worker = Path(__file__).with_name("pooling_worker.py")
    # Without a GPU the profiler says so on every start.
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
        print("No targets: they are set for the usual shapes, not for a given one.")
    elif results:
        settings = list(dict.fromkeys(result["plan"]["setting"] for result in results))
        threads = results[0]["machine"]["threads"]
        found = show_targets(args, [row for row in rows if row["isa"] is None], threads, settings)
        if args.isa:
            avx2 = [row for row in rows if row["isa"] == "avx2"]
            found += show_targets(args, avx2, threads, settings[:1], "avx2")
    processes = [{k: v for k, v in result.items() if k != "rows"} for result in results]
    return {"processes": processes, "failed": failed, "targets": found, "rows": rows}


def show_targets(
    args: argparse.Namespace,
    rows: list[dict],
    threads: int,
    settings: list[str],
    isa: str | None = os.environ.get("SOFTPOOL_CPU_CAPABILITY"),
) -> list[dict]:
    """Of one instruction set; those of cases that were not asked for are left out."""
    found = outcomes(rows, args.device, isa)
    if args.only or args.against or isa is not None:
        found = [outcome for outcome in found if outcome["met"] is not None]
    print("## Targets" + (f" of {isa}" if isa else "") + "\n")
    if args.device == "cpu" and threads != 2:
        print(f"They are set for 2 threads; these are {threads}.\n")
    print(f"{targets_table(found, settings)}\n\n{verdicts(found)}.\n")
    return found


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
    parser.add_argument("--only", default="", metavar="WORDS", help="cases with all of the words")
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="another checkout, built in place"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="time against size, a picture")
    args = parser.parse_args()
    if args.plot and (args.shape or args.against or args.only):
        parser.error(
            "--plot draws the sweep over sizes, which --shape, --against and --only "
            "leave out: drop one"
        )
    if args.isa and (args.device == "cuda" or args.against):
        parser.error(
            "--isa is about the CPU's instruction sets, one run after the other: drop "
            "--device cuda; with --against set SOFTPOOL_CPU_CAPABILITY"
        )
    reason = refusal(args.against) if args.against else None
    if reason is not None:
        parser.error(f"--against: {reason}")
    return args


def measured(args: argparse.Namespace, folder: Path) -> dict:
    """What all processes give, one after the other; prints their tables and the targets."""
    results, failed = [], []
    for plan in plans(args):
        print(heading(plan) + "\n", flush=True)
        result, whole = run(plan, folder)
        if not whole:
            failed.append(heading(plan).removeprefix("## "))
        if result is not None:
            show_machine(result)
            results.append(result)
    return report(args, results, failed)


def compared(args: argparse.Namespace, folder: Path) -> dict:
    """What two builds give, in turn."""
    plan = plan_against(args)
    print(heading(plan) + "\n", flush=True)
    try:
        figures = compare(plan, args.against, folder)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    if not args.shape:
        rows = [row for row in figures["rows"] if row["build"] == "new"]
        threads = figures["processes"][1]["machine"]["threads"]
        figures["targets"] = show_targets(args, rows, threads, [plan.setting])
    return figures


def main() -> None:
    args = parsed()
    print(NOTE + "\n")
    with tempfile.TemporaryDirectory() as folder:
        figures = (compared if args.against else measured)(args, Path(folder))
    if args.json:
        write_json(args.json, figures)
    if args.plot and figures["processes"]:
        machine = figures["processes"][0]["machine"]
        plot(args.plot, figures["rows"], f"{machine['device_name']}, torch {machine['torch']}")
    if figures["failed"]:
        sys.exit("error: these runs failed, as said above: " + "; ".join(figures["failed"]))


if __name__ == "__main__":
    main()
