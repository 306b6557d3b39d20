"""tools/compare.py as a user runs it, on a few real images."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "demo"
# As in test_train_net.py: small enough for seconds, all of the real thing.
TINY = [
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "1"),
    *("SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.DEVICE", "cpu"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
]


def compare(environment, output, *arguments, model="mask_rcnn", changes=()):
    configs = [CONFIGS / f"digits_{model}{name}_R_18_FPN.yaml" for name in ("", "_softpool")]
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--output", str(output)]
    command += ["--baseline", str(configs[0]), "--candidate", str(configs[1]), *arguments]
    command += ["--", *TINY, *changes]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    output = tmp_path_factory.mktemp("comparison")
    done = compare(environment, output, "--seeds", "1", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done


def test_prints_boxes_masks_and_costs_of_both_arms(finished):
    output, done = finished
    lines = done.stdout.splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")][1:]
    sizes = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    masks = [f"mask {name}" for name in sizes]
    costs = ["params (M)", "GFLOPs", "train (min)", "infer (ms/image)", "peak memory (GiB)"]
    assert columns == sizes + masks + costs
    assert [line.split("|")[1].strip() for line in lines[2:5]] == [
        "stock",
        "SoftPool",
        "difference",
    ]
    assert (output / "comparison.md").read_text().splitlines()[:5] == lines[:5]
    assert "run 4 of 4: SoftPool, seed 2" in done.stderr


def test_writes_what_it_measured(finished):
    output, _ = finished
    data = json.loads((output / "comparison.json").read_text())
    assert data["seeds"] == [1, 2]
    stock, softpool = data["rows"]["stock"], data["rows"]["SoftPool"]
    # Pooling has no parameters, and fvcore counts none of its operations.
    assert stock["params (M)"] == softpool["params (M)"] > 11
    assert stock["GFLOPs"] == pytest.approx(softpool["GFLOPs"], rel=0.2)
    for run in data["runs"]["SoftPool"].values():
        assert run["train_seconds"] > 0
        assert run["peak_memory_bytes"] > 100 * 2**20
    pictures = cv2.imread(str(output / "pictures.png"))
    assert pictures.shape[1] >= 3 * 512


def test_takes_finished_runs_and_resumes_an_interrupted_one(finished, environment):
    output, _ = finished
    kept = output / "stock" / "seed_1" / "model_final.pth"
    resumed = output / "SoftPool" / "seed_1"
    before = kept.stat().st_mtime_ns
    # As if killed after the first of two iterations.
    (resumed / "result.json").unlink()
    (resumed / "model_final.pth").unlink()
    (resumed / "last_checkpoint").write_text("model_0000000.pth")
    first = [json.loads(line)["iteration"] for line in (resumed / "metrics.json").open()]

    done = compare(environment, output, "--seeds", "1", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.stat().st_mtime_ns == before
    assert (resumed / "model_final.pth").is_file()
    log = (resumed / "stdout.txt").read_text()
    assert "Starting training from iteration 1" in log
    again = [json.loads(line)["iteration"] for line in (resumed / "metrics.json").open()]
    assert len(again) > len(first)


def test_refuses_a_folder_of_another_config(finished, environment):
    output, _ = finished
    done = compare(environment, output, "--seeds", "1", changes=["SOLVER.BASE_LR", "0.5"])
    assert done.returncode == 1
    assert "holds a run of another config" in done.stderr
    assert "BASE_LR: 0.5" in done.stderr


def test_takes_checkpoints(finished, environment, tmp_path):
    output, _ = finished
    weights = [str(output / arm / "seed_1" / "model_final.pth") for arm in ("stock", "SoftPool")]
    arguments = ["--baseline-weights", weights[0], "--candidate-weights", weights[1]]
    done = compare(environment, tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train (min)" not in done.stdout
    taken = json.loads((tmp_path / "comparison.json").read_text())["runs"]["stock"]["1"]["metrics"]
    trained = json.loads((output / "stock" / "seed_1" / "result.json").read_text())["metrics"]
    assert taken == trained


def test_says_which_arm_failed_and_where_its_log_is(environment, tmp_path):
    done = compare(environment, tmp_path, changes=["SOLVER.OPTIMIZER", "Lion"])
    assert done.returncode == 1
    assert "stock, seed 1, ended with status 1" in done.stderr
    assert "SOLVER.OPTIMIZER must be SGD or AdamW" in done.stderr


def test_compares_lazy_configs(environment, lazy_config, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(lazy_config)
    output = tmp_path / "output"
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--output", str(output)]
    command += ["--baseline", str(config), "--candidate", str(config), "--names", "one", "other"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((output / "comparison.json").read_text())["rows"]
    # The same config with the same seed: whatever is random in a run has been seeded.
    assert rows["one"]["AP"] == rows["other"]["AP"]
