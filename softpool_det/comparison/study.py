"""A study: many arms and seeds, run by several processes, reported as seeds are finished."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import yaml
from tqdm import tqdm

from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.compare import check_arms, runs_of, summarize
from softpool_det.engine.signals import Interrupted, passing_on

_KEYS = ("output", "seeds", "arms", "margin", "overrides", "resamples")
# Between two looks at the processes, in seconds.
_INTERVAL = 1.0


@dataclass(frozen=True)
class Study:
    """What a study runs.

    Attributes:
        folder: of the runs and of the report.
        seeds: each arm runs once with each.
        arms: differences are to the first.
        margin: see :func:`softpool_det.comparison.compare`.
        resamples: of the images.
    """

    folder: Path
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    margin: float | None = None
    resamples: int = 1000

    def runs(self) -> list[Run]:
        return runs_of(self.arms, self.seeds, self.folder)


def read_study(path: str | Path, trust_lazy_config: bool = False) -> Study:
    """Read a study from YAML.

    Keys: `output`, a folder; `seeds`, a list of integers; `arms`, by name a mapping with `config`
    and, if wanted, `overrides` and `weights`; and, if wanted, `overrides` of all arms, `margin` in
    AP, and `resamples`. `overrides` are a mapping of config keys to values.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file; names the key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    _check_keys(path, "it", content, _KEYS, needed=_KEYS[:3])
    seeds, arms = content["seeds"], content["arms"]
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
        raise ValueError(f"{path}: seeds must be a list of integers, got {seeds!r}")
    if not isinstance(arms, dict):
        raise ValueError(f"{path}: arms must be a mapping from names to configs, got {arms!r}")
    for name, arm in arms.items():
        _check_keys(path, f"arm {name!r}", arm, ("config", "overrides", "weights"), ("config",))
    for key, kinds in (("margin", (int, float)), ("resamples", (int,))):
        value = content.get(key)
        if value is not None and (type(value) not in kinds or value <= 0):
            raise ValueError(f"{path}: {key} must be a positive number, got {value!r}")
    common = content.get("overrides") or {}
    for overrides in (common, *(arm.get("overrides") or {} for arm in arms.values())):
        if not isinstance(overrides, dict):
            raise ValueError(f"{path}: overrides must be a mapping, got {overrides!r}")
    return Study(
        folder=Path(content["output"]),
        seeds=tuple(seeds),
        arms=tuple(
            Arm(
                str(name),
                arm["config"],
                _spelled({**common, **(arm.get("overrides") or {})}, arm["config"]),
                arm.get("weights"),
                trust_lazy_config,
            )
            for name, arm in arms.items()
        ),
        margin=content.get("margin"),
        resamples=content.get("resamples", 1000),
    )


def _check_keys(
    path: Path, where: str, content: Any, known: Sequence[str], needed: Sequence[str]
) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {where} must be a mapping with {', '.join(known)}")
    for key in content:
        if key not in known:
            raise ValueError(f"{path}: {where} has the key {key!r}; known are {', '.join(known)}")
    for key in needed:
        if content.get(key) is None:
            raise ValueError(f"{path}: {where} lacks {key!r}")


def _spelled(overrides: Mapping[str, Any], config: str) -> tuple[str, ...]:
    """Overrides as a command line has them."""
    if config.endswith(".py"):
        return tuple(f"{key}={value}" for key, value in overrides.items())
    return tuple(str(part) for item in overrides.items() for part in item)


def run_study(study: Study, program: Path, workers: int) -> dict:
    """Run what is missing of a study, `workers` processes at a time, one thread each.

    The report is written after every seed that all arms have finished, marked preliminary until
    that is the last one. Interrupted by a signal, the same call continues.

    Args:
        study: what to run.
        program: tools/train_net.py.
        workers: processes at a time, from 1.

    Returns:
        What comparison.json holds.

    Raises:
        RuntimeError: a run failed; the others are stopped, and continue when called again.
        Interrupted: a signal came, which the running processes got, too; they have saved.
        FileExistsError, FileNotFoundError, ValueError: see :func:`softpool_det.comparison.compare`.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}, must be at least 1")
    check_arms(study.arms, study.seeds, study.folder)
    runs = study.runs()
    waiting = deque(run for run in runs if not run.result.is_file())
    reported = len(_finished_seeds(study))
    running: dict[Popen, tuple[Run, ExitStack]] = {}
    with (
        passing_on(lambda: [process.pid for process in running]) as signals,
        tqdm(
            total=len(runs),
            initial=len(runs) - len(waiting),
            desc=study.folder.name,
            unit="run",
            smoothing=0,  # the time to go is by the mean of all runs
        ) as bar,
    ):
        try:
            while waiting or running:
                while waiting and len(running) < workers and not signals:
                    _start(waiting.popleft(), program, running, bar)
                time.sleep(_INTERVAL)
                for process in [process for process in running if process.poll() is not None]:
                    run, claimed = running.pop(process)
                    claimed.close()
                    if not signals:
                        run.check(process.returncode)
                        bar.update()
                if signals and not running:
                    print(f"{study.folder}: interrupted; the same command continues it")
                    raise Interrupted
                if sys.stderr.isatty():
                    bar.refresh()
                finished = _finished_seeds(study)
                if reported < len(finished) < len(study.seeds):
                    reported = len(finished)
                    _report(study, finished)
        finally:
            for process in running:
                process.terminate()
            for process, (_, claimed) in running.items():
                process.wait()
                claimed.close()
    return _report(study, list(study.seeds))


def _start(run: Run, program: Path, running: dict[Popen, tuple[Run, ExitStack]], bar: tqdm) -> None:
    claimed = ExitStack()
    claimed.enter_context(run.claimed())
    if run.result.is_file():  # of another program, in the meantime
        claimed.close()
        bar.update()
        return
    running[run.start(program, threads=1)] = run, claimed


def _finished_seeds(study: Study) -> list[int]:
    """The seeds that all arms have finished, in the study's order."""
    unfinished = {run.seed for run in study.runs() if not run.result.is_file()}
    return [seed for seed in study.seeds if seed not in unfinished]


def _report(study: Study, seeds: Sequence[int]) -> dict:
    return summarize(
        study.arms,
        seeds,
        study.folder,
        resamples=study.resamples,
        margin=study.margin,
        planned_seeds=None if len(seeds) == len(study.seeds) else len(study.seeds),
    )
