"""Time of soft_pool2d against F.max_pool2d, in one process and alternating.

python benchmarks/bench_soft_pool2d.py --device cpu --json results.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from softpool_det.ops import soft_pool2d

# Behind the stem's first convolution at 800 x 1344, Detectron2's usual test size; kernel, stride
# and padding of the authors and of the stock stem.
SHAPE = (2, 64, 400, 672)
WINDOWS = ((2, 2, 0), (3, 2, 1))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def seconds(function: Callable[[], object], device: str) -> float:
    """One call's time, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(device: str, dtype: str, channels_last: bool, window: tuple, repeats: int) -> dict:
    """Median milliseconds of both poolings, forward and forward with backward, and their ratios."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    input = torch.randn(SHAPE, device=device, dtype=DTYPES[dtype])
    input = input.contiguous(memory_format=memory_format)
    leaf = input.clone().requires_grad_()
    upstream = torch.randn_like(F.max_pool2d(input, *window))
    functions = {
        "max_forward": lambda: F.max_pool2d(input, *window),
        "soft_forward": lambda: soft_pool2d(input, *window),
        "max_both": lambda: torch.autograd.grad(F.max_pool2d(leaf, *window), leaf, upstream),
        "soft_both": lambda: torch.autograd.grad(soft_pool2d(leaf, *window), leaf, upstream),
    }
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 2):
        for name, function in functions.items():
            elapsed = seconds(function, device)
            if repeat >= 2:  # the first two warm up
                times[name].append(elapsed * 1e3)
    row: dict = {"dtype": dtype, "channels_last": channels_last, "window": list(window)}
    row |= {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    for kind in ("forward", "both"):
        row[f"{kind}_ratio"] = row[f"soft_{kind}_ms"] / row[f"max_{kind}_ms"]
    return row


def show(row: dict) -> str:
    layout = "channels_last" if row["channels_last"] else "contiguous"
    kernel, stride, padding = row["window"]
    cells = [f"{row['dtype']:8}", f"{layout:13}", f"{kernel}x{kernel} s{stride} p{padding}"]
    for kind in ("forward", "both"):
        soft, stock = row[f"soft_{kind}_ms"], row[f"max_{kind}_ms"]
        cells.append(f"{stock:9.3f} {soft:9.3f} {row[f'{kind}_ratio']:6.2f}")
    return "  ".join(cells)


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["float32"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    print(f"{SHAPE} on {args.device}, {torch.get_num_threads()} threads; ms of max, soft, soft/max")
    print(f"{'':37}{'forward':^26}  {'forward and backward':^26}")
    rows = []
    for dtype in args.dtypes:
        for channels_last in (False, True):
            for window in WINDOWS:
                rows.append(measure(args.device, dtype, channels_last, window, args.repeats))
                print(show(rows[-1]), flush=True)
    if args.json:
        setting = {"device": args.device, "threads": torch.get_num_threads(), "shape": SHAPE}
        write_json(args.json, {**setting, "repeats": args.repeats, "rows": rows})


if __name__ == "__main__":
    main()
