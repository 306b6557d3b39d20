"""Every pooling in 1, 2 and 3 dimensions against its formula in float64."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from layer_cases import (
    ALL,
    CHANNELS,
    EVERY,
    EVERY_OF_OURS,
    SHAPES,
    WINDOWS,
    build,
    dims_of,
    expected_output,
    random_cases,
    random_input,
    takes,
    to_layout,
    window_of,
)

EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "100"))
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def assert_equals_the_formula(name, layer, input, window):
    output = layer(input)
    expected = expected_output(name, layer, input.numpy(), window)
    np.testing.assert_allclose(
        output.detach().numpy(), expected, rtol=1e-9, atol=1e-9, err_msg=str(window)
    )


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_values_are_those_of_the_formula(name, dims):
    input = random_input(name, SHAPES[dims])
    for window in filter(partial(takes, name), WINDOWS):
        layer = build(name, dims, *window)
        assert_equals_the_formula(name, layer, input, window_of(dims, *window))
        torch.testing.assert_close(layer(to_layout(input, True)), layer(input))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(case=random_cases())
def test_random_windows_equal_the_formula(case):
    name, shape, window = case
    numbers = (window.kernel, window.stride, window.padding, window.dilation, window.ceil_mode)
    layer = build(name, len(window.kernel), *numbers)
    input = random_input(name, shape)
    sizes = MAX_POOLS[len(window.kernel)](input, *numbers[:4], ceil_mode=window.ceil_mode).shape
    assert layer(input).shape == sizes
    # The reference says where the blur of maxima ends only for a stride of 2.
    if name != "BlurPool" or (window.stride == (2, 2) and not window.ceil_mode):
        assert_equals_the_formula(name, layer, input, window)


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_kernels_of_different_sides(name, dims):
    kernel, stride, padding = (4, 2, 3)[:dims], (1, 2, 2)[:dims], (1, 0, 1)[:dims]
    if name == "BlurPool":
        stride = (2, 2)
    layer = build(name, dims, kernel, stride, padding)
    input = random_input(name, SHAPES[dims])
    assert_equals_the_formula(name, layer, input, window_of(dims, kernel, stride, padding))


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_the_stride_is_the_kernel_size_if_not_given(name, dims):
    input = random_input(name, SHAPES[dims])
    outputs = [build(name, dims, 2, *stride)(input) for stride in ((), (None,), (2,))]
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[2])


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_one_image_is_a_batch_of_one(name, dims):
    layer = build(name, dims, 2)
    input = random_input(name, SHAPES[dims])[:1]
    for train in (False, True):
        outputs = []
        for images in (input, input[0]):
            torch.manual_seed(5)
            outputs.append(layer.train(train)(images))
        assert torch.equal(outputs[0][0], outputs[1])


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_a_batch_of_none_stays_one(name, dims):
    if name == "LIPPool":
        pytest.skip("torch's InstanceNorm refuses it")
    output = build(name, dims, 3, 2, 1)(torch.empty(0, *SHAPES[dims][1:], dtype=torch.float64))
    assert output.shape[:2] == (0, CHANNELS)


@pytest.mark.parametrize("name", [name for name in ALL if name != "LIPPool"])
def test_images_and_channels_are_pooled_by_themselves(name):
    dims = dims_of(name)[-1]
    layer = build(name, dims, 3, 2, 1)
    input = random_input(name, (2, *SHAPES[dims][1:]))
    output = layer(input)
    torch.testing.assert_close(layer(input[1:]), output[1:])
    other = input.clone()
    other[:, 1:] = 7.0
    torch.testing.assert_close(layer(other)[:, 0], output[:, 0])


@pytest.mark.parametrize(("name", "dims"), [layer for layer in EVERY_OF_OURS if layer[1] > 1])
def test_channels_last_is_kept(name, dims):
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    layer = build(name, dims, 2)
    input = random_input(name, (2, *SHAPES[dims][1:]), channels_last=True).requires_grad_()
    for train in (False, True):
        output = layer.train(train)(input)
        assert output.is_contiguous(memory_format=layout)
        (grad_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
        assert grad_input.is_contiguous(memory_format=layout)
        assert layer(input.detach().contiguous()).is_contiguous()


@pytest.mark.parametrize(("name", "dims"), EVERY_OF_OURS)
def test_views_with_other_strides_have_the_same_values(name, dims):
    layer = build(name, dims, 3, 2, 1)
    input = random_input(name, SHAPES[dims])
    strided = torch.stack([input, input + 1], -1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(layer(strided), layer(input))
    expanded = input[:1].expand(2, *input.shape[1:])
    torch.testing.assert_close(layer(expanded), layer(expanded.contiguous()))
