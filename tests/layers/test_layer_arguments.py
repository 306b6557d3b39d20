"""What layers refuse, and what they say then: the argument and its value."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from layer_cases import CHANNELS, EVERY_OF_OURS, FOR_CHANNELS, OURS, SHAPES, build, dims_of

from softpool_det.layers import build_pooling, pooling_class

ERRORS = (TypeError, ValueError)


def make(name, dims, **arguments):
    """Built by its class, or by the first call."""
    options = {"num_channels": CHANNELS} if name in FOR_CHANNELS else {}
    layer = pooling_class(name, dims)(**{"kernel_size": 2, **options, **arguments})
    return layer.eval()(torch.zeros(1, CHANNELS, *[4] * dims))


WRONG = [
    ({"kernel_size": 0}, "kernel_size.* got .*0"),
    ({"kernel_size": -2}, "kernel_size.* got .*-2"),
    ({"kernel_size": "3"}, "kernel_size.* got '3'"),
    ({"kernel_size": 2.5}, "kernel_size.* got 2.5"),
    ({"kernel_size": (2,) * 4}, r"kernel_size.* got \(2, 2, 2, 2\)"),
    ({"stride": 0}, "stride.* got .*0"),
    ({"stride": "2"}, "stride.* got '2'"),
    ({"padding": 2}, "padding.* got .*2"),
    ({"padding": -1}, "padding.* got .*-1"),
    ({"padding": None}, "padding.* got None"),
    ({"kernel_size": 9}, "input of size 4 is too small for a window of 9"),
]


@pytest.mark.parametrize(("name", "dims"), EVERY_OF_OURS)
def test_wrong_windows(name, dims):
    for arguments, message in WRONG:
        with pytest.raises(ERRORS, match=message):
            make(name, dims, **arguments)


@pytest.mark.parametrize("name", OURS)
def test_wrong_dilations(name):
    for dilation in (0, "2", -1):
        with pytest.raises(ERRORS, match=f"dilation.* got .*{dilation}"):
            make(name, 2, dilation=dilation)


def test_an_average_has_no_dilation():
    with pytest.raises(ERRORS, match=r"dilation.* got .*2"):
        build_pooling("Avg", 2, 2, dilation=2)


NAN, INF = float("nan"), float("inf")
WRONG_OPTIONS = [
    ("PowerAvgPool", {"exponent": 0.0}, "exponent.* got 0"),
    ("PowerAvgPool", {"exponent": NAN}, "exponent.* got nan"),
    ("PowerAvgPool", {"exponent": INF}, "exponent.* got inf"),
    ("PowerAvgPool", {"exponent": "2"}, "exponent.* got '2'"),
    ("LPPool", {"p": 0.5}, "p must.* got 0.5"),
    ("LPPool", {"p": NAN}, "p must.* got nan"),
    ("LPPool", {"p": "2"}, "p must.* got '2'"),
    ("LPPool", {"p": 1.0}, "p must.* got 1"),
    ("LPPool", {"learn_p": "yes"}, "learn_p.*\"one\".* got 'yes'"),
    ("LPPool", {"learn_p": True}, 'learn_p.*"one".* got True'),
    ("LPPool", {"learn_p": "channel"}, "num_channels.* got None"),
    ("MixedPool", {"mix": 1.5}, "mix must.* got 1.5"),
    ("MixedPool", {"mix": -0.1}, "mix must.* got -0.1"),
    ("MixedPool", {"mix": NAN}, "mix must.* got nan"),
    ("MixedPool", {"mix": 1.0}, "mix must.* got 1.0"),
    ("MixedPool", {"mix": "all"}, "mix must.* got 'all'"),
    ("MixedPool", {"learn_mix": "yes"}, "learn_mix.*\"one\".* got 'yes'"),
    ("MixedPool", {"learn_mix": "channel"}, "num_channels.* got None"),
    ("AdaPool", {"mix": 1.5}, "mix must.* got 1.5"),
    ("AdaPool", {"learn_mix": "yes"}, "learn_mix.*\"one\".* got 'yes'"),
    ("AdaPool", {"learn_mix": "channel"}, "num_channels.* got None"),
    ("S3Pool", {"grid_size": 3}, "grid_size.* got 3"),
    ("S3Pool", {"grid_size": 0}, "grid_size.* got 0"),
    ("S3Pool", {"grid_size": "4"}, "grid_size.* got '4'"),
    ("S3Pool", {"generator": 3}, "generator.* got 3"),
    ("StochasticPool", {"generator": 3}, "generator.* got 3"),
    ("BlurPool", {"filter_size": 0}, "filter_size.* got 0"),
    ("BlurPool", {"filter_size": "3"}, "filter_size.* got '3'"),
    ("BlurPool", {"filter_size": 2.5}, "filter_size.* got 2.5"),
    ("SoftPool", {"beta": -1.0}, "beta.* got -1.0"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG_OPTIONS, ids=str)
def test_wrong_options(name, options, message):
    with pytest.raises(ERRORS, match=message):
        make(name, 2, **options)


@pytest.mark.parametrize("number", [None, 0, -1, 2.0, "3", True])
@pytest.mark.parametrize("name", FOR_CHANNELS)
def test_wrong_numbers_of_channels(name, number):
    with pytest.raises(ERRORS, match=f"num_channels.* got {number!r}"):
        pooling_class(name, 2)(2, num_channels=number)


@pytest.mark.parametrize("name", [*FOR_CHANNELS, "LPPool", "MixedPool", "AdaPool", "SoftPool"])
def test_an_input_with_other_channels(name):
    option = {"LPPool": "learn_p", "MixedPool": "learn_mix", "AdaPool": "learn_mix"}
    option["SoftPool"] = "learn_beta"
    options = {option[name]: "channel"} if name in option else {}
    layer = build(name, 2, 2, **options)
    for channels in (1, 4):
        message = f"{channels}.*{CHANNELS}|{CHANNELS}.*{channels}"
        # Convolutions have words of their own.
        with pytest.raises((ValueError, RuntimeError), match=message):
            layer(torch.zeros(1, channels, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("name", OURS)
def test_inputs_that_are_not_floating_point(name):
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"input must have one of the dtypes.* got {dtype}"):
            build(name, 2, 2)(torch.zeros((1, CHANNELS, 4, 4), dtype=dtype))


@pytest.mark.parametrize(("name", "dims"), EVERY_OF_OURS)
def test_inputs_of_another_shape(name, dims):
    layer = build(name, dims, 2)
    for rank in (0, dims, dims + 3):
        with pytest.raises(ValueError, match="input must have the shape"):
            layer(torch.zeros([4] * rank, dtype=torch.float64))
    with pytest.raises(ValueError, match="input must not be empty"):
        layer(torch.zeros(1, CHANNELS, *[0] * dims, dtype=torch.float64))


@pytest.mark.parametrize(("name", "dims"), EVERY_OF_OURS)
def test_whatever_max_pooling_takes(name, dims):
    """Lists, one number in a sequence, and the stride left out."""
    input = torch.zeros(SHAPES[dims], dtype=torch.float64)
    max_pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dims]
    for window in (([2] * dims,), ((3,), (2,)), ([3] * dims, [2], [1] * dims), (2, None, 1)):
        expected = max_pool(input, *window).shape
        assert build(name, dims, *window)(input).shape == expected


@pytest.mark.parametrize("name", OURS)
def test_options_are_given_by_keyword(name):
    dims = dims_of(name)[-1]
    channels = {"num_channels": CHANNELS} if name in FOR_CHANNELS else {}
    with pytest.raises(TypeError, match=r"positional|arguments"):
        pooling_class(name, dims)(2, 2, 0, 1, False, 3, **channels)
