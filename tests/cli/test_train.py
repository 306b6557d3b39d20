"""tools/train_net.py as a user runs it, on a few real images."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.weights import WeightsMetadata, save_weights
from softpool_det.weights.architecture import Architecture, build_resnet
from softpool_det.weights.metadata import MAX_POOL

ROOT = Path(__file__).parents[2]
YAML = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
COLUMNS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
# So few iterations detect nothing with any confidence: a threshold of 0 keeps what there is.
TINY = [
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", ()),
    *("MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SEED", 1),
    *("MODEL.DEVICE", "cpu"),
]
pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")


def train_net(environment, config, *arguments, returncode=0):
    """Everything that the program prints."""
    program = ROOT / "tools" / "train_net.py"
    done = subprocess.run(
        [sys.executable, str(program), "--config-file", str(config), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == returncode, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def run_here(train_here):
    """The program without the seconds of a new process."""
    return lambda config, *arguments: train_here("--config-file", config, *arguments)


def log_of(folder):
    return (folder / "log.txt").read_text()


def result(folder, name="result.json"):
    return json.loads((folder / name).read_text())


def detections(folder):
    return json.loads((folder / "inference" / "coco_instances_results.json").read_text())


def weights_of_max_pooling(path, **changes):
    """A file of tools/convert_weights.py's kind: a random ResNet-18 recorded as having max."""
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


def test_eval_only_gives_the_same_detections(trained, run_here, tmp_path):
    folder, _ = trained
    weights = ["MODEL.WEIGHTS", folder / "model_final.pth"]
    run_here(YAML, "--eval-only", *TINY, *weights, "OUTPUT_DIR", tmp_path)
    assert detections(tmp_path) == detections(folder)
    evaluation = result(tmp_path, "evaluation.json")
    assert evaluation["metrics"] == result(folder)["metrics"]
    assert evaluation["train_seconds"] is None
    assert not (tmp_path / "result.json").exists()


def test_run_killed_in_its_last_evaluation_resumes(trained, run_here, capsys, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "killed")
    (folder / "result.json").unlink()
    run_here(YAML, "--resume", "--progress", "tiny", *TINY, "OUTPUT_DIR", folder)
    assert "Starting training from iteration 4" in log_of(folder)
    assert "4/4" in capsys.readouterr().err
    assert result(folder)["metrics"] == result(trained[0])["metrics"]


def test_lazy_config(run_here, lazy_config, tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text(lazy_config)
    folder = tmp_path / "output"
    # Detectron2's RetinaNet takes BGR images; the stem of this one pools with SoftPool.
    images = {"pixel_mean": (103.53, 116.28, 123.675), "pixel_std": (1, 1, 1)}
    start = weights_of_max_pooling(tmp_path / "w.safetensors", channel_order="BGR", **images)
    overrides = [f"train.init_checkpoint={start}", "train.allow_other_stem_pool=true"]
    trusted = ["--trust-lazy-config", "train.device=cpu"]
    run_here(config, *trusted, *overrides, f"train.output_dir={folder}")
    log = log_of(folder)
    assert "Some model parameters or buffers are not found" in log  # the detector's heads
    assert ",".join(COLUMNS) in log
    found = result(folder)
    assert set(COLUMNS) <= set(found["metrics"]["bbox"])
    assert len(detections(folder)) > 10

    evaluated = tmp_path / "evaluated"
    weights = f"train.init_checkpoint={folder / 'model_final.pth'}"
    run_here(config, "--eval-only", *trusted, weights, f"train.output_dir={evaluated}")
    assert detections(evaluated) == detections(folder)
    assert result(evaluated, "evaluation.json")["metrics"] == found["metrics"]

    run_here(config, "--resume", *trusted, f"train.output_dir={folder}", "train.max_iter=4")
    assert "Starting training from iteration 3" in log_of(folder)


def test_missing_weights(run_here, tmp_path):
    weights = tmp_path / "resnet18.pth"
    with pytest.raises(SystemExit) as error:
        run_here(YAML, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"error: MODEL.WEIGHTS names {weights}, which does not exist.")
    assert any("name another file in MODEL.WEIGHTS" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_unknown_key(run_here):
    with pytest.raises(SystemExit, match=r"error: .*MODEL\.STEM_POOL\.KERNEL_SIZE"):
        run_here(YAML, "MODEL.STEM_POOL.KERNEL", 3)


@pytest.mark.slow
def test_missing_coco(environment, tmp_path):
    config = ROOT / "configs/COCO-Detection/retinanet_R_18_FPN_1x.yaml"
    environment = {**environment, "DETECTRON2_DATASETS": str(tmp_path)}
    overrides = ["MODEL.WEIGHTS", "", "OUTPUT_DIR", tmp_path / "output"]
    output = train_net(environment, config, *overrides, returncode=1)
    first = re.search(r"^error: .*", output, re.MULTILINE)[0]
    annotations = tmp_path / "coco" / "annotations"
    assert f"instances_train2017.json is missing, it belongs in {annotations};" in first
    assert "annotations_trainval2017.zip" in first


def test_weights_of_another_stem(run_here, tmp_path):
    """Training starts from them where the config says so."""
    weights = weights_of_max_pooling(tmp_path / "weights.safetensors")
    overrides = [*TINY, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "output"]
    run_here(YAML, *overrides, "MODEL.ALLOW_OTHER_STEM_POOL", True)
    assert result(tmp_path / "output")["train_seconds"] > 0


def test_random_weights_are_not_evaluated(run_here, tmp_path):
    with pytest.raises(SystemExit, match="error: --eval-only needs trained weights: name them"):
        run_here(YAML, "--eval-only", *TINY, "OUTPUT_DIR", tmp_path)
    with pytest.raises(SystemExit, match=f"needs a checkpoint, and {tmp_path} has none"):
        run_here(YAML, "--eval-only", "--resume", *TINY, "OUTPUT_DIR", tmp_path)


def test_pickle_needs_trust(run_here, tmp_path):
    """In an evaluation of no data sets, which only loads."""
    weights = tmp_path / "model.pkl"
    state = Trainer.build_model(load_config(str(YAML), list(map(str, TINY)))).state_dict()
    values = {key: np.ascontiguousarray(value) for key, value in state.items() if value.ndim}
    weights.write_bytes(pickle.dumps({"model": values, "__author__": "test"}))
    arguments = ["--eval-only", *TINY, "DATASETS.TEST", (), "MODEL.WEIGHTS", weights]
    arguments += ["OUTPUT_DIR", tmp_path / "output"]
    with pytest.raises(
        SystemExit, match=r"error: .*model\.pkl is a pickle from outside Detectron2's"
    ):
        run_here(YAML, *arguments)
    run_here(YAML, "--trust-pickle", *arguments)
    assert result(tmp_path / "output", "evaluation.json")["metrics"] == {}
