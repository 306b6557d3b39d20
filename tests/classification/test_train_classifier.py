"""Classifiers trained on a folder of real PNG files, and the detectors that start from them."""

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from PIL import Image
from safetensors.torch import load_file

from softpool_det.classification.config import load_config
from softpool_det.classification.datasets import EpochBatches, loader, open_split
from softpool_det.classification.module import Classifier
from softpool_det.classification.networks import build_network
from softpool_det.classification.predictions import Predictions
from softpool_det.config import load_config as load_detector_config
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.weights import read_metadata
from softpool_det.weights.convert import read_weights, write_weights

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
PROGRAM = str(ROOT / "tools" / "train_classifier.py")
PLAIN = ("batch_transforms=[]", "callbacks=[]", "epochs=1", "network_options={norm: GN}")

pytestmark = pytest.mark.usefixtures("one_thread")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def weights(folder):
    return load_file(folder / "model_final.safetensors")


def predictions(folder):
    return Predictions.load(folder / "predictions.safetensors")


def test_what_a_run_leaves(trained):
    found, of_images = result(trained), predictions(trained)
    assert [entry["epoch"] for entry in found["history"]] == [1, 2, 3]
    assert found["history"][2] == {"epoch": 3, **found["metrics"]}
    assert (found["steps"], found["device"], found["processes"]) == (9, "cpu", 1)
    assert of_images.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    right = np.mean(of_images.predicted == of_images.labels)
    # Of three classes the right one is always among the first five.
    assert found["metrics"] == {"top1": pytest.approx(100 * right), "top5": 100}


def test_evaluation_is_detectron2s(trained, pictures, run_here, tmp_path):
    """With max pooling put in: its own ResNet, its own stem, and the pixels normalized by hand."""
    path = trained / "model_final.safetensors"
    other = ("epochs=0", f"weights={path}", "replace=[]", "allow_other_stem_pool=true")
    run_here(tmp_path, *other)
    model = ResNet(BasicStem(norm="BN"), ResNet.make_default_stages(18, norm="BN"), num_classes=3)
    model.load_state_dict(load_file(path))
    found = []
    for file in sorted((pictures / "val").glob("*/*.png")):
        image = Image.open(file)
        scale = 32 / min(image.size)
        # Shorter side 32; torchvision truncates the longer one.
        image = image.resize([max(32, int(side * scale)) for side in image.size], Image.BILINEAR)
        left, top = (round((side - 32) / 2) for side in image.size)
        pixels = np.asarray(image, np.float64)[top : top + 32, left : left + 32]
        pixels = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
        with torch.inference_mode():
            batch = torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None]
            found.append(model.eval()(batch)["linear"].argmax().item())
    assert predictions(tmp_path).predicted.tolist() == found
    run_here(tmp_path, "epochs=0", f"weights={path}")
    assert result(tmp_path)["metrics"] == result(trained)["metrics"]


def test_result_is_of_the_last_weights(run_here, tmp_path):
    """Also where the last evaluation in training was before the last step."""
    run_here(tmp_path / "run", *PLAIN[:3], "trainer.val_check_interval=2", "optimizer.lr=0.1")
    path = tmp_path / "run" / "model_final.safetensors"
    run_here(tmp_path / "again", "epochs=0", f"weights={path}")
    found = [predictions(tmp_path / name).predicted for name in ("run", "again")]
    assert np.array_equal(*found)
    assert len(result(tmp_path / "run")["history"]) == 1


@pytest.mark.parametrize("label", [0, 1])
def test_result_is_of_weights_that_change_at_the_end(label, run_here, monkeypatch, tmp_path):
    """As callbacks change them that put an average in their place."""

    def favour(module):
        module.network.linear.bias.data[label] = 1e6

    monkeypatch.setattr(Classifier, "on_train_end", favour)
    run_here(tmp_path, *PLAIN[:3])
    assert {*predictions(tmp_path).predicted.tolist()} == {label}


