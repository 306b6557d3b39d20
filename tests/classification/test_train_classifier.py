"""tools/train_classifier.py as a user runs it, on a folder of real PNG files."""

import json
import multiprocessing
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from softpool_det.classification.predictions import Predictions
from softpool_det.config import load_config as load_detector_config
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.weights import read_metadata

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/classification/digits_softpool_R_18.yaml"
DETECTOR = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
PROGRAM = str(ROOT / "tools" / "train_classifier.py")


def arguments(*overrides):
    return [PROGRAM, "--config-file", str(CONFIG), *map(str, overrides)]


def call(environment, launcher, *overrides):
    """Everything that the program prints."""
    done = subprocess.run(
        [sys.executable, *launcher, *arguments(*overrides)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def result(folder, name="result.json"):
    return json.loads((folder / name).read_text())


def weights(folder):
    return load_file(folder / "model_final.safetensors")


@pytest.fixture(scope="module")
def trained(environment, tiny, tmp_path_factory):
    """The folder of a finished run, and what the run printed."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, call(environment, [], *tiny, "OUTPUT_DIR", folder)


def test_trains_and_evaluates(trained):
    folder, output = trained
    lines = re.findall(r"epoch (\d)/2  iteration (\d)/6  loss [\d.]+  lr \S+  \d+ images/s", output)
    assert lines == [("1", "2"), ("1", "3"), ("2", "4"), ("2", "6")]
    found = result(folder)
    assert [entry["epoch"] for entry in found["history"]] == [1, 2]
    assert found["history"][1] == {"epoch": 2, **found["metrics"]}
    # Of three classes the right one is always among the first five.
    assert found["metrics"]["top5"] == 100
    assert found["images_per_second"] == pytest.approx(60 / found["train_seconds"])
    assert (found["iterations"], found["device"], found["processes"]) == (6, "cpu", 1)
    predictions = Predictions.load(folder / "predictions.npz")
    assert predictions.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    right = np.mean(predictions.predicted == predictions.labels)
    assert found["metrics"]["top1"] == pytest.approx(100 * right)


def test_evaluation_gives_the_same_predictions(trained, tiny, run_here, tmp_path):
    folder, _ = trained
    path = folder / "model_final.safetensors"
    found = run_here(CONFIG, *tiny, "MODEL.WEIGHTS", path, "OUTPUT_DIR", tmp_path, eval_only=True)
    assert found["metrics"] == result(folder)["metrics"]
    assert result(tmp_path, "evaluation.json") == found
    written = Predictions.load(tmp_path / "evaluation_predictions.npz")
    expected = Predictions.load(folder / "predictions.npz")
    assert np.array_equal(written.predicted, expected.predicted)


def test_killed_run_resumes_bit_for_bit(trained, tiny, run_here, one_thread, tmp_path):
    # Forked: a new one would need seconds to import what it needs.
    process = multiprocessing.get_context("fork").Process(
        target=run_here, args=(CONFIG, *tiny, "OUTPUT_DIR", tmp_path)
    )
    process.start()
    checkpoint = tmp_path / "checkpoint.pth"
    while not checkpoint.exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "result.json").exists()
    done = torch.load(checkpoint, weights_only=True)["progress"]["iteration"]
    assert 2 <= done < 6

    run_here(CONFIG, *tiny, "OUTPUT_DIR", tmp_path, resume=True)
    assert f"going on from iteration {done}" in (tmp_path / "log.txt").read_text()
    expected = weights(trained[0])
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, expected[name]), name
    assert result(tmp_path)["history"] == result(trained[0])["history"]


def test_finished_run_is_taken_as_it_is(trained, tiny, run_here):
    folder, _ = trained
    before = (folder / "result.json").stat().st_mtime_ns
    found = run_here(CONFIG, *tiny, "OUTPUT_DIR", folder, resume=True)
    assert found == result(folder)
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_folder_of_another_config(trained, tiny, run_here):
    with pytest.raises(FileExistsError, match=r"another config(.|\n)*\+  BASE_LR: 0\.02"):
        run_here(CONFIG, *tiny, "SOLVER.BASE_LR", 0.02, "OUTPUT_DIR", trained[0], resume=True)


@pytest.mark.slow
def test_two_processes_train_as_one(environment, tiny, run_here, one_thread, tmp_path):
    """Without batch statistics, which are each process's own, the weights are the same."""
    alike = [*tiny, "MODEL.RESNETS.NORM", "GN", "INPUT.MIXUP_ALPHA", 0.0]
    alike += ["INPUT.CUTMIX_ALPHA", 0.0, "SOLVER.MAX_EPOCHS", 1, "SOLVER.EMA.ENABLED", False]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two, one = tmp_path / "two", tmp_path / "one"
    call(environment, launcher, *alike, "OUTPUT_DIR", two)
    run_here(CONFIG, *alike, "OUTPUT_DIR", one)
    assert (result(two)["processes"], result(two)["iterations"]) == (2, 3)
    expected = weights(one)
    for name, value in weights(two).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    assert result(two)["metrics"] == result(one)["metrics"]
    together = Predictions.load(two / "predictions.npz")
    assert np.array_equal(together.predicted, Predictions.load(one / "predictions.npz").predicted)


def test_detector_starts_from_the_weights(trained):
    path = trained[0] / "model_final.safetensors"
    told = read_metadata(path)
    assert (told.architecture, told.channel_order, told.num_classes) == ("resnet18", "RGB", 3)
    assert told.stem_pool.window == ("SoftPool2d", 2, 2, 0)
    model = Trainer.build_model(load_detector_config(str(DETECTOR), ["MODEL.DEVICE", "cpu"]))
    SafeCheckpointer(model).load(str(path))
    expected = weights(trained[0])
    backbone = model.backbone.bottom_up.state_dict()
    assert backbone.keys() == {name for name in expected if not name.startswith("linear.")}
    for name, value in backbone.items():
        assert torch.equal(value, expected[name]), name


def test_stock_detector_refuses_them(trained):
    config = str(DETECTOR).replace("softpool_", "")
    model = Trainer.build_model(load_detector_config(config, ["MODEL.DEVICE", "cpu"]))
    with pytest.raises(ValueError, match="the weights were trained with SoftPool2d"):
        SafeCheckpointer(model).load(str(trained[0] / "model_final.safetensors"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (("MODEL.STEM_POOL.NAME", "MaxPool2d"), "trained with SoftPool2d 2x2"),
        (("MODEL.RESNETS.DEPTH", 34), "the model is no resnet18"),
        (("MODEL.PIXEL_STD", "(1.0, 1.0, 1.0)"), r"MODEL\.PIXEL_STD is .*was trained with"),
        (("DATASETS.TEST", "digits_val"), "does not fit the config's model(.|\n)*linear"),
        (("MODEL.WEIGHTS", "absent.safetensors"), r"MODEL\.WEIGHTS names absent"),
        (("MODEL.WEIGHTS", __file__), r"MODEL\.WEIGHTS must be a \.safetensors"),
        (("MODEL.WEIGHTS", ""), r"MODEL\.WEIGHTS is empty"),
    ],
)
def test_weights_that_do_not_fit(
    override, message, trained, tiny, run_here, small_datasets, monkeypatch, tmp_path
):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_datasets))
    path = trained[0] / "model_final.safetensors"
    overrides = [*tiny, "MODEL.WEIGHTS", path, "OUTPUT_DIR", tmp_path, *override]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_here(CONFIG, *overrides, eval_only=True)


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


