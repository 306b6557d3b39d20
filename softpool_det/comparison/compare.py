"""Train or take both arms, measure them, and write the comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from softpool_det.comparison.arms import Arm, run_arm
from softpool_det.comparison.cost import measure_costs
from softpool_det.comparison.pictures import draw_comparison
from softpool_det.comparison.table import (
    ArmResult,
    comparison_data,
    comparison_markdown,
    known_spread_note,
)
from softpool_det.data import register_datasets
from softpool_det.engine.files import write_atomically, write_json


def compare(
    baseline: Arm,
    candidate: Arm,
    seeds: Sequence[int],
    folder: Path,
    program: Path,
    known_spread: Path | None = None,
) -> str:
    """Compare two arms seed by seed.

    Runs in `folder/<arm>/seed_<n>` that are finished are taken as they are and interrupted ones go
    on. Writes `comparison.json`, `comparison.md` and `pictures.png` into `folder`.

    Args:
        baseline, candidate: the arms; differences are candidate minus baseline.
        seeds: each arm runs once with each.
        folder: of the comparison.
        program: tools/train_net.py.
        known_spread: comparison.json of an earlier comparison of these configs over several
            seeds; what it says of their spread is put under the table.

    Returns:
        The table as Markdown, with what the seeds say below it.

    Raises:
        FileExistsError, RuntimeError: see :func:`softpool_det.comparison.arms.run_arm`.
        ValueError: an arm is evaluated on several data sets.
    """
    register_datasets()
    arms = (baseline, candidate)
    for arm in arms:
        _check_one_test_set(arm, seeds[0], folder)
    runs: dict[str, dict[int, dict]] = {arm.name: {} for arm in arms}
    steps = [(seed, arm) for seed in seeds for arm in arms]
    for number, (seed, arm) in enumerate(steps, 1):
        label = f"run {number} of {len(steps)}: {arm.name}, seed {seed}"
        run_folder = run_folder_of(folder, arm, seed)
        runs[arm.name][seed] = run_arm(arm, seed, run_folder, label, program)

    detectors = [_detector(arm, seeds[0], folder) for arm in arms]
    costs = measure_costs(detectors)
    results = [
        ArmResult(arm.name, runs[arm.name], cost) for arm, cost in zip(arms, costs, strict=True)
    ]
    data = comparison_data(results)
    text = comparison_markdown(data)
    if known_spread is not None and len(seeds) == 1:
        text += known_spread_note(json.loads(known_spread.read_text()))
    draw_comparison([arm.name for arm in arms], detectors, folder / "pictures.png")
    write_json(folder / "comparison.json", data)
    write_atomically(folder / "comparison.md", text)
    return text


def run_folder_of(folder: Path, arm: Arm, seed: int) -> Path:
    return folder / arm.name / f"seed_{seed}"


def _check_one_test_set(arm: Arm, seed: int, folder: Path) -> None:
    cfg = arm.load(seed, folder)
    if isinstance(cfg, CfgNode) and len(cfg.DATASETS.TEST) != 1:
        raise ValueError(
            f"DATASETS.TEST of {arm.config_file} must name one data set to compare on, got "
            f"{tuple(cfg.DATASETS.TEST)}"
        )


def _detector(arm: Arm, seed: int, folder: Path):
    run_folder = run_folder_of(folder, arm, seed)
    cfg = arm.load(seed, run_folder)
    if arm.weights is not None:
        return cfg, arm.weights
    return cfg, run_folder / (run_folder / "last_checkpoint").read_text().strip()