def test_is_a_plain_loop(tiny, run_here, tmp_path):
    """The same batches through torch's own optimizer, with the rates worked out by hand."""
    overrides = (*PLAIN, "warmup_epochs=0", "norm_weight_decay=null")
    run_here(tmp_path, *overrides, "keep_checkpoints=false", "trainer.num_sanity_val_steps=1")
    assert not list(tmp_path.glob("checkpoint*"))
    cfg = load_config(str(tiny), overrides)
    torch.manual_seed(cfg.seed)
    model = build_network(cfg.network, 3, cfg.network_options, cfg.replace)
    train_set = open_split(cfg, "train")
    batches = EpochBatches(len(train_set), 10, cfg.seed)
    batches.begin(0)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005, nesterov=True
    )
    for i, (images, labels, _) in enumerate(loader(train_set, batches, cfg.seed, 0)):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * i / 3)) / 2
        log_probabilities = torch.log_softmax(model(images)["linear"], dim=1)
        # Smoothing by 0.1 gives each of the three classes a thirtieth.
        targets = 0.9 * torch.nn.functional.one_hot(labels, 3) + 0.1 / 3
        optimizer.zero_grad()
        (-(targets * log_probabilities).sum(1).mean()).backward()
        optimizer.step()
    for name, value in weights(tmp_path).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def two_processes(folder, environment, tiny, *arguments, launcher=TORCHRUN):
    command = [sys.executable, *launcher, PROGRAM, str(tiny), *arguments, f"output={folder}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The first process alone reports.
    assert done.stderr.count("epoch 1/1 ") == 1


@pytest.mark.slow
def test_two_processes_evaluate_what_is_written(environment, tiny, run_here, tmp_path):
    """Each has other batch statistics; the predictions are those of the weights in the file."""
    two, one = tmp_path / "two", tmp_path / "one"
    two_processes(two, environment, tiny, "epochs=1", "callbacks=[]")
    run_here(one, "epochs=0", f"weights={two / 'model_final.safetensors'}")
    assert np.array_equal(predictions(two).predicted, predictions(one).predicted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "devices"), [(TORCHRUN, ()), ((), ("trainer.devices=2",))], ids=["torchrun", "own"]
)
def test_two_processes_train_as_one(launcher, devices, environment, tiny, run_here, tmp_path):
    """Without batch statistics, which are each process's own, the weights are the same."""
    two, one = tmp_path / "two", tmp_path / "one"
    # Later steps enlarge what is rounded differently.
    plain = (*PLAIN, "warmup_epochs=0", "trainer.limit_train_batches=2")
    two_processes(two, environment, tiny, *plain, *devices, launcher=launcher)
    run_here(one, *plain)
    run_here(tmp_path / "start", *plain, "epochs=0")
    assert (result(two)["processes"], result(two)["steps"]) == (2, 2)
    start = weights(tmp_path / "start")
    for name, value in weights(two).items():
        learned = (weights(one)[name] - start[name]).abs().max()
        assert (value - weights(one)[name]).abs().max() <= 0.02 * learned, name
    assert np.array_equal(predictions(two).predicted, predictions(one).predicted)


def detector(*overrides, config=DETECTOR):
    return Trainer.build_model(
        load_detector_config(str(config), ["MODEL.DEVICE", "cpu", *overrides])
    )


def test_detector_starts_from_the_weights(trained):
    path = trained / "model_final.safetensors"
    about = read_metadata(path)
    assert (about.architecture, about.channel_order, about.num_classes) == ("resnet18", "RGB", 3)
    assert about.stem_pool.window == ("SoftPool2d", 2, 2, 0)
    assert about.stem_pool.ceil_mode
    model = detector()
    SafeCheckpointer(model).load(str(path))
    expected = weights(trained)
    backbone = model.backbone.bottom_up.state_dict()
    assert backbone.keys() == {name for name in expected if not name.startswith("linear.")}
    for name, value in backbone.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    ("overrides", "config", "message"),
    [
        ((), str(DETECTOR).replace("softpool_", ""), "the weights were trained with SoftPool2d"),
        (("MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"), DETECTOR, r"MODEL\.PIXEL_STD .* is \[1\.0"),
    ],
)
def test_detector_refuses_weights_that_do_not_fit(overrides, config, message, trained):
    with pytest.raises(ValueError, match=message):
        SafeCheckpointer(detector(*overrides, config=config)).load(
            str(trained / "model_final.safetensors")
        )


@pytest.mark.parametrize("network", ["torchvision/resnet18", "timm/resnet18"])
def test_converted_weights_start_a_detector(network, run_here, tmp_path):
    run_here(tmp_path, f"network={network}", *PLAIN[:3])
    path = tmp_path / "converted.safetensors"
    write_weights(path, read_weights(str(tmp_path / "model_final.safetensors")))
    model = detector()
    SafeCheckpointer(model).load(str(path))
    stem = model.backbone.bottom_up.stem
    assert torch.equal(stem.conv1.weight, weights(tmp_path)["conv1.weight"])


@pytest.mark.parametrize("network", ["detectron2/resnet18", "torchvision/resnet18"])
def test_detector_starts_from_a_learned_temperature(network, run_here, tmp_path):
    pool = "{where: stem, pool: SoftPool, kernel_size: 2, padding: 0, ceil_mode: true, "
    pool += "beta: 2.0, learn_beta: channel}"
    run_here(tmp_path, f"network={network}", f"replace=[{pool}]", *PLAIN[:3])
    path = tmp_path / "model_final.safetensors"
    if network.startswith("torchvision"):
        converted, path = read_weights(str(path)), tmp_path / "converted.safetensors"
        write_weights(path, converted)
    learned = load_file(path)["stem.pool.log_beta"]
    assert learned.unique().numel() > 32
    model = detector("MODEL.STEM_POOL.LEARN_BETA", "channel")
    SafeCheckpointer(model).load(str(path))
    assert torch.equal(model.backbone.bottom_up.stem.pool.log_beta, learned)
    with pytest.raises(ValueError, match=r"with a learned beta \(channel\): .* LEARN_BETA"):
        SafeCheckpointer(detector()).load(str(path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("replace=[]", r"stem_pool is MaxPool2d 3x3/2/1, not SoftPool2d 2x2/2/0"),
        ("network=detectron2/resnet34", "architecture is resnet34, not resnet18"),
        ("pixel_std=[1.0, 1.0, 1.0]", r"pixel_std is \(1\.0, 1\.0, 1\.0\), not \(58\.395"),
        ("val_data=digits_val", "does not fit the config's network(.|\n)*linear"),
        ("weights=absent.safetensors", "weights names absent.safetensors, which does not exist"),
        (f"weights={__file__}", r"\.py holds more than tensors and plain values"),
    ],
)
def test_weights_that_do_not_fit(
    override, message, trained, run_here, small_datasets, monkeypatch, tmp_path
):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_datasets))
    path = trained / "model_final.safetensors"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_here(tmp_path, f"weights={path}", "epochs=0", override)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(100)], ids=len)
