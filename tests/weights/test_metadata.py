"""What is recorded with weights, and the files that hold both."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from softpool_det.weights import StemPool, WeightsMetadata, read_metadata, save_weights
from softpool_det.weights.metadata import SOFT_POOL

METADATA = WeightsMetadata(
    architecture="resnext50_32x4d",
    stem_pool=SOFT_POOL,
    pixel_mean=(123.675, 116.280, 103.530),
    pixel_std=(58.395, 57.120, 57.375),
    channel_order="RGB",
    stride_in_1x1=False,
    num_classes=1000,
    source_file="model.pth",
    source_sha256="ab" * 32,
    source_format="torchvision",
    converter_version="0.1.0",
    command="python tools/convert_weights.py model.pth",
)
NUMBERS = st.tuples(*[st.floats(0, 255, allow_nan=False)] * 3)


@given(
    st.builds(
        WeightsMetadata,
        architecture=st.text(),
        stem_pool=st.builds(StemPool, name=st.text(), gradient=st.text()),
        pixel_mean=NUMBERS,
        pixel_std=st.tuples(*[st.floats(1e-3, 255)] * 3),
        channel_order=st.sampled_from(["RGB", "BGR"]),
        command=st.text(),
    )
)
def test_header_holds_all(metadata):
    header = metadata.to_header()
    assert all(isinstance(text, str) for item in header.items() for text in item)
    assert WeightsMetadata.from_header(header) == metadata


def test_file(tmp_path):
    """Any safetensors reader shows the metadata as text, and the tensors are what they were."""
    path = tmp_path / "new" / "weights.safetensors"
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last).requires_grad_()
    count = torch.tensor(7)
    save_weights(path, {"stem.conv1.weight": weight, "n": count}, METADATA)
    assert read_metadata(path) == METADATA
    found = load_file(path)
    assert torch.equal(found["stem.conv1.weight"], weight)
    assert torch.equal(found["n"], count)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["architecture"] == "resnext50_32x4d"
    assert header["stem_pool.name"] == "SoftPool2d"
    assert json.loads(header["pixel_mean"]) == [123.675, 116.28, 103.53]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": torch.ones(2)}, METADATA)
    before = path.read_bytes()
    sparse = torch.eye(3).to_sparse()
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        save_weights(path, {"a": sparse}, METADATA)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_of_others_has_no_metadata(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path, {"format": "pt"})
    assert read_metadata(path) is None


@pytest.mark.parametrize("key", ["stem_pool.padding", *(f.name for f in fields(METADATA)[2:])])
def test_missing_key_is_named(key, tmp_path):
    header = METADATA.to_header()
    del header[key]
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path, header)
    with pytest.raises(ValueError, match=rf"model\.safetensors: the metadata lacks {key}"):
        read_metadata(path)


def test_damaged_value_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path, METADATA.to_header() | {"num_classes": "many"})
    with pytest.raises(ValueError, match=r"num_classes is not a valid int: 'many'"):
        read_metadata(path)


def test_other_version_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path, METADATA.to_header() | {"softpool_det.weights": "2"})
    with pytest.raises(ValueError, match="format '2', this version of softpool_det reads '1'"):
        read_metadata(path)


def test_bad_values_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"channel_order must be 'RGB' or 'BGR', got 'GBR'"):
        replace(METADATA, channel_order="GBR")
    with pytest.raises(ValueError, match=r"pixel_std must have three values"):
        replace(METADATA, pixel_std=(1.0,))
    with pytest.raises(ValueError, match=r"written as \.safetensors, got .*weights\.pth"):
        save_weights(tmp_path / "weights.pth", {}, METADATA)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "[1]", '"1"', "null", "[" * 10**5])
@pytest.mark.parametrize("key", ["pixel_mean", "pixel_std"])
def test_pixels_that_are_no_numbers(key, value):
    header = METADATA.to_header() | {key: f"[1, 1, {value}]"}
    with pytest.raises(ValueError, match=rf"{key} (must have three values, all finite|is no)"):
        WeightsMetadata.from_header(header)


@pytest.mark.parametrize("value", [0, -1])
def test_pixels_are_divided_by_more_than_0(value):
    with pytest.raises(ValueError, match="pixel_std must be more than 0"):
        replace(METADATA, pixel_std=(1.0, value, 1.0))
