"""Builds and loads the emulator: the CUDA kernels' bodies as operators on CPU tensors."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
# Whether the library is built with AddressSanitizer and UndefinedBehaviorSanitizer, whose runtimes
# have to be in the process before it starts.
SANITIZE = os.environ.get("SOFTPOOL_EMULATION_SANITIZE") == "1"
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Of a device: positions in 32 bits, and the bytes of shared memory that a block gets.
INDEX_LIMIT = 2**31 - 1
SHARED_BYTES = 48 << 10


def can_build() -> bool:
    return shutil.which("c++") is not None


def build() -> None:
    """Register torch.ops.softpool_emulation; compiles where sources have changed."""
    # ninja is installed beside the interpreter, which need not be on the PATH.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    name = "sanitized" if SANITIZE else "plain"
    folder = ROOT / "build" / "cuda_emulation" / name
    folder.mkdir(parents=True, exist_ok=True)
    cpp_extension.load(
        f"softpool_emulation_{name}",
        [str(ROOT / "tests/cuda_emulation/emulator.cpp")],
        extra_cflags=[
            "-O1",
            "-DTORCH_TARGET_VERSION=0x020a000000000000",
            *(SANITIZERS if SANITIZE else []),
        ],
        extra_ldflags=SANITIZERS if SANITIZE else [],
        extra_include_paths=[str(ROOT / "csrc")],
        build_directory=str(folder),
        is_python_module=False,
    )


@contextmanager
def limits(index: int = INDEX_LIMIT, shared: int = SHARED_BYTES) -> Iterator[None]:
    """A device with less, so that small tensors take the paths of large ones."""
    set_limits = torch.ops.softpool_emulation.set_limits
    set_limits(torch.empty(0), index, shared)
    try:
        yield
    finally:
        set_limits(torch.empty(0), INDEX_LIMIT, SHARED_BYTES)
