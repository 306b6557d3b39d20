"""Weights from a stranger, of the kinds that tests/test_checkpoint.py does not try."""

import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from softpool_det.data.failures import DataError
from softpool_det.engine.checkpoint import SafeCheckpointer
from softpool_det.weights.metadata import FORMAT, FORMAT_KEY

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
CLASSIFIER = ROOT / "configs/classification/digits_softpool_R_18.yaml"
# What a program is given so that it reads the weights; {} is their place.
PROGRAMS = {
    "train_net.py": "--num-gpus 0 --config-file {detector} MODEL.WEIGHTS {}",
    "visualize.py": "--config-file {detector} --weights {} --input in.png --output out.png"
    " MODEL.DEVICE cpu",
    "export_testdev.py": "--num-gpus 0 --config-file {detector} --weights {} --alg a --output {out}"
    " --dataset digit_scenes_val MODEL.DEVICE cpu",
    "compare.py": "--baseline {detector} --candidate {detector} --baseline-weights {}"
    " --output {out} -- MODEL.DEVICE cpu",
    "train_classifier.py": "--config-file {classifier} MODEL.WEIGHTS {} OUTPUT_DIR {out}",
    "evaluate_classifiers.py": "swap --weights {} --trained {classifier} --swapped {classifier}"
    " --output {out}",
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
    with pytest.raises(DataError, match=r"nothing of it was run|no checkpoint of PyTorch"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_runs_a_checkpoint(program, environment, marker, tmp_path):
    # Classifiers start from no other format.
    suffix = ".safetensors" if "classifier" in program else ".pth"
    path, output = tmp_path / f"model{suffix}", tmp_path / "out"
    write_checkpoint(path, "zip", marker)
    places = {"detector": DETECTOR, "classifier": CLASSIFIER, "out": output}
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
    assert error.startswith(f"error: {path}: the metadata's {key} is no ")


@pytest.mark.parametrize("length", [2**63, 2**40, 2])
def test_a_header_of_a_forged_length(length, refusal, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[1]}}')
    error = refusal("convert_weights.py", path, tmp_path / "out.safetensors")
    assert error.startswith(f"error: {path} holds more than tensors and plain values")