def test_weights_that_are_none(content, run_here, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors.* is not a checkpoint"):
        run_here(tmp_path, f"weights={path}", "epochs=0")


def test_others_may_read_the_weights(trained):
    mode = (trained / "result.json").stat().st_mode
    for name in ("model_final.safetensors", "predictions.safetensors"):
        assert (trained / name).stat().st_mode == mode


def test_finished_run_is_taken_as_it_is(trained, run_here):
    before = (trained / "result.json").stat().st_mtime_ns
    assert run_here(trained, resume=True) == result(trained)
    assert (trained / "result.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"another config(.|\n)*\+  lr: 0\.02"):
        run_here(trained, "optimizer.lr=0.02", resume=True)


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


def test_checkpoint_does_not_run(run_here, tmp_path):
    torch.save({"state_dict": Payload(tmp_path / "marker")}, tmp_path / "checkpoint.ckpt")
    with pytest.raises(ValueError, match=r"checkpoint\.ckpt holds more than") as error:
        run_here(tmp_path, resume=True)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "marker").exists()


def test_weights_are_not_read_where_a_run_begins(trained, run_here):
    path = trained / "model_final.safetensors"
    with pytest.raises(ValueError, match=r"output must not be .*: a run replaces the weights in"):
        run_here(trained, "epochs=0", f"weights={path}")
    assert path.is_file()


def test_other_classes(run_here, pictures, tmp_path):
    fewer = tmp_path / "fewer"
    (fewer / "amber").mkdir(parents=True)
    (fewer / "amber" / "0.png").write_bytes((pictures / "val/amber/0.png").read_bytes())
    with pytest.raises(ValueError, match="equal classes; not both have blue, green"):
        run_here(tmp_path / "output", f"val_data={fewer}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=-1", "epochs and seed must be 0 or more, got -1 and 1"),
        ("network=video/r3d_10", r"network video/r3d_10 does not fit .*networks of video/ take cl"),
        ("optimizer.name=sgd", "must name a class of torch.optim, got 'sgd'; the nearest are SGD"),
        ("batch_size=0", "batch_size must be a positive multiple of the 1 processes, got 0"),
        ("batch_size=31", "batch_size is 31, but the training set has only 30 images"),
        ("trainer.precison=16", r"trainer: .*unexpected keyword argument 'precison'"),
        ("callbacks=[{name: EarlyStop}]", "callbacks must name a class of .*, got 'EarlyStop'"),
        ("callbacks=[{name: EarlyStopping, monitor: top1, mode: top}]", "callbacks.*`mode` can be"),
        ("trainer.limit_val_batches=1", "trainer: limit_val_batches.* leave out 5 of 15 images"),
        (
            "callbacks=[{name: EMAWeightAveraging, update_starting_at_step: 9}]",
            "EMAWeightAveraging would begin after the training's 9 steps",
        ),
    ],
)
def test_wrong_values(override, message, run_here, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_here(tmp_path, override)


def test_a_run_that_did_not_begin_does_not_keep_its_folder(run_here, tmp_path):
    with pytest.raises(ValueError, match="which fill no batch"):
        run_here(tmp_path, "batch_size=31", resume=True)
    run_here(tmp_path, "epochs=0", "batch_size=15", resume=True)


def test_images_of_another_size_than_the_network_takes(run_here, tmp_path):
    with pytest.raises(ValueError, match=r"network: Wrong image height! Expected 224 but got 32"):
        run_here(tmp_path, "network=torchvision/vit_b_16", "replace=[]", "epochs=0")


def test_missing_imagenet(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    config = str(ROOT / "configs/classification/imagenet_paper.yaml")
    monkeypatch.setattr(sys, "argv", [PROGRAM, config, f"output={tmp_path / 'output'}"])
    with pytest.raises(SystemExit) as error:
        runpy.run_path(PROGRAM, run_name="__main__")
    message = f"error: val_data names {tmp_path}/imagenet/val, which does not exist"
    assert str(error.value).startswith(message)
