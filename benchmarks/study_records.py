"""Keep what a study found, run by run, and compare arms by it.

A study of days is shared by machines that do not live as long, and its result files are too large
to be kept. A record is one line of JSON, 6 kB: a run's figures, its AP on 1,000 draws of the test
images (the same draws in every run, so that arms stay paired), its stem's softness, and its origin.
The intervals of any two arms follow from their records, on any machine, without a training.

    python benchmarks/study_records.py keep configs/studies/plain_scenes.yaml RECORDS.jsonl
    python benchmarks/study_records.py compare RECORDS.jsonl --output EXCERPT.json \\
        --pair "SoftPool 2x2 beta 1 paper" "max 2x2"
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from measuring.files import write_json

from softpool_det.coco.protocol import METRICS
from softpool_det.coco.reading import GroundTruth, read_detections, read_ground_truth
from softpool_det.comparison.arms import Run
from softpool_det.comparison.compare import RESULTS_FILE, common_test_set, detector_of
from softpool_det.comparison.provenance import provenance
from softpool_det.comparison.softness import measure_softness
from softpool_det.comparison.study import read_study
from softpool_det.datasets import register_datasets
from softpool_det.statistics.bootstrap import bootstrap
from softpool_det.statistics.differences import difference_entry, figure_entry
from softpool_det.statistics.intervals import Estimate, estimate
from softpool_det.statistics.matches import match
from softpool_det.statistics.power import seeds_needed, variances
from softpool_det.statistics.verdict import judge

# Of compare.py; records of other draws would not be paired.
DRAWS, RANDOM_SEED, CONFIDENCE = 1000, 0, 0.95
# AP is kept in hundredths: what is lost is a thousandth of a run's standard error.
UNIT = 100


def record(run: Run, truth: GroundTruth) -> dict[str, Any]:
    """A finished run's figures in percent, and in hundredths of AP those on drawn images."""
    matches = match(truth, read_detections(run.folder / RESULTS_FILE, truth), "bbox")
    draws = bootstrap([[matches]], resamples=DRAWS, random_seed=RANDOM_SEED)
    figures = 100 * draws.metrics[0, 0]
    detector = detector_of(run.arm, run.seed, run.folder)
    softness = measure_softness({run.arm.name: detector})
    origin = provenance([])
    return {
        "arm": run.arm.name,
        "seed": run.seed,
        "images": len(truth.image_ids),
        "metrics": dict(zip(METRICS, figures[0].round(4).tolist(), strict=True)),
        "draws": np.rint(UNIT * figures[1:, METRICS.index("AP")]).astype(int).tolist(),
        "softness": {name: asdict(found) for name, found in softness.items()}.get(run.arm.name),
        "train_seconds": json.loads(run.result.read_text())["train_seconds"],
        "provenance": {key: origin[key] for key in ("versions", "hardware", "date", "git_commit")},
    }


