"""Time and memory of comparing two result files, beside hotcoco's own comparison.

python benchmarks/bench_compare.py --json results.json

Made-up boxes, as many as val2017 has. Each side runs in a process of its own; numba's compilation
of the first ever run is left out by a small run before. hotcoco counts an image once even where
it was drawn twice, and has no permutation test; it is run with fewer resamples and scaled up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.data import write_pair
from measuring.arguments import positive
from measuring.files import write_json
from tabulate import tabulate

WORKER = Path(__file__).resolve().parent / "comparison" / "worker.py"
# Issue 4: 1,000 resamples on 2 cores.
TARGET_SECONDS, TARGET_BYTES = 90, 6 * 10**9
STEPS = ("reading", "matching", "bootstrap", "permutations")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=positive, default=5000)
    parser.add_argument("--categories", type=positive, default=80)
    parser.add_argument("--objects", type=positive, default=36000)
    parser.add_argument("--detections", type=positive, default=100, help="for each image")
    parser.add_argument("--resamples", type=positive, default=1000)
    parser.add_argument("--permutations", type=positive, default=1000)
    parser.add_argument("--hotcoco-resamples", type=positive, default=50, help="scaled up")
    parser.add_argument("--threads", type=positive, help="of numba and hotcoco (default: theirs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def measure(which: str, paths, resamples: int, permutations: int, threads: int | None) -> dict:
    """Seconds of each step and peak resident bytes, in a new process."""
    limits = {"NUMBA_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    environment = {**os.environ, **(limits if threads else {})}
    command = [sys.executable, str(WORKER), which, *map(str, paths)]
    result = subprocess.run(
        [*command, str(resamples), str(permutations)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def run(args: argparse.Namespace, folder: Path) -> dict:
    small = write_pair(folder, images=4, categories=2, objects=12, detections=9, seed=0)
    measure("ours", small, 1, 1, args.threads)
    paths = write_pair(
        folder,
        images=args.images,
        categories=args.categories,
        objects=args.objects,
        detections=args.detections,
        seed=0,
    )
    ours = measure("ours", paths, args.resamples, args.permutations, args.threads)
    hotcoco = measure("hotcoco", paths, args.hotcoco_resamples, 0, args.threads)
    hotcoco["seconds"]["bootstrap"] *= args.resamples / args.hotcoco_resamples
    return {"ours": ours, "hotcoco": hotcoco}


def table(found: dict) -> str:
    rows = [
        [step, *(_seconds(found[side]["seconds"].get(step)) for side in ("ours", "hotcoco"))]
        for step in STEPS
    ]
    sides = [found[side] for side in ("ours", "hotcoco")]
    rows.append(["all", *(_seconds(sum(side["seconds"].values())) for side in sides)])
    rows.append(["peak memory", *(f"{side['peak_bytes'] / 1e9:.2f} GB" for side in sides)])
    headers = ["", "softpool_det", "hotcoco"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def main() -> None:
    args = parsed()
    with tempfile.TemporaryDirectory() as folder:
        found = run(args, Path(folder))
    print(f"{args.images:,} images, {args.categories} categories, {args.objects:,} objects,")
    print(f"{args.detections} detections an image; {args.resamples:,} resamples,", end=" ")
    print(f"{args.permutations:,} permutations; {os.cpu_count()} CPU threads")
    print(f"hotcoco's bootstrap is scaled up from {args.hotcoco_resamples} resamples\n")
    print(table(found))
    seconds, peak = found["ours"]["seconds"]["bootstrap"], found["ours"]["peak_bytes"]
    for name, value, target, unit in (
        ("bootstrap", seconds, TARGET_SECONDS, "s"),
        ("peak memory", peak / 1e9, TARGET_BYTES / 1e9, "GB"),
    ):
        outcome = "met" if value <= target else "missed"
        print(f"target: {name} at most {target:g} {unit}: {outcome} ({value:.1f} {unit})")
    if args.json:
        arguments = {key: value for key, value in vars(args).items() if key != "json"}
        write_json(args.json, {"arguments": arguments, "cpus": os.cpu_count(), **found})


if __name__ == "__main__":
    main()
