"""The arms of a comparison: each run is a process of its own that can be interrupted."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import portalocker
from detectron2.config import CfgNode, LazyConfig
from iopath.common.file_io import file_lock
from omegaconf import DictConfig

from softpool_det.config import load_config
from softpool_det.datasets.json_files import json_files_of, use_json_files
from softpool_det.datasets.limiting import limit_images
from softpool_det.io.atomic import claim
from softpool_det.io.errors import TRUST_LAZY_CONFIG
from softpool_det.training import EVALUATION_FILE, RESULT_FILE
from softpool_det.training.signals import shielding

IDENTITY_FILE = "identity.txt"
LOG_FILE = "stdout.txt"
# Runs in a process of its own, which can be interrupted.
PROGRAM = "softpool_det.cli.train"
# In overrides and weights, stands for the run's seed.
SEED = "{seed}"
QUIET = "ignore::UserWarning,ignore::DeprecationWarning,ignore::FutureWarning"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Args:
        name: what its row is called; also the name of its folder.
        config_file: YAML or LazyConfig.
        overrides: as for :func:`softpool_det.config.load_config`; `{seed}` in them is the run's.
        weights: a checkpoint to evaluate, or with `{seed}` one for each; None to train.
        trust_lazy_config: as for :func:`softpool_det.config.load_config`.
    """

    name: str
    config_file: str
    overrides: tuple[str, ...] = ()
    weights: str | None = None
    trust_lazy_config: bool = False

    def options(self, seed: int) -> list[str]:
        """Return the overrides with which this arm runs, but for the output folder."""
        changes = {"seed": str(seed)}
        if (weights := self.weights_of(seed)) is not None:
            changes["weights"] = weights
        overrides = [text.replace(SEED, str(seed)) for text in self.overrides]
        return [*overrides, *self._spell(changes)]

    def weights_of(self, seed: int) -> str | None:
        """Return the checkpoint that is evaluated with a seed; None to train."""
        return None if self.weights is None else self.weights.replace(SEED, str(seed))

    def output_options(self, folder: Path) -> list[str]:
        """Return the override that sets the output folder."""
        return self._spell({"output": str(folder)})

    def load(self, seed: int, folder: Path | None = None) -> CfgNode | DictConfig:
        """Load the config of a run; without `folder`, all but its output folder and paths in it."""
        options = self.options(seed) + ([] if folder is None else self.output_options(folder))
        cfg = use_json_files(load_config(self.config_file, options, self.trust_lazy_config))
        return cfg if folder is None else limit_images(cfg, training=self.weights is None)

    def _spell(self, changes: dict[str, str]) -> list[str]:
        if self.config_file.endswith(".py"):
            keys = {
                "seed": "train.seed",
                "weights": "train.init_checkpoint",
                "output": "train.output_dir",
            }
            return [f"{keys[name]}={value}" for name, value in changes.items()]
        keys = {"seed": "SEED", "weights": "MODEL.WEIGHTS", "output": "OUTPUT_DIR"}
        return [part for name, value in changes.items() for part in (keys[name], value)]


def describe(cfg: CfgNode | DictConfig) -> str:
    """Return the whole config as text; equal texts mean equal runs."""
    return cfg.dump() if isinstance(cfg, CfgNode) else LazyConfig.to_py(cfg)


def config_difference(baseline: Arm, candidate: Arm, seed: int) -> str:
    """Unified diff of two arms' whole configs, without context; "" where they are equal."""
    before, after = (describe(arm.load(seed)).splitlines() for arm in (baseline, candidate))
    lines = difflib.unified_diff(before, after, baseline.name, candidate.name, n=0, lineterm="")
    return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """One training or evaluation of an arm.

    Args:
        arm: the arm.
        seed: seeds weights and data order.
        folder: of this run; an unfinished run in it resumes from its last checkpoint.
    """

    arm: Arm
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        """What a finished run has written."""
        return self.folder / (RESULT_FILE if self.arm.weights is None else EVALUATION_FILE)

    @contextmanager
    def claimed(self, wait: bool = True) -> Iterator[int]:
        """Hold the folder, as long as the block or a process with the lock's descriptor lives.

        Args:
            wait: for another program that holds it.

        Yields:
            The lock's file descriptor, for `start`.

        Raises:
            FileExistsError: the folder holds a run of another config.
            BlockingIOError: another program holds the folder, and `wait` is False.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = file_lock(str(self.folder))
        if not wait:
            lock = portalocker.Lock(lock.filename, timeout=0, fail_when_locked=True)
        try:
            handle = lock.acquire()
        except portalocker.AlreadyLocked as error:
            raise BlockingIOError(f"{self.folder} is held by another program") from error
        try:
            claim(self.folder / IDENTITY_FILE, self._identity())
            yield handle.fileno()
        finally:
            lock.release()

    def _identity(self) -> str:
        """Describe all that decides what a run finds."""
        cfg = self.arm.load(self.seed)
        identity = describe(cfg)
        for path in json_files_of(cfg):
            identity += f"sha256 of {path}: {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        if (weights := self.arm.weights_of(self.seed)) is not None:
            digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
            identity += f"sha256 of the weights: {digest}\n"
        return identity

    def start(self, lock: int, threads: int | None = None) -> Popen:
        """Start its process, which logs into the folder.

        Args:
            lock: of `claimed`, which the process holds, too: should this one be killed.
            threads: of the process; by default what the environment says.
        """
        arm = self.arm
        mode = "--resume" if arm.weights is None else "--eval-only"
        command = [sys.executable, "-m", PROGRAM, "--config-file", arm.config_file, mode]
        command += [TRUST_LAZY_CONFIG] if arm.trust_lazy_config else []
        command += ["--progress", "", *arm.options(self.seed), *arm.output_options(self.folder)]
        # What libraries have to say of their own future would break the progress line; torch's
        # word is of an nvcc without a GPU. Errors and this package's warnings come through.
        quiet = {"PYTHONWARNINGS": QUIET, "TORCH_LOGS": "-torch.utils.cpp_extension"}
        environment = {**quiet, **os.environ}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with (self.folder / LOG_FILE).open("a") as log, shielding():
            return Popen(command, stdout=log, env=environment, pass_fds=(lock,))

    def check(self, status: int) -> None:
        """Raise RuntimeError unless a process that ended with `status` finished the run."""
        where = f"{self.arm.name}, seed {self.seed}"
        log = self.folder / LOG_FILE
        if status != 0:
            raise RuntimeError(
                f"{where}, ended with status {status}: its error is above, its log is {log}"
            )
        if not self.result.is_file():
            raise RuntimeError(
                f"{where}, was interrupted by a signal to its process; the same command continues "
                f"it. Its log is {log}"
            )
