"""Where the figures of a comparison come from: versions, machine, files and the command."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGES = (
    "softpool_det",
    "torch",
    "torchvision",
    "sal-detectron2",
    "detectron2",
    "pycocotools",
    "hotcoco",
    "numpy",
    "numba",
    "scipy",
)


def provenance(files: Iterable[tuple[Path, str]]) -> dict:
    """Record what another person needs to reproduce the figures.

    Args:
        files: paths and what each is ("ground truth", "weights of stock, seed 1").

    Returns:
        command, versions, hardware, date (UTC), git_commit (None outside a clone) and the files'
        SHA-256.
    """
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "files": [
            {"path": str(path), "sha256": sha256(path), "what": what} for path, what in files
        ],
    }


def sha256(path: Path) -> str:
    """Checksum of a file, read in pieces: results can be larger than memory should hold."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": _gpu_name(),
    }


def _cpu_name() -> str:
    # Linux knows it here; platform.processor() is empty on many of its distributions.
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", path.read_text(), re.M) if path.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    # A comparison of result files needs no torch, and uses no GPU.
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


def _git_commit() -> str | None:
    """Of the clone that holds this package, with a mark where it has uncommitted changes."""
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
