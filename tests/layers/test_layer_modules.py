"""Layers as modules: states, copies, modes, and how they show themselves."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from layer_cases import (
    ALL,
    CHANNELS,
    DRAWN,
    EVERY,
    LEARNED,
    OURS,
    SHAPES,
    build,
    dims_of,
    random_input,
)

from softpool_det.layers import build_pooling

PARAMETERS = {
    "LPPool": {"rho": (1,)},
    "MixedPool": {"b": (1,)},
    "GatedPool": {"omega": (3, 2)},
    "LiteDPPPool": {"alpha": (CHANNELS,), "lambda_": (CHANNELS,)},
    "LiteS3DPPPool": {"detail.alpha": (CHANNELS,), "detail.lambda_": (CHANNELS,)},
    "DPPPool": {
        "alpha": (CHANNELS,),
        "lambda_": (CHANNELS,),
        # Odd, and at least the kernel.
        "guide.weight": (CHANNELS, 1, 3, 3),
    },
    "LIPPool": {
        "conv.weight": (CHANNELS, CHANNELS, 3, 3),
        "norm.weight": (CHANNELS,),
        "norm.bias": (CHANNELS,),
    },
    "AdaPool": {"b": (1,)},
}
BY_CHANNEL = [("LPPool", "learn_p", "rho"), ("MixedPool", "learn_mix", "b")]
BY_CHANNEL += [("AdaPool", "learn_mix", "b"), ("SoftPool", "learn_beta", "log_beta")]


@pytest.mark.parametrize("name", [name for name in ALL if name != "BlurPool"])
def test_parameters_have_these_names_and_shapes(name):
    layer = build_pooling(name, 2, (3, 2), num_channels=CHANNELS)
    shapes = {key: tuple(value.shape) for key, value in layer.named_parameters()}
    assert shapes == PARAMETERS.get(name, {})
    assert all(value.dtype == torch.float32 for value in layer.parameters())
    assert {*layer.state_dict()} == {*shapes}


@pytest.mark.parametrize(("name", "option", "parameter"), BY_CHANNEL)
def test_parameters_may_be_one_by_channel_or_none(name, option, parameter):
    for learn, shape in (("one", (1,)), ("channel", (CHANNELS,))):
        layer = build_pooling(name, 2, 2, num_channels=CHANNELS, **{option: learn})
        assert layer.get_parameter(parameter).shape == shape
    layer = build_pooling(name, 2, 2, **{option: "no"})
    assert not [*layer.parameters()]
    assert not layer.state_dict()


@pytest.mark.parametrize(("name", "option", "parameter"), BY_CHANNEL)
def test_each_channel_has_its_own_parameter(name, option, parameter):
    layer = build(name, 2, 2, **{option: "channel"})
    input = random_input(name, SHAPES[2])
    output = layer(input)
    with torch.no_grad():
        layer.get_parameter(parameter)[1] += 1
    changed = (layer(input) != output).flatten(2).any(2).any(0)
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("name", LEARNED)
def test_a_state_dict_gives_the_same_outputs_again(name):
    layer, other = build(name, 2, 3, 2, 1), build(name, 2, 3, 2, 1)
    input = random_input(name, SHAPES[2])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.5
    expected = layer(input)
    assert not torch.equal(other(input), expected)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(input), expected)


def copies(layer):
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_copies_give_the_same_outputs(name, dims):
    layer = build(name, dims, 3, 2, 1)
    input = random_input(name, SHAPES[dims])
    expected = layer(input)
    for other in copies(layer):
        assert torch.equal(other(input), expected)
        assert str(other) == str(layer)
        pointers = {parameter.data_ptr() for parameter in layer.parameters()}
        assert not pointers & {parameter.data_ptr() for parameter in other.parameters()}


@pytest.mark.parametrize("name", DRAWN)
def test_copies_of_one_with_a_generator_draw(name):
    generator = torch.Generator().manual_seed(3)
    layer = build_pooling(name, 2, 2, generator=generator, num_channels=CHANNELS).train()
    input = random_input(name, SHAPES[2]).float()
    for other in copies(layer):
        assert other(input).shape == layer(input).shape


@pytest.mark.parametrize("name", ALL)
def test_training_and_evaluation_differ_where_something_is_drawn(name):
    layer = build(name, 2, 3, 2, 1)
    input = random_input(name, SHAPES[2])
    expected = layer(input)
    for mode in (True, False):
        layer.train(mode)
        same = torch.equal(layer(input), expected)
        assert same is (not mode or name not in DRAWN)


SHOWN = [
    ("PowerAvgPool", {"exponent": 3.0}, "exponent=3.0"),
    ("LPPool", {"p": 3.0, "learn_p": "no"}, "p=3.0"),
    ("LPPool", {"learn_p": "channel"}, "learn_p='channel'"),
    ("MixedPool", {"mix": 0.25, "learn_mix": "no"}, "mix=0.25"),
    ("MixedPool", {"learn_mix": "channel"}, "learn_mix='channel'"),
    ("LiteDPPPool", {"symmetric": False}, "symmetric=False"),
    ("DPPPool", {}, f"num_channels={CHANNELS}"),
    ("LIPPool", {}, f"num_channels={CHANNELS}"),
    ("S3Pool", {"grid_size": 4}, "grid_size=4"),
    ("AdaPool", {"mix": 0.25, "learn_mix": "no"}, "mix=0.25"),
    ("BlurPool", {"filter_size": 5}, "filter_size=5"),
    ("SoftPool", {"gradient": "exact"}, "gradient='exact'"),
]


@pytest.mark.parametrize(("name", "options", "text"), SHOWN)
def test_layers_show_their_options(name, options, text):
    layer = build_pooling(name, 2, 2, num_channels=CHANNELS, **options)
    assert text in repr(layer)


@pytest.mark.parametrize("name", OURS)
def test_layers_show_their_window(name):
    shown = repr(build_pooling(name, 2, 3, 2, 1, ceil_mode=True, num_channels=CHANNELS))
    assert shown.startswith(f"{name}2d(")
    for text in ("kernel_size=3", "stride=2", "padding=1", "ceil_mode=True"):
        assert text in shown


@pytest.mark.parametrize("name", OURS)
def test_layers_keep_their_arguments(name):
    layer = build(name, dims_of(name)[-1], 3, 2, 1, ceil_mode=True)
    assert (layer.kernel_size, layer.stride, layer.padding) == (3, 2, 1)
    assert layer.ceil_mode is True
    assert isinstance(layer, torch.nn.Module)
