"""Weights from a stranger, of the kinds that tests/training/test_checkpointer.py does not try."""

import argparse
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from softpool_det.io.data_errors import DataError
from softpool_det.training.checkpointer import SafeCheckpointer
from softpool_det.weights.metadata import FORMAT, FORMAT_KEY

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
PICTURE = ROOT / "docs/assets/operator.png"
CLASSIFIER = ROOT / "configs/classification/digits_softpool.yaml"
# What a program is given so that it reads the weights; {} is their place.
PROGRAMS = {
    "train_net.py": "--num-gpus 0 --config-file {detector} MODEL.WEIGHTS {}",
    "visualize.py": "--config-file {detector} --weights {} --input {picture} --output out.png"
    " MODEL.DEVICE cpu",
    "export_testdev.py": "--num-gpus 0 --config-file {detector} --weights {} --alg a --output {out}"
    " --dataset digit_scenes_val MODEL.DEVICE cpu",
    "compare.py": "--baseline {detector} --candidate {detector} --baseline-weights {}"
    " --output {out} -- MODEL.DEVICE cpu",
    "train_classifier.py": "{classifier} weights={} output={out}",
}


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


def write_checkpoint(path, kind, marker):
    """Formats of torch.load's, the old ones among them, which are read by other ways."""
    content = {"model": {}, "optimizer": Payload(marker)}
    if kind == "zip":
        torch.save(content, path)
    elif kind == "before 1.6":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name in ("storages", "tensors", "pickle"):
                data = pickle.dumps(Payload(marker))
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.jit.script(torch.nn.ReLU()).save(path)


KINDS = ["zip", "before 1.6", "tar", "pickle", "TorchScript"]


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a TorchScript")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_do_not_run(kind, marker, refusal, tmp_path):
    path = tmp_path / "model.pth"
    write_checkpoint(path, kind, marker)
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path} holds more than tensors and plain values")
    with pytest.raises(DataError, match=r"nothing of it was run|not a PyTorch checkpoint"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_runs_a_checkpoint(program, environment, marker, tmp_path):
    path, output = tmp_path / "model.pth", tmp_path / "out"
    write_checkpoint(path, "zip", marker)
    places = {"detector": DETECTOR, "classifier": CLASSIFIER, "picture": PICTURE, "out": output}
    words = PROGRAMS[program].format(path, **places).split()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / program), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: {path} " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("model_final.pth"))


def test_a_name_through_the_zoo_is_not_of_the_zoo(marker, refusal, tmp_path):
    """Its folder of downloads would be left by way of "..", and a file from here be taken."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Payload(marker)))
    name = f"detectron2://../../../../../../../../../..{path}"
    error = refusal("convert_weights.py", name, tmp_path / "out.safetensors")
    assert f"{name} is a pickle from outside Detectron2's model zoo" in error


@pytest.mark.parametrize("key", ["stem_pool.kernel_size", "pixel_mean", "num_classes"])
def test_metadata_is_not_evaluated(key, marker, refusal, tmp_path):
    words = ["architecture", "channel_order", "source_file", "source_sha256", "source_format"]
    words += ["converter_version", "command", "stem_pool.name", "stem_pool.gradient"]
    header = {FORMAT_KEY: FORMAT} | dict.fromkeys(words, "RGB")
    numbers = {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": True}
    header |= {f"stem_pool.{name}": json.dumps(value) for name, value in numbers.items()}
    header |= {"pixel_mean": "[0, 0, 0]", "pixel_std": "[1, 1, 1]", "num_classes": "2"}
    header["stride_in_1x1"] = "false"
    header[key] = f"__import__('os').mkdir({str(marker)!r})"
    path = tmp_path / "model.safetensors"
    save_file({"stem.conv1.weight": torch.ones(1)}, path, header)
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path}: the metadata's {key} is not a valid ")


@pytest.mark.parametrize("length", [2**63, 2**40, 2])
def test_a_header_of_a_forged_length(length, refusal, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[1]}}')
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path} holds more than tensors and plain values")


def repacked(path, method=zipfile.ZIP_STORED, change=None):
    """The archive of torch.save's, packed again; `change` gets what is to be unpickled."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            is_pickle = change is not None and name.endswith("data.pkl")
            archive.writestr(name, change(content) if is_pickle else content)


def shared(path):
    """Two thousand members whose bytes are those of one: the directory names it so often."""
    repacked(path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.filelist, key=lambda member: member.file_size)
        archive.filelist += [largest] * 2000
        archive._didModify = True


def refused(path, refusal, match):
    """By the program and by the checkpointer, in one line."""
    error = refusal("convert_weights.py", path, path.with_name("out.safetensors"))
    assert re.search(rf"^error: {re.escape(str(path))}.*{match}", error)
    with pytest.raises(DataError, match=match) as caught:
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["compressed", "shared"])
def test_archives_that_fill_the_memory(kind, refusal, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": {"weight": torch.zeros(2**20)}}, path)
    if kind == "compressed":
        repacked(path, zipfile.ZIP_DEFLATED)
    else:
        shared(path)
    size = sum(member.file_size for member in zipfile.ZipFile(path).infolist())
    assert size > 100 * path.stat().st_size
    refused(
        path, refusal, rf"it would unpack to {size} bytes, more than it has; torch\.save never co"
    )


def test_shapes_of_which_a_file_holds_one_value(refusal, tmp_path):
    """To look for NaN in them would take terabytes."""
    path = tmp_path / "model.pth"
    names = ("layer1.0.conv1.weight", "fc.weight")
    torch.save({"model": {name: torch.ones(1).expand(2**40) for name in names}}, path)
    assert path.stat().st_size < 3000
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path}: ")
    with pytest.raises(ValueError, match=r"of which the file does not hold all values"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(path))


def test_arguments_of_a_training_do_not_run(marker, refusal, tmp_path):
    """Their class is taken as data, for many programs save it; nothing below it is."""
    path = tmp_path / "model.pth"
    torch.save({"model": {}, "args": argparse.Namespace(lr=Payload(marker))}, path)
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path} holds more than tensors and plain values")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 10**5, "not a JSON file"),
        ('{"pretrained_cfg": {"mean": [NaN, 0, 0]}}', "not three finite numbers"),
        ('{"pretrained_cfg": {"std": "0"}}', "not three finite numbers"),
    ],
    ids=["deep", "NaN", "text"],
)
def test_a_config_beside_the_weights(content, reason, refusal, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"layer1.0.conv1.weight": torch.ones(1)}, path)
    (tmp_path / "config.json").write_text(content)
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {tmp_path / 'config.json'}")
    assert reason in error


@pytest.mark.parametrize("shape", ["[1099511627776]", "[4294967296, 4294967296, 4294967296]"])
def test_a_header_of_a_forged_shape(shape, refusal, tmp_path):
    header = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}}}'.encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path} holds more than tensors and plain values")