def keep(study_file: Path, path: Path) -> None:
    """Append the records of the finished runs that `path` does not have yet."""
    study = read_study(study_file)
    register_datasets()
    known = {(found["arm"], found["seed"]) for found in read_records(path)}
    runs = [run for run in study.runs() if run.result.is_file()]
    dataset = common_test_set(study.arms, study.seeds[0], study.folder)
    truth = read_ground_truth(MetadataCatalog.get(dataset).json_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    for run in runs:
        if (run.arm.name, run.seed) not in known:
            with run.claimed():  # a run of this very config
                line = json.dumps(record(run, truth), separators=(",", ":"))
            with path.open("a") as file:
                file.write(line + "\n")
            print(f"{run.arm.name}, seed {run.seed}: kept")


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


class Records:
    """Records by arm and seed, of the seeds that every arm has."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.runs: dict[str, dict[int, dict]] = {}
        for found in records:
            self.runs.setdefault(found["arm"], {})[found["seed"]] = found
        self.names = list(self.runs)
        self.seeds = sorted(set.intersection(*(set(runs) for runs in self.runs.values())))

    def seeds_of(self, *arms: str) -> list[int]:
        """The seeds that these arms have."""
        return sorted(set.intersection(*(set(self.runs[arm]) for arm in arms)))

    def table(self, arm: str, seeds: list[int]) -> np.ndarray:
        """(seeds, 1 + draws) float64, AP in percent, the images as they are first."""
        runs = [self.runs[arm][seed] for seed in seeds]
        return np.array([[r["metrics"]["AP"], *np.array(r["draws"]) / UNIT] for r in runs])

    def difference(self, candidate: str, baseline: str, seeds: list[int]) -> Estimate:
        table = self.table(candidate, seeds) - self.table(baseline, seeds)
        return estimate(table[:, 0], table[:, 1:])


def excerpt(records: Records, margin: float) -> dict[str, Any]:
    """What benchmarks/figures/findings.py draws: the seeds that all arms have, AP by arm."""
    seeds, (baseline, *candidates) = records.seeds, records.names
    metrics, differences = {}, []
    for name in records.names:
        table = records.table(name, seeds)
        entry = figure_entry(estimate(table[:, 0], table[:, 1:]), CONFIDENCE)
        metrics[name] = {"AP": entry} | {
            metric: {"by_seed": [records.runs[name][seed]["metrics"][metric] for seed in seeds]}
            for metric in METRICS
            if metric != "AP"
        }
    for name in candidates:
        found = records.difference(name, baseline, seeds)
        judged = judge(found, confidence=CONFIDENCE, among=len(candidates), margin=margin)
        differences.append(
            {
                "baseline": baseline,
                "candidate": name,
                "metrics": {"AP": difference_entry(found, CONFIDENCE, among=len(candidates))},
                "decision": judged.decision,
                "margin": margin,
            }
        )
    runs = [records.runs[name][seed] for name in records.names for seed in seeds]
    return {
        "names": records.names,
        "seeds": seeds,
        "images": runs[0]["images"],
        "resamples": DRAWS,
        "confidence": CONFIDENCE,
        "softness": {
            n: _mean([records.runs[n][s]["softness"] for s in seeds]) for n in records.names
        },
        "tasks": {"bbox": {"metrics": metrics, "differences": differences}},
    }


def _mean(found: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Of the seeds' softness; None where the pooling has no such figure."""
    columns = {key: [run[key] for run in found] for key in found[0]}
    return {
        key: None if None in values else float(np.mean(values)) for key, values in columns.items()
    }


def compare(
    path: Path, output: Path | None, arms: list[str], pairs: list[list[str]], margin: float
) -> None:
    found = read_records(path)
    known = list(dict.fromkeys(run["arm"] for run in found))
    arms = arms or known
    asked = [("arms", known, arms), *(("pair", arms, pair) for pair in pairs)]
    for option, choice, given in asked:
        for arm in given:
            if arm not in choice:
                raise SystemExit(f"error: --{option} {arm!r}: to choose from are {choice}")
    records = Records([run for arm in arms for run in found if run["arm"] == arm])
    if len(records.names) < 2:
        raise SystemExit(f"error: {path}: needs the records of two arms, has {records.names}")
    baseline, *others = records.names
    print("arm | seeds | AP, mean | minus the first | simultaneous 95 % interval")
    for name in records.names:
        seeds = records.seeds_of(baseline, name)
        row = f"{name} | {len(seeds)} | {records.table(name, seeds)[:, 0].mean():.2f}"
        if name != baseline:
            found = records.difference(name, baseline, seeds)
            judged = judge(found, confidence=CONFIDENCE, among=len(others), margin=margin)
            row += f" | {found.value:+.2f} | {judged.low:+.2f} to {judged.high:+.2f}"
            row += f", {judged.decision}"
        print(row)
    for candidate, against in pairs:
        seeds = records.seeds_of(candidate, against)
        found = records.difference(candidate, against, seeds)
        plain, narrow = (found.interval(level) for level in (CONFIDENCE, 2 * CONFIDENCE - 1))
        print(
            f"{candidate} minus {against}, {len(seeds)} seeds: {found.value:+.2f} AP, "
            f"95 % {plain[0]:+.2f} to {plain[1]:+.2f}, 90 % {narrow[0]:+.2f} to {narrow[1]:+.2f}"
        )
        parts = variances(difference_entry(found, CONFIDENCE, among=1))
        if parts is not None:
            print(f"  seeds that show 1 AP with 80 %: {seeds_needed(1.0, *parts, CONFIDENCE)}")
    if output is not None:
        write_json(output, excerpt(records, margin))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    kept = commands.add_parser("keep", help="append the records of finished runs")
    kept.add_argument("study", type=Path, metavar="STUDY.yaml")
    kept.add_argument("records", type=Path, metavar="RECORDS.jsonl")
    compared = commands.add_parser("compare", help="intervals of the differences between arms")
    compared.add_argument("records", type=Path, metavar="RECORDS.jsonl")
    compared.add_argument("--output", type=Path, metavar="EXCERPT.json")
    compared.add_argument(
        "--arms", nargs="+", default=[], metavar="ARM", help="only these; the first is the baseline"
    )
    compared.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar=("CANDIDATE", "BASELINE")
    )
    compared.add_argument("--margin", type=float, default=0.5, help="in AP (0.5)")
    args = parser.parse_args()
    if args.command == "keep":
        keep(args.study, args.records)
    else:
        compare(args.records, args.output, args.arms, args.pair, args.margin)


if __name__ == "__main__":
    main()
