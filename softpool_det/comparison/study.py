"""A study: many arms and seeds, run by several processes, reported as seeds are finished."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from sys import stderr
from typing import Any

import yaml
from tqdm import tqdm

from softpool_det.comparison.arms import Arm, Run
from softpool_det.comparison.compare import check_arms, runs_of, summarize
from softpool_det.statistics.verdict import check_margin
from softpool_det.training.signals import Interrupted, passing_on

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
# Between two looks at the processes, in seconds.
_INTERVAL = 1.0


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
    AP, and `resamples`. `overrides` are a mapping of config keys to values.

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
        RuntimeError: runs failed; all others are finished first.
        Interrupted: a signal came, which the running processes got, too; they have saved.
        FileExistsError: a folder holds a run of another config.
        FileNotFoundError, ValueError: see :func:`softpool_det.comparison.compare`.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}, must be at least 1")
    check_arms(study.arms, study.seeds, study.folder)
    runs = study.runs()
    finished = [run for run in runs if run.result.is_file()]
    for run in finished:
        with run.claimed():  # whether they are runs of these arms
            pass
    queue = _Queue(workers, deque(run for run in runs if run not in finished))
    reported = 0
    with (
        passing_on(lambda: [process.pid for process in queue.running]) as signals,
        tqdm(
            total=len(runs),
            initial=len(finished),
            desc=study.folder.name,
            unit="run",
            smoothing=0,  # the time to go is by the mean of all runs
            mininterval=0.1 if stderr.isatty() else 60,  # in a log, a line a minute at most
        ) as bar,
    ):
        try:
            while queue.waiting or queue.running:
                queue.start(signals)
                seeds = _finished_seeds(study)
                news = reported < len(seeds) < len(study.seeds)
                if news and not signals and not study.kept:
                    reported = len(seeds)
                    _report(study, seeds)
                time.sleep(_INTERVAL)
                bar.update(queue.collect(signals))
                if signals and not queue.running:
                    print(
                        f"{study.folder}: interrupted; the same command continues it", file=stderr
                    )
                    raise Interrupted
                if stderr.isatty():
                    bar.refresh()
        finally:
            queue.stop()
    if queue.failures:
        raise RuntimeError("\n".join(queue.failures))
    return {} if study.kept else _report(study, list(study.seeds))


class _Queue:
    """Runs that wait and runs that are running, each with what holds its folder."""

    def __init__(self, workers: int, waiting: deque[Run]) -> None:
        self.workers, self.waiting = workers, waiting
        self.running: dict[Popen, tuple[Run, ExitStack]] = {}
        self.failures: list[str] = []

    def start(self, signals: list[int]) -> None:
        """Start what there is room for, unless a signal has come."""
        for _ in range(len(self.waiting)):
            if signals or len(self.running) >= self.workers:
                return
            run, held = self.waiting.popleft(), ExitStack()
            try:
                lock = held.enter_context(run.claimed(wait=False))
            except BlockingIOError:
                self.waiting.append(run)
                continue
            process = run.start(lock, threads=1)
            self.running[process] = run, held
            for number in signals:  # that came before the process was known
                process.send_signal(number)

    def collect(self, signals: list[int]) -> int:
        """Let go of what has ended; how many of them are finished."""
        count = 0
        for process in [process for process in self.running if process.poll() is not None]:
            run, held = self.running.pop(process)
            held.close()
            if signals and process.returncode in (0, *(-number for number in signals)):
                continue
            try:
                run.check(process.returncode)
                count += 1
            except RuntimeError as error:
                self.failures.append(str(error))
                print(error, file=stderr)
        return count

    def stop(self) -> None:
        """Let all save and end."""
        for process in self.running:
            process.terminate()
        for process, (_, held) in self.running.items():
            process.wait()
            held.close()


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
