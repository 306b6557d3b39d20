"""The switch between the CPU kernels' instruction sets."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
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
    # The user's options of pytest are for the tests outside.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment = {**inherited, "SOFTPOOL_CPU_CAPABILITY": capability}
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
def test_every_instruction_set_passes_the_tests_of_values(capability, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-q --collect-only")
    first = pooled(capability)
    if first.returncode and "this machine and build have" in first.stderr:
        pytest.skip(f"neither this machine nor this build needs to have {capability}")
    assert first.returncode == 0, first.stderr
    tests = [str(FOLDER / name) for name in ("test_soft_pool.py", "test_affine_relu.py")]
    report = tmp_path / "report.xml"
    result = run(
        "-m", "pytest", "-k", f"({SELECTION}) and not reference", f"--junitxml={report}", *tests,
        capability=capability,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    (suite,) = ElementTree.parse(report).getroot()
    assert int(suite.get("tests")) > int(suite.get("skipped"))


def test_an_unknown_instruction_set_is_refused_with_those_that_there_are():
    result = pooled("sse9")
    assert result.returncode != 0
    assert "SOFTPOOL_CPU_CAPABILITY must be one of" in result.stderr
    assert "plain) or unset, got sse9" in result.stderr
