"""benchmarks/pretraining.sh: real classifiers and detectors, tiny ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLASSIFIER = "epochs=1 warmup_epochs=0.5 batch_size=1000 size=16"
DETECTOR = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 SOLVER.STEPS () MODEL.FPN.OUT_CHANNELS 16"
DETECTOR += " INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 DATALOADER.NUM_WORKERS 0"
DETECTOR += " MODEL.RETINANET.SCORE_THRESH_TEST 0.0"


@pytest.mark.slow
def test_whole_study(environment, tmp_path):
    names = {"CLASSIFIER": CLASSIFIER, "DETECTOR": DETECTOR, "OUTPUT": str(tmp_path)}
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "pretraining.sh"), "1"],
        env={**environment, **names, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    for table in (2, 4):
        assert "resnet18" in (tmp_path / "digits" / f"table_{table}.md").read_text()
    detectors = json.loads((tmp_path / "detectors" / "comparison.json").read_text())
    assert [name.split(", ")[1] for name in detectors["names"]] == [
        "from scratch",
        "pretrained",
    ] * 2
    pretrained = json.loads((tmp_path / "pretrained" / "comparison.json").read_text())
    assert pretrained["names"] == ["Original, pretrained", "SoftPool, pretrained"]
