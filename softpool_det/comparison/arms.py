"""The arms of a comparison: each run is a process of its own that can be interrupted."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig
from iopath.common.file_io import file_lock
from omegaconf import DictConfig

from softpool_det.cli import TRUST_LAZY_CONFIG
from softpool_det.config import load_config
from softpool_det.engine import EVALUATION_FILE, RESULT_FILE
from softpool_det.engine.signals import Interrupted, passing_on
from softpool_det.files import claim

IDENTITY_FILE = "identity.txt"
LOG_FILE = "stdout.txt"
QUIET = "ignore::UserWarning,ignore::DeprecationWarning,ignore::FutureWarning"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Args:
        name: what its row is called; also the name of its folder.
        config_file: YAML or LazyConfig.
        overrides: as for :func:`softpool_det.config.load_config`.
        weights: a checkpoint to evaluate; None to train.
        trust_lazy_config: as for :func:`softpool_det.config.load_config`.
    """

    name: str
    config_file: str
    overrides: tuple[str, ...] = ()
    weights: str | None = None
    trust_lazy_config: bool = False

    def options(self, seed: int) -> list[str]:
        """The overrides with which this arm runs, but for the output folder."""
        changes = {"seed": str(seed)}
        if self.weights is not None:
            changes["weights"] = self.weights
        return [*self.overrides, *self._spell(changes)]

    def output_options(self, folder: Path) -> list[str]:
        return self._spell({"output": str(folder)})

    def load(self, seed: int, folder: Path | None = None) -> CfgNode | DictConfig:
        """The config of a run; without `folder`, but for its output folder."""
        options = self.options(seed) + ([] if folder is None else self.output_options(folder))
        return load_config(self.config_file, options, self.trust_lazy_config)

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
    """The whole config as text; equal texts mean equal runs."""
    return cfg.dump() if isinstance(cfg, CfgNode) else LazyConfig.to_py(cfg)


def config_difference(baseline: Arm, candidate: Arm, seed: int) -> str:
    """Unified diff of two arms' whole configs, without context; "" where they are equal."""
    before, after = (describe(arm.load(seed)).splitlines() for arm in (baseline, candidate))
    lines = difflib.unified_diff(before, after, baseline.name, candidate.name, n=0, lineterm="")
    return "\n".join(lines)


def run_arm(arm: Arm, seed: int, folder: Path, label: str, program: Path) -> dict:
    """Train and evaluate one arm with one seed, or take what is there already.

    Args:
        arm: the arm.
        seed: seeds weights and data order.
        folder: of this run; an unfinished run in it goes on from its last checkpoint.
        label: of the progress line.
        program: tools/train_net.py, which a process of its own runs.

    Returns:
        What :func:`softpool_det.engine.run` writes: metrics, train_seconds, peak_memory_bytes and
        device.

    Raises:
        FileExistsError: the folder holds a run of another config.
        RuntimeError: the run failed or was interrupted; names its log.
        Interrupted: a signal came, which the run's process got, too; its checkpoint is saved.
    """
    identity = describe(arm.load(seed))
    if arm.weights is not None:
        digest = hashlib.sha256(Path(arm.weights).read_bytes()).hexdigest()
        identity += f"sha256 of the weights: {digest}\n"
    result = folder / (RESULT_FILE if arm.weights is None else EVALUATION_FILE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A second program that wants the same run waits for it.
    with file_lock(str(folder)):
        claim(folder / IDENTITY_FILE, identity)
        if not result.is_file():
            _run(program, arm, seed, folder, label, result)
    return json.loads(result.read_text())


def _run(program: Path, arm: Arm, seed: int, folder: Path, label: str, result: Path) -> None:
    mode = "--resume" if arm.weights is None else "--eval-only"
    command = [sys.executable, str(program), "--config-file", arm.config_file, mode]
    command += [TRUST_LAZY_CONFIG] if arm.trust_lazy_config else []
    command += ["--progress", label, *arm.options(seed), *arm.output_options(folder)]
    log = folder / LOG_FILE
    # What libraries have to say of their own future would break the progress line; torch's word is
    # of an nvcc without a GPU. Errors and this package's warnings come through.
    quiet = {"PYTHONWARNINGS": QUIET, "TORCH_LOGS": "-torch.utils.cpp_extension"}
    environment = {**quiet, **os.environ}
    running: list[subprocess.Popen] = []
    with log.open("a") as stdout, passing_on(lambda: [part.pid for part in running]) as signals:
        running.append(subprocess.Popen(command, stdout=stdout, env=environment))
        status = running[0].wait()
    # Before it listens, a signal ends it at once.
    if signals and status in (0, *(-number for number in signals)):
        print(f"{label}: interrupted; the same command goes on", file=sys.stderr)
        raise Interrupted
    if status != 0:
        raise RuntimeError(
            f"{arm.name}, seed {seed}, ended with status {status}: its error is above, its log is "
            f"{log}"
        )
    if not result.is_file():
        raise RuntimeError(
            f"{arm.name}, seed {seed}, was interrupted by a signal to its process; the same "
            f"command goes on. Its log is {log}"
        )
