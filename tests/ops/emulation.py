"""Builds and loads the emulator: the CUDA kernels' bodies as operators on CPU tensors."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests/ops/emulator.cpp"
# Whether the library is built with AddressSanitizer and UndefinedBehaviorSanitizer, whose runtimes
# have to be in the process before it starts.
SANITIZE = os.environ.get("SOFTPOOL_EMULATION_SANITIZE") == "1"
SANITIZERS = ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Of a device: positions in 32 bits, and the taps of a window that are one thread's.
INDEX_LIMIT = 2**31 - 1
LARGE_TAPS = 1 << 10

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
# Without a GPU there is no parameter for one, rather than a skip in every test.
REAL_DEVICES = ["cpu"]
if torch.cuda.is_available():
    REAL_DEVICES.append(pytest.param("cuda", marks=pytest.mark.cuda))
DEVICES = [*REAL_DEVICES, pytest.param("emulated", marks=needs_compiler)]
# For large tensors, which take the emulator its time.
slowly_emulated = pytest.mark.parametrize(
    "device",
    [*REAL_DEVICES, pytest.param("emulated", marks=[needs_compiler, pytest.mark.slow])],
    indirect=True,
)
# For what calls torch.ops.softpool_det itself, as graphs do.
on_real_devices = pytest.mark.parametrize("device", REAL_DEVICES, indirect=True)


def load() -> None:
    """Register torch.ops.softpool_emulation; compiles where a source is newer than the library."""
    library = ROOT / "build" / "cuda_emulation" / ("sanitized.so" if SANITIZE else "plain.so")
    sources = [SOURCE, *(ROOT / "csrc").glob("*.h"), *(ROOT / "csrc/cuda").glob("*.cuh")]
    newest = max(source.stat().st_mtime for source in sources)
    library.parent.mkdir(parents=True, exist_ok=True)
    # One of several test processes compiles it, the others wait.
    with library.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists() or library.stat().st_mtime < newest:
            compile_to(library)
    torch.ops.load_library(library)


def compile_to(library: Path) -> None:
    unfinished = library.with_suffix(f".{os.getpid()}")
    folders = cpp_extension.library_paths()
    command = [
        "c++",
        *("-std=c++17", "-fPIC", "-shared", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
        *(SANITIZERS if SANITIZE else ["-O1"]),
        *(f"-I{folder}" for folder in [ROOT / "csrc", *cpp_extension.include_paths()]),
        str(SOURCE),
        *("-o", str(unfinished)),
        *(f"-L{folder}" for folder in folders),
        *("-ltorch_cpu", "-lc10"),
    ]
    # The sanitizers' runtimes are not for the compiler.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    subprocess.run(command, env=environment, check=True)
    unfinished.replace(library)


@contextmanager
def limits(index: int = INDEX_LIMIT, taps: int = LARGE_TAPS) -> Iterator[None]:
    """A device with less, so that small tensors take the paths of large ones."""
    set_limits = torch.ops.softpool_emulation.set_limits
    set_limits(torch.empty(0), index, taps)
    try:
        yield
    finally:
        set_limits(torch.empty(0), INDEX_LIMIT, LARGE_TAPS)
