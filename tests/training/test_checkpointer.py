"""Checkpoints: what loads, and what a stranger's file cannot do."""

import logging
import pickle
import re
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import Detectron2Handler
from safetensors.torch import save_file
from torch import nn

from softpool_det.io.data_errors import DataError
from softpool_det.training.checkpointer import SafeCheckpointer

# In Detectron2's catalogue and zoo.
ADDRESSES = [
    "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
    "catalog://ImageNetPretrained/MSRA/R-50",
    model_zoo.get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
]


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def model():
    return nn.Conv2d(2, 3, 1)


def arrays(model):
    generator = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    return {name: generator.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def assert_holds(model, values):
    for name, value in values.items():
        assert torch.equal(model.state_dict()[name], torch.from_numpy(value))


def test_safetensors_of_a_backbone_load_into_a_detector(model, tmp_path):
    """Their names lack what stands before the backbone's in a detector."""
    values = arrays(model)
    path = tmp_path / "backbone.safetensors"
    save_file({name: torch.from_numpy(value) for name, value in values.items()}, path)
    detector = nn.ModuleDict({"backbone": model, "head": nn.Linear(3, 1)})
    incompatible = SafeCheckpointer(detector).load(str(path))
    assert incompatible == {"matching_heuristics": True}
    assert_holds(model, values)


def test_safetensors_without_metadata_warn(model, tmp_path, caplog, monkeypatch):
    # Detectron2's set-up of logging, where another test ran it, keeps it from here.
    monkeypatch.setattr(logging.getLogger("fvcore"), "propagate", True)
    path = tmp_path / "backbone.safetensors"
    save_file(model.state_dict(), path)
    SafeCheckpointer(model).load(str(path))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("nothing is compared with the config" in warning for warning in warnings)


@pytest.mark.parametrize("address", ADDRESSES)
def test_pickle_of_the_zoo_needs_no_trust(address, model, tmp_path, monkeypatch):
    """From the cache that Detectron2's downloads go to."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    url = address.replace("detectron2://", Detectron2Handler.S3_DETECTRON2_PREFIX)
    if url.startswith("catalog://"):
        url = ModelCatalog.get(url.removeprefix("catalog://"))
    path = tmp_path / urlparse(url).path.lstrip("/")
    path.parent.mkdir(parents=True)
    values = arrays(model)
    path.write_bytes(pickle.dumps({"model": values, "__author__": "zoo"}))
    SafeCheckpointer(model).load(address)
    assert_holds(model, values)


@pytest.mark.parametrize(
    "path",
    [
        "model.pkl",
        "MODEL.PKL",
        "model.pkl?matching_heuristics=True",
        "https://example.com/model.pkl",
        ADDRESSES[2].replace("https://", "http://"),
        ADDRESSES[2].replace("/detectron2/", ".example.com/detectron2/"),
    ],
)
def test_other_pickles_need_trust(path, model):
    """They are refused by name, before anything is fetched."""
    with pytest.raises(PermissionError, match=r"is a pickle from outside .*pass --trust-pickle"):
        SafeCheckpointer(model).load(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_model_zoo_pickle_loads(protocol, model, tmp_path):
    values = arrays(model)
    # Detectron2's converted torchvision weights have these entries; scalars come with some.
    content = {"model": values, "__author__": "torchvision", "iteration": np.int64(3)}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    rest = SafeCheckpointer(model, trust_pickle=True).load(str(path))
    assert_holds(model, values)
    assert rest == {"__author__": "torchvision", "iteration": 3}


def test_pickle_of_older_numpy_loads(model, tmp_path):
    """NumPy 1 wrote numpy.core for what is numpy._core now; so are the zoo's files."""
    values = arrays(model)
    content = pickle.dumps({"model": values, "__author__": "zoo"}, protocol=2)
    path = tmp_path / "model.pkl"
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    SafeCheckpointer(model, trust_pickle=True).load(str(path))
    assert_holds(model, values)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pyth"])
def test_code_does_not_run(suffix, model, tmp_path):
    marker = tmp_path / "marker"
    content = {"model": {**arrays(model), "weight": Malicious(marker)}, "__author__": "stranger"}
    path = tmp_path / f"model{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    reason = "calls pathlib" if suffix == ".pkl" else r"\(Unsupported global: GLOBAL "
    with pytest.raises(DataError, match=f"nothing of it was run.*{reason}") as error:
        SafeCheckpointer(model, trust_pickle=True).load(str(path))
    assert len(str(error.value).splitlines()) == 1
    assert not marker.exists()


def test_error_of_a_refused_pickle_names_the_call(model, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {}, "hook": print, "__author__": "stranger"}))
    with pytest.raises(DataError, match=r"calls builtins\.print; .* as \.pth"):
        SafeCheckpointer(model, trust_pickle=True).load(str(path))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((4,), 7.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "one bit": flip,
}


