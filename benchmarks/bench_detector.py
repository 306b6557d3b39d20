"""Time and memory of RetinaNet and Mask R-CNN R50-FPN with max pooling and with SoftPool.

python benchmarks/bench_detector.py --size 800x1344 --batch 2 --json results.json

Random weights and images of noise; docs/performance.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# TorchInductor imports it, and in three runs of the switches it refused there, with the error
# that it has where something looked for pip before. What did was not found; here nothing has.
import setuptools  # noqa: F401
from measuring import allocator
from measuring.arguments import positive
from measuring.files import write_json

MODELS = ("retinanet", "mask_rcnn")
# Keys of detector.switches.SWITCHES, which imports torch; the allocator comes before that.
SWITCHES = ("channels_last", "bfloat16", "float16", "compile", "channels_last+bfloat16")
# Of the loader, so that no model has to be measured with it.
PERSISTENT_WORKERS = "persistent_workers"
NUM_WORKERS = 2


def size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        height = width = 0
    if min(height, width) < 64 or height % 32 or width % 32:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HEIGHTxWIDTH, both at least 64 and multiples of 32, such as 800x1344"
        )
    return height, width


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, help="of PyTorch (default: its choice)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--size", type=size, help="HxW (default: 480x640, on a GPU 800x1344)")
    parser.add_argument("--batch", type=positive, help="images (default: 1, on a GPU 2)")
    parser.add_argument("--channels-last", action="store_true", help="that layout in both arms")
    parser.add_argument(
        "--switches",
        nargs="*",
        metavar="NAME",
        choices=(*SWITCHES, PERSISTENT_WORKERS),
        help="the config's switches for speed, SoftPool alone: "
        f"{', '.join((*SWITCHES, PERSISTENT_WORKERS))}",
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each model (default: 60)")
    parser.add_argument(
        "--allocator",
        choices=allocator.available(),
        default=allocator.available()[-1],
        help="of the CPU: what becomes of freed blocks (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    args.size = args.size or ((800, 1344) if on_gpu else (480, 640))
    args.batch = args.batch or (2 if on_gpu else 1)
    return args


def stem_case(args: argparse.Namespace):
    """The stem behind its convolution, at the detectors' size and with the configs' window."""
    from pooling.cases import WINDOW_2, Case

    height, width = args.size
    layout = "channels_last" if args.channels_last else "contiguous"
    shape = (args.batch, 64, height // 2, width // 2)
    return Case("fused stem", shape, "float32", layout, WINDOW_2)


def run(args: argparse.Namespace) -> dict:
    """Measure, print tables, and return everything."""
    import torch
    from detector.measure import measure, outcomes, rows_table
    from measuring.machine import description, require
    from pooling.measure import measure as measure_case
    from pooling.report import case_table, targets_table, verdicts

    require(args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    setting = "caching" if args.device == "cuda" else args.allocator
    machine = description(args.device)
    height, width = args.size
    print(f"{machine['device_name']}, {machine['threads']} CPU threads; torch {machine['torch']}")
    print(f"{args.batch} image(s) of {height} x {width}, allocator: {setting}\n", flush=True)
    if args.switches is not None:
        return {"machine": machine, "allocator": setting, **run_switches(args)}
    case = stem_case(args)
    if setting == "kept":
        allocator.touch(case.bytes_needed)
    stem = measure_case(case, args.device, args.seconds / 10, 3, memory=True)
    print(case_table(case, setting, stem), flush=True)
    arguments = {"size": list(args.size), "batch": args.batch, "channels_last": args.channels_last}
    stem_rows = [{**case.as_json(), **row} for row in stem]
    result = {"machine": machine, "allocator": setting, **arguments}
    result |= {"targets": [], "detectors": [], "stem_after_convolution": stem_rows}
    for model in args.models:
        # Each time, so that a later failure loses nothing.
        save(args, result)
        result["detectors"] += measure(
            model,
            device=args.device,
            channels_last=args.channels_last,
            size=args.size,
            batch=args.batch,
            seconds=args.seconds,
        )
        result["targets"] = outcomes(result["detectors"])
    found = result["targets"]
    print(rows_table(result["detectors"]))
    print(f"\n{targets_table(found, ['measured'])}\n\n{verdicts(found)}.")
    return result


def save(args: argparse.Namespace, result: dict) -> None:
    if args.json:
        write_json(args.json, result)


def run_switches(args: argparse.Namespace) -> dict:
    """Measure what each switch is worth, and print it."""
    from detector.switches import measure_switches, switches_table
    from detector.workers import measure_workers

    chosen = args.switches or [*SWITCHES, PERSISTENT_WORKERS]
    rows: list[dict] = []
    if PERSISTENT_WORKERS in chosen:
        chosen.remove(PERSISTENT_WORKERS)
        rows += measure_workers(NUM_WORKERS, args.seconds)
    for model in args.models if chosen else ():
        rows += measure_switches(
            model,
            chosen,
            device=args.device,
            size=args.size,
            batch=args.batch,
            seconds=args.seconds,
        )
    print(switches_table(rows))
    return {"size": list(args.size), "batch": args.batch, "switches": rows}


def main() -> None:
    args = parsed()
    if args.device == "cpu":
        allocator.use(args.allocator)
    # Without a GPU the profiler says so on every start.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    save(args, run(args))


if __name__ == "__main__":
    main()
