"""tools/train_net.py as a user runs it, on a few real images."""

import json
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softpool_det.weights import WeightsMetadata, save_weights
from softpool_det.weights.architecture import Architecture, build_resnet
from softpool_det.weights.metadata import MAX_POOL

ROOT = Path(__file__).parents[1]
YAML = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
COLUMNS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
# So few iterations detect nothing with any confidence: a threshold of 0 keeps what there is.
TINY = [
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", ()),
    *("MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SEED", 1),
]


def command(config, *arguments):
    program = ROOT / "tools" / "train_net.py"
    return [sys.executable, str(program), "--config-file", str(config), *map(str, arguments)]


def train_net(environment, config, *arguments, returncode=0):
    """Everything that the program prints."""
    done = subprocess.run(
        command(config, *arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == returncode, done.stdout
    return done.stdout


def result(folder, name="result.json"):
    return json.loads((folder / name).read_text())


def detections(folder):
    return json.loads((folder / "inference" / "coco_instances_results.json").read_text())


def weights_of_max_pooling(path, **changes):
    """A file of tools/convert_weights.py's kind: a random ResNet-18 that was told to have max."""
    rgb = WeightsMetadata(
        architecture="resnet18",
        stem_pool=MAX_POOL,
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(58.395, 57.12, 57.375),
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=10,
    )
    state_dict = build_resnet(Architecture(18), 10).state_dict()
    save_weights(path, state_dict, replace(rgb, **changes))
    return path


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """The folder of a finished run, and what the run printed."""
    folder = tmp_path_factory.mktemp("trained")
    output = train_net(environment, YAML, "--progress", "tiny", *TINY, "OUTPUT_DIR", folder)
    return folder, output


def test_trains_and_evaluates(trained):
    folder, output = trained
    assert re.search(r"\|\s*" + r"\s*\|\s*".join(COLUMNS) + r"\s*\|", output), output
    found = result(folder)
    assert list(found["metrics"]) == ["bbox"]
    assert set(COLUMNS) <= set(found["metrics"]["bbox"])
    assert 0 < found["train_seconds"] < 600
    assert found["peak_memory_bytes"] > 2**20
    assert found["device"] == "cpu"
    assert (folder / "model_final.pth").is_file()
    assert "tiny: " in output
    assert len(detections(folder)) > 10


def test_eval_only_gives_the_same_detections(trained, environment, tmp_path):
    folder, _ = trained
    weights = ["MODEL.WEIGHTS", folder / "model_final.pth"]
    train_net(environment, YAML, "--eval-only", *TINY, *weights, "OUTPUT_DIR", tmp_path)
    assert detections(tmp_path) == detections(folder)
    evaluation = result(tmp_path, "evaluation.json")
    assert evaluation["metrics"] == result(folder)["metrics"]
    assert evaluation["train_seconds"] is None
    assert not (tmp_path / "result.json").exists()


def test_run_killed_in_its_last_evaluation_resumes(trained, environment, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "killed")
    (folder / "result.json").unlink()
    output = train_net(
        environment, YAML, "--resume", "--progress", "tiny", *TINY, "OUTPUT_DIR", folder
    )
    assert "Starting training from iteration 4" in output
    assert "4/4" in output
    assert result(folder)["metrics"] == result(trained[0])["metrics"]


def test_killed_run_resumes(environment, tmp_path):
    overrides = [*TINY, "SOLVER.MAX_ITER", 14, "SOLVER.CHECKPOINT_PERIOD", 2]
    overrides += ["OUTPUT_DIR", tmp_path]
    process = subprocess.Popen(
        command(YAML, *overrides),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last_checkpoint = tmp_path / "last_checkpoint"
    while not (last_checkpoint.exists() and last_checkpoint.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "result.json").exists()
    before = int(re.search(r"\d+", last_checkpoint.read_text())[0])

    output = train_net(environment, YAML, "--resume", *overrides)
    assert f"Starting training from iteration {before + 1}" in output
    assert last_checkpoint.read_text() == "model_final.pth"
    assert set(result(tmp_path)["metrics"]["bbox"]) >= set(COLUMNS)


def test_lazy_config(environment, lazy_config, tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text(lazy_config)
    folder = tmp_path / "output"
    # Detectron2's RetinaNet takes BGR images; the stem of this one pools with SoftPool.
    images = {"pixel_mean": (103.53, 116.28, 123.675), "pixel_std": (1, 1, 1)}
    start = weights_of_max_pooling(tmp_path / "w.safetensors", channel_order="BGR", **images)
    overrides = [f"train.init_checkpoint={start}", "train.allow_other_stem_pool=true"]
    trusted = "--trust-lazy-config"
    output = train_net(environment, config, trusted, *overrides, f"train.output_dir={folder}")
    assert "Some model parameters or buffers are not found" in output  # the detector's heads
    assert ",".join(COLUMNS) in output
    found = result(folder)
    assert set(COLUMNS) <= set(found["metrics"]["bbox"])
    assert len(detections(folder)) > 10

    evaluated = tmp_path / "evaluated"
    weights = f"train.init_checkpoint={folder / 'model_final.pth'}"
    evaluation = [trusted, "--eval-only", weights, f"train.output_dir={evaluated}"]
    train_net(environment, config, *evaluation)
    assert detections(evaluated) == detections(folder)
    assert result(evaluated, "evaluation.json")["metrics"] == found["metrics"]

    again = [trusted, "--resume", f"train.output_dir={folder}", "train.max_iter=4"]
    output = train_net(environment, config, *again)
    assert "Starting training from iteration 3" in output


def run_here(monkeypatch, *arguments):
    """For errors that come before anything else happens: without the seconds of a new process."""
    program, *rest = command(*arguments)[1:]
    monkeypatch.setattr(sys, "argv", [program, *rest])
    runpy.run_path(program, run_name="__main__")


def test_missing_weights(monkeypatch, tmp_path):
    weights = tmp_path / "resnet18.pth"
    with pytest.raises(SystemExit) as error:
        run_here(monkeypatch, YAML, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"error: MODEL.WEIGHTS names {weights}, which does not exist.")
    assert any("name another file in MODEL.WEIGHTS" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_unknown_key(monkeypatch):
    with pytest.raises(SystemExit, match=r"error: .*MODEL\.STEM_POOL\.KERNEL_SIZE"):
        run_here(monkeypatch, YAML, "MODEL.STEM_POOL.KERNEL", 3)


def test_missing_coco(environment, tmp_path):
    config = ROOT / "configs/COCO-Detection/retinanet_R_18_FPN_1x.yaml"
    environment = {**environment, "DETECTRON2_DATASETS": str(tmp_path)}
    overrides = ["MODEL.WEIGHTS", "", "OUTPUT_DIR", tmp_path / "output"]
    output = train_net(environment, config, *overrides, returncode=1)
    first = re.search(r"^error: .*", output, re.MULTILINE)[0]
    annotations = tmp_path / "coco" / "annotations"
    assert f"instances_train2017.json is missing, it belongs in {annotations};" in first
    assert "annotations_trainval2017.zip" in first


def test_weights_of_another_stem(environment, tmp_path):
    """Training starts from them where the config says so."""
    weights = weights_of_max_pooling(tmp_path / "weights.safetensors")
    overrides = [*TINY, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "output"]
    train_net(environment, YAML, *overrides, "MODEL.ALLOW_OTHER_STEM_POOL", True)
    assert result(tmp_path / "output")["train_seconds"] > 0


@pytest.mark.filterwarnings("ignore:The distutils")
def test_pickle_needs_trust(monkeypatch, tmp_path):
    """In an evaluation of no data sets, which only loads."""
    weights = tmp_path / "model.pkl"
    values = {"backbone.bottom_up.stem.conv1.weight": np.ones((64, 3, 7, 7), np.float32)}
    weights.write_bytes(pickle.dumps({"model": values, "__author__": "test"}))
    arguments = ["--eval-only", *TINY, "DATASETS.TEST", (), "MODEL.WEIGHTS", weights]
    arguments += ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", tmp_path / "output"]
    with pytest.raises(
        SystemExit, match=r"error: .*model\.pkl is a pickle from outside Detectron2's"
    ):
        run_here(monkeypatch, YAML, *arguments)
    run_here(monkeypatch, YAML, "--trust-pickle", *arguments)
    assert result(tmp_path / "output", "evaluation.json")["metrics"] == {}
