"""Train or take the arms, measure them, and write the comparison."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from softpool_det.coco.annotations import read_annotations
from softpool_det.comparison.activations import dataset_activation_rows
from softpool_det.comparison.arms import SEED, Arm, Run, config_difference
from softpool_det.comparison.compare_files import check_names
from softpool_det.comparison.cost import Cost, measure_costs
from softpool_det.comparison.output import gallery, write_figures, write_report
from softpool_det.comparison.provenance import provenance
from softpool_det.comparison.side_by_side import run_side_by_side
from softpool_det.comparison.softness import measure_softness
from softpool_det.comparison.training_curves import training_curve
from softpool_det.datasets import ensure_dataset, register_datasets
from softpool_det.datasets.json_files import data_sets_of
from softpool_det.io.data_errors import DataError
from softpool_det.statistics.known_spread import read_known_spread
from softpool_det.statistics.result_files import compare_matched, match_files
from softpool_det.statistics.verdict import check_margin

RESULTS_FILE = Path("inference", "coco_instances_results.json")
Detector = tuple[CfgNode | DictConfig, Path | str]


def compare(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    *,
    known_spread: Path | Mapping[str, float] | None = None,
    resamples: int = 1000,
    margin: float | None = None,
    workers: int = 1,
) -> dict:
    """Compare arms seed by seed.

    Runs in `folder/<arm>/seed_<n>` that are finished are taken as they are, and interrupted ones
    are continued. Writes `comparison.json`, `comparison.md`, `report.html` and `comparison.png`
    into `folder`.

    Args:
        arms: two or more; differences are to the first.
        seeds: each arm runs once with each.
        folder: of the comparison.
        known_spread: comparison.json of an earlier comparison of these configs over several
            seeds, by which a comparison with one seed judges its difference; or what
            :func:`read_known_spread` reads in one.
        resamples: of the images, for the intervals; as many permutations are drawn.
        margin: in AP, see :func:`softpool_det.statistics.result_files.compare_matched`.
        workers: runs at a time; several share the cores, unless OMP_NUM_THREADS is set.

    Returns:
        What comparison.json holds (docs/compare.md).

    Raises:
        FileNotFoundError: a config or a checkpoint is not there.
        FileExistsError, RuntimeError, Interrupted: see
            :func:`softpool_det.comparison.side_by_side.run_side_by_side`.
        ValueError: fewer than two arms, two of one name, one run that would be counted twice, or
            arms that are not evaluated on one and the same data set; or `workers` is below 1.
    """
    check_arms(arms, seeds, folder)
    check_margin(margin)
    # Before hours of training, not after them.
    spread = read_known_spread(known_spread) if isinstance(known_spread, Path) else known_spread
    runs = runs_of(arms, seeds, folder)
    shared = workers > 1 and "OMP_NUM_THREADS" not in os.environ
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // min(workers, len(runs))) if shared else None
    run_side_by_side(runs, workers, threads, folder)
    return summarize(arms, seeds, folder, known_spread=spread, resamples=resamples, margin=margin)


def check_arms(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> None:
    """Raise what :func:`compare` does of arms that cannot be compared, before anything runs."""
    register_datasets()
    check_names([arm.name for arm in arms], folders=True)
    _check_runs(arms, seeds)
    dataset = common_test_set(arms, seeds[0], folder)
    path = Path(MetadataCatalog.get(dataset).get("json_file", ""))
    # Data sets of this package, and those that are downloaded, may not be there yet.
    if path.is_file() and not read_annotations(path, ("images", "categories"))["annotations"]:
        raise DataError(f"{path} has no object to test on: annotate some, or name another file")


def runs_of(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> list[Run]:
    """All runs of a comparison in `folder`, seed by seed."""
    return [Run(arm, seed, run_folder_of(folder, arm, seed)) for seed in seeds for arm in arms]


def summarize(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    *,
    known_spread: Mapping[str, float] | None = None,
    resamples: int = 1000,
    margin: float | None = None,
    planned_seeds: int | None = None,
) -> dict:
    """Write and return the comparison of runs that are finished.

    Args:
        arms, seeds, folder, resamples, margin: see :func:`compare`.
        known_spread: by task, see `evaluation.verdict`.
        planned_seeds: of a study that is still running; the report is marked preliminary, and
            nothing is measured beside its trainings.
    """
    dataset = common_test_set(arms, seeds[0], folder)
    runs: dict[str, dict[int, dict]] = {arm.name: {} for arm in arms}
    for run in runs_of(arms, seeds, folder):
        runs[run.arm.name][run.seed] = json.loads(run.result.read_text())
    ground_truth = Path(PathManager.get_local_path(MetadataCatalog.get(dataset).json_file))
    if not ground_truth.is_file():  # Runs that were finished earlier did not need it.
        ensure_dataset(dataset)
    results = {
        arm.name: [run_folder_of(folder, arm, seed) / RESULTS_FILE for seed in seeds]
        for arm in arms
    }
    matched = match_files(ground_truth, results, seeds)
    data = compare_matched(
        matched,
        resamples=resamples,
        permutations=resamples,
        seeds=seeds,
        known_spread=known_spread,
        margin=margin,
        progress=planned_seeds is None,
    )
    detectors = {
        arm.name: detector_of(arm, seeds[0], run_folder_of(folder, arm, seeds[0])) for arm in arms
    }
    data["remarks"] = [*_run_remarks(runs), *data["remarks"]]
    files = [(ground_truth, "ground truth")]
    for arm in arms:
        for seed, path in zip(seeds, results[arm.name], strict=True):
            files.append((path, f"results of {arm.name}, seed {seed}"))
            files += _weights(arm, seed, folder)
        for seed in seeds:
            files += [file for file in _trained_on(arm, seed) if file not in files]
    data |= {
        "seeds": list(seeds),
        "runs": runs,
        "training": _training(arms, seeds, folder),
        "config_difference": {
            arm.name: config_difference(arms[0], arm, seeds[0]) for arm in arms[1:]
        },
        "provenance": provenance(files),
    }
    if planned_seeds is None:
        costs = dict(zip(detectors, measure_costs(list(detectors.values())), strict=True))
        data["costs"] = {name: _cost(costs[name], list(runs[name].values())) for name in runs}
        data["softness"] = {name: asdict(s) for name, s in measure_softness(detectors).items()}
    else:
        text = f"Preliminary: {len(seeds)} of {planned_seeds} seeds."
        text += " Do not stop the study because of these figures."
        data["remarks"] = [text, *data["remarks"]]
    write_figures(folder, data)
    write_report(
        folder,
        data,
        gallery(data, matched, Path(MetadataCatalog.get(dataset).image_root)),
        dataset_activation_rows([(n, *detector) for n, detector in detectors.items()], dataset),
    )
    return data


def _run_remarks(runs: Mapping[str, Mapping[int, Mapping]]) -> list[str]:
    """Collect the runs' remarks on their own figures, once for each arm: its seeds share them."""
    found = {
        f"{name}: {remark}": None
        for name, by_seed in runs.items()
        for run in by_seed.values()
        for remark in run.get("remarks", ())
    }
    return list(found)


