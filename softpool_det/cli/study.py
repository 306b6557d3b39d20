"""Run a study, many arms and seeds of one comparison, as far as it is not done yet.

It can be stopped at any time (Ctrl-C and SIGTERM let trainings save first); the same command
continues it. The report is written after every finished seed, and is preliminary until the last
one. Several machines can share a study: give each some of the seeds.

Examples:
    softpool-study configs/studies/plain_scenes.yaml --workers 2
    softpool-study configs/studies/plain_scenes.yaml --seeds 3 4
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from softpool_det.cli.program import add_trust_lazy_config, new_parser, run_program
from softpool_det.comparison.output import REPORT_FILE
from softpool_det.comparison.study import read_study, run_study
from softpool_det.report import comparison_text


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="as in configs/studies/")
    runs = parser.add_argument_group("runs")
    add_trust_lazy_config(runs)
    runs.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs at a time, one thread each"
    )
    runs.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="only these of its seeds: one machine's share. Copy all shares' run folders into one "
        "output folder and call this without --seeds for the whole report",
    )
    runs.add_argument(
        "--kept",
        type=Path,
        metavar="RECORDS.jsonl",
        help="leave out the runs that benchmarks/study_records.py has kept there; write no report",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    study = read_study(args.study, args.trust_lazy_config, args.seeds)
    if args.kept is not None and args.kept.is_file():
        records = map(json.loads, args.kept.read_text().splitlines())
        study = replace(study, kept=frozenset((r["arm"], r["seed"]) for r in records))
    data = run_study(study, args.workers)
    if not data:
        print(f"finished, but for {len(study.kept)} runs that are kept in {args.kept}")
        return
    print(comparison_text(data))
    print(f"Report: {study.folder / REPORT_FILE}")


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
