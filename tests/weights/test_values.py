"""NaN, infinite numbers and impossible statistics in files of weights."""

import re

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from softpool_det.weights.convert import read_weights
from softpool_det.weights.metadata import MAX_POOL
from softpool_det.weights.values import check_values

NAN, INF = float("nan"), float("inf")
BAD = {
    "NaN": ("w", [1, NAN, NAN], "w has 2 NaN among its 3 values"),
    "infinite": ("w", [1, INF, -INF], "w has 2 infinite among its 3 values"),
    "both": ("w", [NAN, INF, 0], "w has 1 NaN, 1 infinite among its 3 values"),
    "mean": ("bn1.running_mean", [NAN, 0], "bn1.running_mean has 1 NaN among its 2 values"),
    "variance": ("bn1.running_var", [-1e-3, 0], "bn1.running_var has 1 negative among its 2 varia"),
    "variances": (
        *("bn1.running_var", [NAN, INF, -INF, -1]),
        "bn1.running_var has 1 NaN, 2 infinite, 1 negative among its 4 variances",
    ),
    "Caffe2": ("res_conv1_bn_riv", [-1], "res_conv1_bn_riv has 1 negative among its 1 variances"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_bad_values_are_named(name, dtype):
    key, values, complaint = BAD[name]
    with pytest.raises(ValueError, match=rf"^f\.pth: model\.{re.escape(complaint)}") as error:
        check_values({key: torch.tensor(values, dtype=dtype)}, "f.pth", "model.")
    assert str(error.value).endswith("; take an earlier checkpoint, or another file")
    assert len(str(error.value).splitlines()) == 1


def test_overflow_of_half_precision():
    half = torch.tensor([7e4, 1]).half()
    with pytest.raises(ValueError, match=r"1 infinite .*float16 ends at 65504: save it as float32"):
        check_values({"w": half}, "f.pth")
    # What float64 holds, models in float32 do not.
    with pytest.raises(ValueError, match=r"1 infinite among its 1 values \(float32"):
        check_values({"w": torch.tensor([1e39], dtype=torch.float64)}, "f.pth")


def test_the_first_and_how_many_others():
    tensors = {"a": torch.ones(2), "b": torch.tensor(NAN), "c": torch.tensor(INF)}
    with pytest.raises(ValueError, match=r"^f: b has 1 NaN .* values; 1 other parameter, too;"):
        check_values(tensors, "f")


def test_what_is_right_passes():
    check_values(
        {
            "bn1.running_var": torch.zeros(3),  # of channels that are always the same
            "bn1.running_mean": torch.tensor([-3.0]),
            "bn1.num_batches_tracked": torch.tensor(-1),
            "empty": torch.zeros(0, 4),
            "view": torch.ones(9).view(3, 3).t()[1:],
            "small": torch.ones(3).to(torch.float8_e4m3fn),
            "complex": torch.ones(3, dtype=torch.complex64),
        },
        "f.pth",
    )


def test_shapes_of_which_the_file_holds_one_value():
    """A few bytes claim a terabyte, of which torch makes room when it is looked at."""
    with pytest.raises(ValueError, match=r"w has the shape \(1099511627776,\), of which the file"):
        check_values({"w": torch.ones(1).expand(2**40)}, "f.pth")


@pytest.fixture
def state_dict():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=8).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_conversion_refuses(suffix, state_dict, tmp_path):
    """By the name in the file."""
    state_dict["layer1.0.bn2.running_var"][3] = -0.5
    state_dict["layer2.0.bn1.bias"][:2] = NAN
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save({"model": {f"module.{k}": v for k, v in state_dict.items()}}, path)
    else:
        save_file(state_dict, path)
    name = "model.module.layer1" if suffix == ".pth" else "layer1"
    match = (
        rf"^{re.escape(str(path))}: {name}\.0\.bn2\.running_var has 1 negative among its 64 "
        r"variances; 1 other parameter, too; take an earlier checkpoint, or another file$"
    )
    with pytest.raises(ValueError, match=match):
        read_weights(str(path), stem_pool=MAX_POOL)


def test_conversion_looks_at_what_it_takes(state_dict, tmp_path):
    """A broken average or head beside the ResNet is not part of the result."""
    path = tmp_path / "checkpoint.pth"
    average = state_dict | {"fc.bias": torch.full((8,), NAN)}
    model = {f"backbone.{k}": v for k, v in state_dict.items()} | {"neck.weight": torch.tensor(NAN)}
    torch.save({"model": model, "model_ema": average}, path)
    read_weights(str(path), stem_pool=MAX_POOL)
    with pytest.raises(ValueError, match=r"model_ema\.fc\.bias has 8 NaN among its 8 values"):
        read_weights(str(path), stem_pool=MAX_POOL, entry="model_ema")
