"""The switch between the CPU kernels' instruction sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softpool_det.ops import _library

FOLDER = Path(__file__).parent
# What says most about a kernel's values; the widest instruction set runs all tests anyway.
SELECTION = "random_cases or composition or finite or infinity or bits"

pytestmark = pytest.mark.skipif(
    "cpu" not in _library.COMPILED_DEVICES, reason="no compiled CPU kernel"
)


def run(*arguments: str, capability: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "SOFTPOOL_CPU_CAPABILITY": capability}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "SOFTPOOL_EXAMPLES": "60"},
        capture_output=True,
        text=True,
    )


def pooled(capability: str) -> subprocess.CompletedProcess:
    program = "import torch; from softpool_det.ops import soft_pool2d\n"
    program += "print(soft_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4)).tolist())"
    return run("-c", program, capability=capability)


@pytest.mark.parametrize("capability", ["plain", "avx2", "avx512"])
def test_every_instruction_set_passes_the_tests_of_values(capability):
    first = pooled(capability)
    if first.returncode and "this machine and build have" in first.stderr:
        pytest.skip(f"neither this machine nor this build needs to have {capability}")
    assert first.returncode == 0, first.stderr
    tests = [str(FOLDER / name) for name in ("test_soft_pool.py", "test_affine_relu.py")]
    result = run(
        "-m", "pytest", "-q", "-k", f"({SELECTION}) and not reference", *tests,
        capability=capability,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


def test_an_unknown_instruction_set_is_refused_with_those_that_there_are():
    result = pooled("sse9")
    assert result.returncode != 0
    assert "SOFTPOOL_CPU_CAPABILITY must be one of" in result.stderr
    assert "plain) or unset, got sse9" in result.stderr
