"""A study: many arms and seeds, run by several processes, reported as seeds are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.compare import check_arms, runs_of, summarize
from softpool_det.comparison.side_by_side import run_side_by_side
from softpool_det.statistics.verdict import check_margin

# Keys, and what their values may be.
_KEYS = {
    "output": (str,),
    "seeds": (list,),
    "arms": (dict,),
    "overrides": (dict,),
    "margin": (int, float),
    "resamples": (int,),
}
_ARM_KEYS = {"config": (str,), "overrides": (dict,), "weights": (str,)}
_KINDS = {str: "text", list: "a list", dict: "a mapping", int: "an integer", float: "a number"}


@dataclass(frozen=True)
class Study:
    """What a study runs.

    Attributes:
        folder: of the runs and of the report.
        seeds: each arm runs once with each.
        arms: differences are to the first.
        planned_seeds: how many seeds the whole study has; `seeds` may be one machine's share.
        margin: see :func:`softpool_det.comparison.compare`.
        resamples: of the images.
        kept: arms' names and seeds of runs whose records are kept, and which do not run again.
    """

    folder: Path
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    planned_seeds: int
    margin: float | None = None
    resamples: int = 1000
    kept: frozenset[tuple[str, int]] = frozenset()

    def runs(self) -> list[Run]:
        """List the runs to train: those that are not kept from earlier."""
        runs = runs_of(self.arms, self.seeds, self.folder)
        return [run for run in runs if (run.arm.name, run.seed) not in self.kept]


def read_study(
    path: str | Path, trust_lazy_config: bool = False, seeds: Sequence[int] | None = None
) -> Study:
    """Read a study from YAML.

    Keys: `output`, a folder; `seeds`, a list of integers; `arms`, by name a mapping with `config`
    and, if wanted, `overrides` and `weights`; and, if wanted, `overrides` of all arms, `margin` in
    AP, and `resamples`. `overrides` are a mapping of config keys to values. `{seed}` in overrides
    and weights is the run's seed.

    Args:
        path: the file.
        trust_lazy_config: see :func:`softpool_det.config.load_config`.
        seeds: take these of its seeds only: the share of one of several machines.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file, or lacks one of `seeds`; names the key.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    _check(path, "it", content, _KEYS, needed=("output", "seeds", "arms"))
    for name, arm in content["arms"].items():
        _check(path, f"arm {name!r}", arm, _ARM_KEYS, needed=("config",))
    planned = content["seeds"]
    if not (planned and all(type(seed) is int for seed in planned)):
        raise ValueError(f"{path}: seeds must be a list of integers, got {planned!r}")
    for seed in seeds or ():
        if seed not in planned:
            raise ValueError(f"seeds={list(seeds or ())}: {path} has the seeds {planned}")
    try:
        check_margin(content.get("margin"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if content.get("resamples", 1) < 1:
        raise ValueError(f"{path}: resamples must be at least 1, got {content['resamples']}")
    return Study(
        folder=Path(content["output"]),
        seeds=tuple(seeds or planned),
        arms=tuple(
            Arm(
                str(name),
                arm["config"],
                _spelled({**content.get("overrides", {}), **arm.get("overrides", {})}, arm),
                arm.get("weights"),
                trust_lazy_config,
            )
            for name, arm in content["arms"].items()
        ),
        margin=content.get("margin"),
        planned_seeds=len(planned),
        resamples=content.get("resamples", 1000),
    )


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping: one of the two would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one mapping")
        return super().construct_mapping(node, deep)


def _check(
    path: Path, where: str, content: Any, known: Mapping[str, tuple], needed: Sequence[str]
) -> None:
    """Raise ValueError unless `content` is a mapping of the known keys to values of their kinds."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {where} must be a mapping with {', '.join(known)}")
    for key, value in content.items():
        if key not in known:
            raise ValueError(f"{path}: {where} has the key {key!r}; known are {', '.join(known)}")
        if type(value) not in known[key]:
            kinds = " or ".join(_KINDS[kind] for kind in known[key])
            raise ValueError(f"{path}: {key} of {where} must be {kinds}, got {value!r}")
    for key in needed:
        if key not in content:
            raise ValueError(f"{path}: {where} lacks {key!r}")


def _spelled(overrides: Mapping[str, Any], arm: Mapping[str, str]) -> tuple[str, ...]:
    """Format overrides as a command line has them."""
    if arm["config"].endswith(".py"):
        values = {key: "null" if value is None else value for key, value in overrides.items()}
        return tuple(f"{key}={value}" for key, value in values.items())
    return tuple(str(part) for item in overrides.items() for part in item)


def run_study(study: Study, workers: int) -> dict:
    """Run what is missing of a study, `workers` processes at a time, one thread each.

    The report is written after every seed that all arms have finished, marked preliminary until
    that is the last one, and not at all where some runs are kept elsewhere. Interrupted by a
    signal, the same call continues.

    Args:
        study: what to run.
        workers: processes at a time, from 1.

    Returns:
        What comparison.json holds; nothing without a report.

    Raises:
        RuntimeError, Interrupted, FileExistsError: see
            :func:`softpool_det.comparison.side_by_side.run_side_by_side`.
        FileNotFoundError, ValueError: see :func:`softpool_det.comparison.compare`.
    """
    check_arms(study.arms, study.seeds, study.folder)
    reported = 0

    def report_seeds() -> None:
        nonlocal reported
        seeds = _finished_seeds(study)
        if reported < len(seeds) < len(study.seeds) and not study.kept:
            reported = len(seeds)
            _report(study, seeds)

    run_side_by_side(study.runs(), workers, 1, study.folder, report_seeds)
    return {} if study.kept else _report(study, list(study.seeds))


def _finished_seeds(study: Study) -> list[int]:
    """Return the seeds that all arms have finished, in the study's order."""
    unfinished = {run.seed for run in study.runs() if not run.result.is_file()}
    return [seed for seed in study.seeds if seed not in unfinished]


def _report(study: Study, seeds: Sequence[int]) -> dict:
    return summarize(
        study.arms,
        seeds,
        study.folder,
        resamples=study.resamples,
        margin=study.margin,
        planned_seeds=None if len(seeds) == study.planned_seeds else study.planned_seeds,
    )
