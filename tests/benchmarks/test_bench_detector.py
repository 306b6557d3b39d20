"""The detectors' benchmark: a small real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detector.arms import OBJECTS, SOFTPOOL, STOCK, new_arms, new_batch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench_detector.py"), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_run_measures_both_detectors_and_the_stem(tmp_path):
    path = tmp_path / "report.json"
    result = run("--size", "64x96", "--seconds", "0", "--threads", "1", "--json", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(path.read_text())
    found = {(row["model"], row["what"]) for row in content["detectors"]}
    stem = {"stem, inference", "stem, training"}
    whats = {"inference", "training step", *stem}
    assert found == {(model, what) for model in ("retinanet", "mask_rcnn") for what in whats}
    for row in content["detectors"]:
        assert row["ratio"] == row[SOFTPOOL]["median_ms"] / row[STOCK]["median_ms"]
        assert row[STOCK]["peak_bytes"] > 0
    assert {row["peer"] for row in content["stem_after_convolution"]} >= {"fused softpool"}
    assert len(content["targets"]) == 8
    assert all(len(line) <= 120 for line in result.stdout.splitlines() if line.startswith("|"))


@pytest.mark.slow
def test_switches_are_measured(tmp_path):
    path = tmp_path / "switches.json"
    small = ["--size", "64x96", "--seconds", "0", "--threads", "1", "--models", "retinanet"]
    result = run("--switches", *small, "--json", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(path.read_text())["switches"]
    whats = {"inference", "training step", "images of an evaluation"}
    assert {row["what"] for row in rows} == whats
    assert len({row["switch"] for row in rows}) == 7
    assert all(row["ratio"] == 1 for row in rows if row["switch"] == "none")
    assert "channels_last+bfloat16" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64"], "'64' is not HEIGHTxWIDTH"),
        (["--size", "65x64"], "multiples of 32"),
        (["--batch", "0"], "'0' is not a positive number"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_objects_lie_in_their_images():
    batch = new_batch((64, 96), 3)
    assert len(batch) == 3
    for record in batch:
        assert record["image"].shape == (3, 64, 96)
        boxes = record["instances"].gt_boxes
        assert len(record["instances"]) == OBJECTS
        assert boxes.tensor.min() >= 0
        assert boxes.inside_box((64, 96)).all()
        # A mask fills its box.
        masks = record["instances"].gt_masks.get_bounding_boxes()
        assert (masks.tensor - boxes.tensor).abs().max() < 0.1


@pytest.mark.slow
def test_arms_have_the_same_weights_and_keep_them(one_thread):
    arms = new_arms("retinanet", "cpu", True, (64, 64), 1)
    before = {key: value.clone() for key, value in arms[STOCK].model.state_dict().items()}
    for arm in arms.values():
        arm.train()
        arm.infer()
        assert all(parameter.grad is None for parameter in arm.model.parameters())
        for key, value in arm.model.state_dict().items():
            assert value.equal(before[key]), key
