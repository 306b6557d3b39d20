"""The comparison's benchmarks: small real runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / program), *arguments]
    return subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)


@pytest.mark.slow
def test_compares_and_measures_both_sides(tmp_path):
    path = tmp_path / "report.json"
    sizes = ("--images", "30", "--categories", "3", "--objects", "90", "--detections", "12")
    counts = ("--resamples", "40", "--permutations", "10", "--hotcoco-resamples", "5")
    result = run("bench_compare.py", *sizes, *counts, "--json", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(path.read_text())
    steps = ["reading", "matching", "bootstrap", "permutations"]
    assert list(content["ours"]["seconds"]) == steps
    assert list(content["hotcoco"]["seconds"]) == steps[:3]
    assert content["ours"]["peak_bytes"] > 0
    assert "target: bootstrap at most 90 s: met" in result.stdout
    assert "30 images, 3 categories" in result.stdout


@pytest.mark.slow
def test_coverage_prints_a_table(tmp_path):
    path = tmp_path / "coverage.json"
    sizes = ("--trials", "3", "--images", "40", "--resamples", "20", "--seeds", "1")
    result = run("coverage.py", *sizes, "--json", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    (case,) = json.loads(path.read_text())["cases"]
    assert case["trials"] == 3
    assert len(case["covered"]) == 7
    assert "3 comparisons of 40" in result.stdout