@pytest.mark.parametrize(
    ("damage", "suffix"),
    [
        (name, suffix)
        for name in DAMAGES
        for suffix in (".pth", ".safetensors")
        # The format has no checksums that would show one wrong bit.
        if (name, suffix) != ("one bit", ".safetensors")
    ],
)
def test_damaged_weights_are_named(damage, suffix, tmp_path):
    """Those that a config names."""
    model = torch.nn.Linear(100, 1)
    torch.nn.init.constant_(model.weight, 7)
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"model": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    SafeCheckpointer(model).load(str(path))
    DAMAGES[damage](path)
    complaint = rf"^{re.escape(str(path))}: .*(damaged|not a PyTorch checkpoint)"
    with pytest.raises(DataError, match=complaint):
        SafeCheckpointer(model).load(str(path))


def write(path, content):
    """As the suffix says."""
    if path.suffix == ".pkl":
        arrays = {name: value.numpy() for name, value in content.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "me"}, protocol=2))
    elif path.suffix == ".pth":
        torch.save({"model": content, "iteration": 3}, path)
    else:
        save_file(content, path)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_weights_that_are_not_finite_are_refused(suffix, model, tmp_path):
    """Before any of them is loaded."""
    path = tmp_path / f"model{suffix}"
    content = {key: value.clone() for key, value in model.state_dict().items()}
    content |= {"norm.running_var": torch.tensor([0.0, 1.0])}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    write(path, content)
    SafeCheckpointer(model, trust_pickle=True).load(str(path))
    for key, value, complaint in (
        ("weight", float("nan"), "weight has 6 NaN among its 6 values"),
        ("bias", float("inf"), "bias has 3 infinite among its 3 values"),
        ("norm.running_var", -1.0, "norm.running_var has 2 negative among its 2 variances"),
    ):
        write(path, content | {key: torch.full_like(content[key], value)})
        match = rf"^{re.escape(str(path))}: {re.escape(complaint)}; take an earlier checkpoint"
        with pytest.raises(ValueError, match=match):
            SafeCheckpointer(model, trust_pickle=True).load(str(path))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_optimizer_that_is_not_finite(model, tmp_path):
    """It spoils the weights at the first step: refused where it is loaded, and there alone."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2, 1, 1)).sum().backward()
    optimizer.step()
    optimizer.state[model.bias]["momentum_buffer"][1] = float("nan")
    checkpointer = SafeCheckpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("model_final")
    match = (
        r"model_final\.pth: optimizer\.state\.1\.momentum_buffer has 1 NaN among its 3 values; "
        r"take an earlier"
    )
    with pytest.raises(ValueError, match=match):
        checkpointer.resume_or_load("", resume=True)
    again = SafeCheckpointer(model, optimizer=optimizer)
    again.resume_or_load(str(tmp_path / "model_final.pth"), resume=False)


def test_pickle_is_not_read_by_others(model, tmp_path):
    """Nine bytes with which Python's own reader takes half a gigabyte, and could take all."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\2Nr" + (2**32 - 1).to_bytes(4, "little") + b".")
    with pytest.raises(DataError, match=r"model\.pkl holds more than .*NoneType"):
        SafeCheckpointer(model, trust_pickle=True).load(str(path))


@pytest.mark.parametrize("content", [{"model": [1]}, {"model": {1: torch.ones(1)}}])
def test_model_that_is_no_state_dict(content, model, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(DataError, match=r"model\.pth: its entry 'model' is not a state dict"):
        SafeCheckpointer(model).load(str(tmp_path / "model.pth"))
