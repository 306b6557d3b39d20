"""How often the 95 % intervals of a comparison hold a difference that is known.

python benchmarks/coverage.py --json coverage.json

Simulated pairs of detectors (benchmarks/simulated/detectors.py): with one seed, and with three
and five whose quality varies little, or as much as a set of images of that size lets it seem to.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from measuring.arguments import positive
from measuring.files import write_json
from simulated.coverage import Coverage, measure_coverage
from simulated.detectors import Population
from tabulate import tabulate

from softpool_det.coco.protocol import METRICS

# Seeds, and the spread of quality over training runs.
CASES = ((1, 0.0), (3, 0.01), (3, 0.05), (5, 0.01), (5, 0.05))
WANTED = (0.935, 0.965)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=positive, default=1000, help="comparisons of each case")
    parser.add_argument("--images", type=positive, default=200, help="of each comparison")
    parser.add_argument("--resamples", type=positive, default=200, help="of each comparison")
    parser.add_argument("--seeds", type=positive, nargs="+", help="only cases with so many")
    parser.add_argument("--decimals", type=int, default=15, help="of the scores; few make ties")
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def table(rows: list[dict]) -> str:
    """Coverage in percent, a row for each case."""
    body = [
        [row["seeds"], row["seed_spread"], *(f"{100 * x:.1f}" for x in row["covered"])]
        for row in rows
    ]
    headers = ["seeds", "spread of quality", *METRICS]
    return tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)


def as_json(seeds: int, seed_spread: float, found: Coverage) -> dict:
    figures = {
        key: value if isinstance(value, int) else value.tolist()
        for key, value in dataclasses.asdict(found).items()
    }
    return {"seeds": seeds, "seed_spread": seed_spread, **figures}


def main() -> None:
    args = parsed()
    rows = []
    for seeds, spread in CASES:
        if args.seeds and seeds not in args.seeds:
            continue
        found = measure_coverage(
            Population(seed_spread=spread, common_seed_spread=spread, decimals=args.decimals),
            images=args.images,
            seeds=seeds,
            trials=args.trials,
            resamples=args.resamples,
            random_seed=args.random_seed,
            workers=args.workers,
            progress=f"{seeds} seed(s), spread {spread}",
        )
        rows.append(as_json(seeds, spread, found))
    print(f"Coverage of 95 % intervals in percent; {args.trials} comparisons of {args.images}")
    print(f"images each, {args.resamples} resamples\n")
    print(table(rows))
    inside = [WANTED[0] <= share <= WANTED[1] for row in rows for share in row["covered"]]
    print(f"\n{sum(inside)} of {len(inside)} within 93.5 to 96.5 %.")
    if args.json:
        write_json(args.json, {"arguments": {**vars(args), "json": str(args.json)}, "cases": rows})


if __name__ == "__main__":
    main()