def _check_runs(arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    """Each seed is a training of its own, of files that are there."""
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)}: each seed is one run and can be there once")
    for arm in arms:
        for path in filter(None, (arm.config_file, *map(arm.weights_of, seeds))):
            if not PathManager.isfile(path):
                raise FileNotFoundError(f"{path}, of the arm {arm.name!r}, is not a file")
        if arm.weights is not None and SEED not in arm.weights and len(seeds) > 1:
            raise ValueError(
                f"seeds={list(seeds)}, but {arm.name!r} is one checkpoint, {arm.weights}, "
                f"which is the same run each time. Write {SEED} for the seed in its path, give one "
                "seed, or compare result files with --gt"
            )


def run_folder_of(folder: Path, arm: Arm, seed: int) -> Path:
    """Return the folder of a run in a comparison's folder."""
    return folder / arm.name / f"seed_{seed}"


def common_test_set(arms: Sequence[Arm], seed: int, folder: Path) -> str:
    """Return the data set that all arms are tested on; raise ValueError if they differ."""
    names = {}
    for arm in arms:
        found = data_sets_of(arm.load(seed, folder), "test")
        if len(found) != 1:
            raise ValueError(
                f"{arm.config_file} must name one data set to test on (DATASETS.TEST or "
                f"dataloader.test.dataset.names), got {found}"
            )
        names[arm.name] = found[0]
    if len(set(names.values())) > 1:
        raise ValueError(f"all arms must be tested on the same data set, got {names}")
    return next(iter(names.values()))


def detector_of(arm: Arm, seed: int, run_folder: Path) -> Detector:
    """Return the config and the checkpoint of a finished run."""
    cfg = arm.load(seed, run_folder)
    if (weights := arm.weights_of(seed)) is not None:
        return cfg, weights
    return cfg, run_folder / (run_folder / "last_checkpoint").read_text().strip()


def _weights(arm: Arm, seed: int, folder: Path) -> list[tuple[Path, str]]:
    path = Path(detector_of(arm, seed, run_folder_of(folder, arm, seed))[1])
    return [(path, f"weights of {arm.name}, seed {seed}")] if path.is_file() else []


def _trained_on(arm: Arm, seed: int) -> list[tuple[Path, str]]:
    """List the files that a training began with, as far as they exist here."""
    if arm.weights is not None:
        return []
    cfg = arm.load(seed)
    if isinstance(cfg, CfgNode):
        initial = cfg.MODEL.WEIGHTS
    else:
        initial = OmegaConf.select(cfg, "train.init_checkpoint")
    files = [(initial, f"weights that {arm.name} began with")] if initial else []
    for name in data_sets_of(cfg, "train"):
        files.append((MetadataCatalog.get(name).get("json_file", ""), f"annotations of {name}"))
    return [(Path(path), what) for path, what in files if Path(path).is_file()]


def _cost(cost: Cost, runs: Sequence[Mapping]) -> dict:
    seconds = [run["train_seconds"] for run in runs if run["train_seconds"] is not None]
    return {
        **asdict(cost),
        "train_seconds": sum(seconds) / len(seconds) if seconds else None,
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        "device": runs[0]["device"],
    }


def _training(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> dict[str, list[dict]]:
    curves = {
        arm.name: [training_curve(run_folder_of(folder, arm, seed), seed) for seed in seeds]
        for arm in arms
    }
    found = {name: [c for c in taken if c is not None] for name, taken in curves.items()}
    return {name: taken for name, taken in found.items() if taken}
