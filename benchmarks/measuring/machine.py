"""What a benchmark ran on."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import platform
import re
import sys
from pathlib import Path

import torch


def require(device: str) -> None:
    """End the program, with the reason, if the device does not exist."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda, but PyTorch finds no GPU here; leave it out for the CPU")


def description(device: str) -> dict:
    """Date, device and versions, for a report."""
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "softpool_det": importlib.metadata.version("softpool_det"),
        "compiler": compiler(),
    }
    if device == "cuda":
        result["cuda"] = torch.version.cuda
    return result


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def compiler() -> str | None:
    """The compiler's own mark in the operator's library, where it left one."""
    spec = importlib.util.find_spec("softpool_det._C")
    if spec is None or spec.origin is None:
        return None
    mark = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(spec.origin).read_bytes())
    return mark[0].decode() if mark else None


def available_bytes(device: str) -> int:
    """Memory that is free for tensors; a container's limit counts where there is one."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        meminfo = Path("/proc/meminfo").read_text()
    except OSError:
        return 8 * 2**30
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    free = int(found[1]) * 1024 if found else 8 * 2**30
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        return free
