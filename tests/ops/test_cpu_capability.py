"""The switch between the CPU kernels' instruction sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from softpool_det.ops import _library

# The widest instruction set runs all tests anyway.
PROGRAM = Path(__file__).with_name("kernel_values.py")

pytestmark = pytest.mark.skipif(
    "cpu" not in _library.COMPILED_DEVICES, reason="no compiled CPU kernel"
)


def run(*arguments: str, capability: str) -> subprocess.CompletedProcess:
    environment = {"SOFTPOOL_CPU_CAPABILITY": capability, "SOFTPOOL_EXAMPLES": "60"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def pooled(capability: str) -> subprocess.CompletedProcess:
    program = "import torch; from softpool_det.ops import soft_pool2d\n"
    program += "print(soft_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4)).tolist())"
    return run("-c", program, capability=capability)


@pytest.fixture(scope="module")
def refused():
    return pooled("sse9")


def test_narrower_instruction_sets_pass_the_tests_of_values(refused):
    names = re.search(r"this machine and build have (.*)\) or unset", refused.stderr)[1]
    for capability in names.split(", ")[1:]:
        result = run(str(PROGRAM), capability=capability)
        assert result.returncode == 0, result.stdout + result.stderr
        assert int(re.search(r"(\d+) checks", result.stdout)[1]) > 300


def test_an_unknown_instruction_set_is_refused_with_those_that_there_are(refused):
    assert refused.returncode != 0
    assert "SOFTPOOL_CPU_CAPABILITY must be one that this machine" in refused.stderr
    assert "plain) or unset, got sse9" in refused.stderr
