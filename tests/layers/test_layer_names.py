"""Poolings by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from layer_cases import ALL, CHANNELS, DRAWN, EVERY, OURS, build, dims_of

from softpool_det import layers
from softpool_det.layers import POOLINGS, build_pooling, options_of, pooling_class
from softpool_det.similarity import poolings as similarity

ROOT = Path(__file__).parents[2]

OPTION_NAMES = {
    "PowerAvgPool": ["exponent"],
    "LPPool": ["p", "learn_p", "num_channels"],
    "MixedPool": ["mix", "learn_mix", "num_channels"],
    "LiteDPPPool": ["num_channels", "symmetric"],
    "DPPPool": ["num_channels", "symmetric"],
    "LIPPool": ["num_channels"],
    "StochasticPool": ["generator"],
    "S3Pool": ["grid_size", "generator"],
    "LiteS3DPPPool": ["num_channels", "symmetric", "grid_size", "generator"],
    "AdaPool": ["mix", "learn_mix", "num_channels"],
    "BlurPool": ["filter_size"],
    "SoftPool": ["gradient", "beta", "learn_beta", "num_channels"],
}


def spellings(name, dims):
    short = name.removesuffix("Pool")
    for text in (short, name, f"{name}{dims}d"):
        yield from (text, text.lower(), text.upper(), text.swapcase())


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_every_spelling_finds_the_class(name, dims):
    found = {pooling_class(spelling, dims) for spelling in spellings(name, dims)}
    (cls,) = found
    assert cls.__name__ == f"{name}{dims}d"
    for spelling in spellings(name, dims):
        assert type(build_pooling(spelling, dims, 2, num_channels=CHANNELS)) is cls


@pytest.mark.parametrize(("name", "dims"), [layer for layer in EVERY if layer[0] in OURS])
def test_classes_are_in_the_room(name, dims):
    if name != "SoftPool":
        assert getattr(layers, f"{name}{dims}d") is pooling_class(name, dims)
        assert f"{name}{dims}d" in layers.__all__
    assert pooling_class(name, dims).__doc__


def test_the_lists_elsewhere_have_every_pooling():
    for name in POOLINGS:
        assert {pooling.layer for pooling in similarity.select_poolings([name])} == {name}
    table = (ROOT / "docs" / "poolings.md").read_text().split("\n## ")[0]
    assert {*re.findall(r"^\| `(\w+)`", table, re.MULTILINE)} == {*POOLINGS}
    assert f"[{len(POOLINGS)} poolings](docs/poolings.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["softpol", "", "pool", "2d", "lip4d", None, 3])
def test_unknown_names_list_the_right_ones(name):
    for call in (lambda: pooling_class(name, 2), lambda: build_pooling(name, 2, 2)):
        with pytest.raises(KeyError) as caught:
            call()
        assert all(known in str(caught.value) for known in POOLINGS)
        assert repr(name) in str(caught.value)


def test_blur_has_two_dimensions():
    for dims in (1, 3):
        with pytest.raises(KeyError, match=f"BlurPool .*{dims}"):
            pooling_class("blur", dims)


@pytest.mark.parametrize("dims", [0, 4, "2"])
def test_other_numbers_of_dimensions(dims):
    with pytest.raises(KeyError, match=f"{dims}"):
        pooling_class("lip", dims)


@pytest.mark.parametrize("name", ALL)
def test_wrong_options_list_the_right_ones(name):
    cls = pooling_class(name, dims_of(name)[-1])
    with pytest.raises(TypeError) as caught:
        build_pooling(name, dims_of(name)[-1], 2, num_channels=CHANNELS, temprature=3)
    message = str(caught.value)
    assert "temprature" in message
    assert cls.__name__ in message
    options = [option for option in OPTION_NAMES.get(name, []) if option != "num_channels"]
    assert all(option in message for option in options)


@pytest.mark.parametrize("name", OURS)
def test_options_are_those_that_are_given_by_keyword(name):
    for dims in dims_of(name):
        assert sorted(options_of(pooling_class(name, dims))) == sorted(OPTION_NAMES.get(name, []))


@pytest.mark.parametrize("name", DRAWN)
def test_options_reach_the_layer(name):
    generator = torch.Generator()
    assert build(name, 2, 2, generator=generator).generator is generator


@pytest.mark.parametrize("name", ["lip", "litedpp", "dpp", "lites3dpp"])
def test_the_number_of_channels_is_asked_for(name):
    with pytest.raises((TypeError, ValueError), match=r"num_channels.* got None"):
        build_pooling(name, 2, 2)