def test_checkpoint_does_not_run(tiny, run_here, tmp_path):
    torch.save({"progress": Payload(tmp_path / "marker")}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=r"checkpoint\.pth holds more than") as error:
        run_here(CONFIG, *tiny, "OUTPUT_DIR", tmp_path, resume=True)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(100)], ids=len)
def test_weights_that_are_none(content, tiny, run_here, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is no \.safetensors, or is damaged"):
        run_here(CONFIG, *tiny, "MODEL.WEIGHTS", path, "OUTPUT_DIR", tmp_path, eval_only=True)


def test_other_classes(tiny, run_here, pictures, tmp_path):
    fewer = tmp_path / "fewer"
    (fewer / "amber").mkdir(parents=True)
    (fewer / "amber" / "0.png").write_bytes((pictures / "val/amber/0.png").read_bytes())
    with pytest.raises(ValueError, match=r"must have the same classes: .* has 3, .* 1"):
        run_here(CONFIG, *tiny, "DATASETS.TEST", fewer, "OUTPUT_DIR", tmp_path / "output")


def test_missing_imagenet(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    config = str(CONFIG).replace("digits", "imagenet_paper")
    argv = [PROGRAM, "--config-file", config, "OUTPUT_DIR", str(tmp_path / "output")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as error:
        runpy.run_path(PROGRAM, run_name="__main__")
    message = f"error: DATASETS.TEST names {tmp_path}/imagenet/val, which does not exist"
    assert str(error.value).startswith(message)
