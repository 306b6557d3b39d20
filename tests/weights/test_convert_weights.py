"""tools/convert_weights.py as a user runs it."""

import pickle
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.weights import read_metadata
from softpool_det.weights.metadata import SOFT_POOL

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "convert_weights.py"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def convert(monkeypatch, capsys):
    """Runs the program in this process and gives what it prints."""

    def run(*arguments, error=None):
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, arguments)])
        if error is None:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        else:
            with pytest.raises(SystemExit, match=error):
                runpy.run_path(str(PROGRAM), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@pytest.fixture
def source(model, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


def test_provenance(convert, source, model, tmp_path):
    """A new file in a new folder says in its header where it comes from."""
    target = tmp_path / "weights" / "resnet18_torchvision.safetensors"
    assert convert(source, target).splitlines()[:2] == [
        "resnet18, 122 tensors, 1000 classes, from torchvision's keys",
        "trained with MaxPool2d 3x3/2/1 in the stem",
    ]
    with safe_open(target, "pt") as file:
        header = file.metadata()
    sha256 = subprocess.run(["sha256sum", source], capture_output=True, text=True, check=True)
    assert header["source_sha256"] == sha256.stdout.split()[0]
    assert header["source_file"] == "resnet18.pth"
    assert header["source_format"] == "torchvision"
    command = ["python", str(PROGRAM), str(source), str(target)]
    assert shlex.split(header["command"]) == command
    assert header["converter_version"]
    assert torch.equal(load_file(target)["stem.conv1.weight"], model.conv1.weight)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_round_trip(suffix, convert, source, model, tmp_path):
    middle, back = tmp_path / "middle.safetensors", tmp_path / f"back{suffix}"
    convert("--stem-pool", "softpool", source, middle)
    output = convert("--to", "torchvision", middle, back)
    assert "trained with SoftPool2d 2x2/2/0" in output
    assert "torchvision's own model has another pooling in `maxpool`: replace it" in output
    read = load_file if suffix == ".safetensors" else torch.load
    found, expected = read(back), model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_printed_config_fits(name, convert, tmp_path):
    """The lines that it prints, put into a config, make a model that takes the weights."""
    with torch.device("meta"):
        state_dict = timm.create_model(name).state_dict()
    path, target = tmp_path / "model.safetensors", tmp_path / "weights.safetensors"
    save_file({key: torch.rand(value.shape) for key, value in state_dict.items()}, path)
    output = convert(path, target)
    printed = yaml.safe_load(re.search(r"(?m)^a config .*:\n((  .*\n)+)", output)[1])
    config = tmp_path / "config.yaml"
    base = {"_BASE_": str(ROOT / "configs/Base-RetinaNet.yaml"), "VERSION": 2}
    config.write_text(yaml.safe_dump(base | printed))
    detector = Trainer.build_model(load_config(str(config), ["MODEL.DEVICE", "cpu"]))
    SafeCheckpointer(detector).load(str(target))
    resnet = detector.backbone.bottom_up
    assert torch.equal(resnet.res5[1].conv2.weight, load_file(target)["res5.1.conv2.weight"])


def test_softpool(convert, source, tmp_path):
    target = tmp_path / "weights.safetensors"
    torch.save({"state_dict": torch.load(source)}, source)
    convert(source, target, error="error: .*Give --stem-pool softpool")
    assert not target.exists()
    output = convert("--stem-pool", "softpool", source, target)
    assert "trained with SoftPool2d 2x2/2/0 in the stem" in output
    assert read_metadata(target).stem_pool == SOFT_POOL


def test_pickle(convert, model, tmp_path):
    content = {"model": {key: value.numpy() for key, value in model.state_dict().items()}}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content))
    target = tmp_path / "weights.safetensors"
    convert(path, target, error=r"error: .*model\.pkl is a pickle from outside")
    convert("--trust-pickle", path, target)
    assert torch.equal(load_file(target)["stem.conv1.weight"], model.conv1.weight)


def test_pickle_that_runs_code(convert, tmp_path):
    """Trust is about where a file comes from; it runs nothing for that."""
    path, marker = tmp_path / "model.pkl", tmp_path / "marker"

    class Malicious:
        def __reduce__(self):
            return Path.touch, (marker,)

    path.write_bytes(pickle.dumps({"model": Malicious()}))
    convert("--trust-pickle", path, tmp_path / "w.safetensors", error="holds more than tensors")
    assert not marker.exists()


def test_entries(convert, model, tmp_path):
    path, target = tmp_path / "checkpoint.pth", tmp_path / "weights.safetensors"
    average = {f"module.{key}": value * 2 for key, value in model.state_dict().items()}
    torch.save({"model": model.state_dict(), "model_ema": average}, path)
    command = ["--stem-pool", "max", path, target]
    assert "took model; the file also holds model_ema" in convert(*command)
    assert torch.equal(load_file(target)["stem.conv1.weight"], model.conv1.weight)
    output = convert("--entry", "model_ema", *command)
    assert "took model_ema; the file also holds model " in output
    assert torch.equal(load_file(target)["stem.conv1.weight"], 2 * model.conv1.weight)
    names = "'model', 'model_ema'"
    error = rf"error: .*checkpoint\.pth: has no entry 'ema'; pass --entry with one of: {names}"
    convert("--entry", "ema", *command, error=error)


def test_bad_targets(convert, source, tmp_path):
    convert(source, tmp_path / "w.pth", error=r"weights are written as \.safetensors")
    convert("--to", "torchvision", source, tmp_path / "w.pkl", error=r"are \.safetensors or \.pth")
    convert(tmp_path / "none.pth", tmp_path / "w.pth", error=r"none\.pth does not exist")
    assert [entry.name for entry in tmp_path.iterdir()] == ["resnet18.pth"]
