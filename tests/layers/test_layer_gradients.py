"""Derivatives of every pooling: of the input, and of what it learns."""

from __future__ import annotations

import pytest
import torch
from layer_cases import (
    ALL,
    CHANNELS,
    EVERY,
    LEARNED,
    OURS,
    SHAPES,
    build,
    dims_of,
    random_input,
)
from torch.autograd import gradcheck
from torch.func import functional_call

SMALL = {1: (1, 2, 7), 2: (1, 2, 5, 4), 3: (1, 1, 3, 4, 3)}
# The stem's, with padding, and one in which elements lie apart.
WINDOWS = [(3, 2, 1), (2, 2, 0, 1, True)]
APART = (2, 1, 0, 2)


def check_derivative(layer, input):
    """gradcheck of the input and of all parameters, for the draws of one seed."""
    names = [name for name, _ in layer.named_parameters()]

    def function(input, *parameters):
        torch.manual_seed(7)
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (input,))

    leaves = [tensor.detach().clone().requires_grad_() for tensor in (input, *layer.parameters())]
    assert gradcheck(function, leaves, fast_mode=True)


def can_pool(name, window):
    """Torch's average takes no dilation, a blur no stride of 1."""
    return window[3:4] != (2,) or name not in ("AvgPool", "BlurPool")


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_gradients_are_the_derivative(name, dims):
    for window in WINDOWS if dims > 1 else [*WINDOWS, APART]:
        if can_pool(name, window):
            layer = build(name, dims, *window, num_channels=SMALL[dims][1])
            check_derivative(layer, random_input(name, SMALL[dims]))


@pytest.mark.parametrize("name", ["S3Pool"])
def test_gradients_of_draws_are_the_derivative(name):
    layer = build(name, 2, 3, 2, 1).train()
    check_derivative(layer, random_input(name, SMALL[2]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LPPool", {"learn_p": "channel"}),
        ("LPPool", {"learn_p": "no", "p": 1.5}),
        ("MixedPool", {"learn_mix": "channel"}),
        ("MixedPool", {"learn_mix": "no"}),
        ("AdaPool", {"learn_mix": "channel"}),
        ("AdaPool", {"learn_mix": "no"}),
        ("LiteDPPPool", {"symmetric": False}),
        ("DPPPool", {"symmetric": False}),
        ("SoftPool", {"beta": 3.0, "learn_beta": "channel"}),
        ("PowerAvgPool", {"exponent": 3.0}),
        ("BlurPool", {"filter_size": 5}),
    ],
)
def test_gradients_with_options_are_the_derivative(name, options):
    layer = build(name, 2, 2, 2, num_channels=2, **options)
    check_derivative(layer, random_input(name, (1, 2, 6, 6)))


@pytest.mark.parametrize("name", LEARNED)
def test_every_parameter_gets_a_gradient(name):
    layer = build(name, 2, 2, num_channels=CHANNELS)
    layer(random_input(name, SHAPES[2])).square().sum().backward()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", LEARNED)
def test_training_steps_lower_a_loss(name):
    """From where a new layer starts, towards what a larger maximum gives."""
    torch.manual_seed(0)
    layer = build(name, 2, 2, num_channels=CHANNELS)
    input = random_input(name, (4, CHANNELS, 6, 6)).abs()
    target = torch.nn.functional.max_pool2d(input, 2)
    optimizer = torch.optim.Adam(layer.parameters(), 0.03)
    losses = []
    for _ in range(15):
        loss = (layer(input) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_windows_of_zeros_have_finite_gradients(name, dtype):
    """All zeros, and zeros in a part of the input."""
    dims = dims_of(name)[0]
    layer = build(name, dims, 2, 2).to(dtype)
    input = random_input(name, (2, CHANNELS, *[8] * dims))
    input[..., :5] = 0
    cases = [(values, train) for values in (input, 0 * input) for train in (False, True)]
    for values, train in cases:
        leaf = values.to(dtype).requires_grad_()
        layer.train(train)
        output = layer(leaf)
        grads = torch.autograd.grad(output.sum(), [leaf, *layer.parameters()])
        assert output.isfinite().all()
        assert all(grad.isfinite().all() for grad in grads)
    assert not output.any()


@pytest.mark.parametrize("name", ["LPPool", "StochasticPool"])
def test_windows_of_zeros_have_no_gradient(name):
    for mode in (False, True):
        input = torch.zeros(1, CHANNELS, 4, 4, dtype=torch.float64, requires_grad=True)
        build(name, 2, 2).train(mode)(input).sum().backward()
        assert not input.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_equal_elements_have_gradients_of_the_right_sum(name):
    """Ties: of each window the weights sum up to the slope along all ones."""
    dims = dims_of(name)[-1]
    layer = build(name, dims, 2)
    shape = (1, CHANNELS, *[4] * dims)
    ones = torch.full(shape, 2.0, dtype=torch.float64)
    leaf = ones.clone().requires_grad_()
    (grad_input,) = torch.autograd.grad(layer(leaf).sum(), leaf)
    step = 1e-6
    slope = (layer(ones + step) - layer(ones - step)).sum() / (2 * step)
    torch.testing.assert_close(grad_input.sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in OURS if name != "LIPPool"])
def test_the_gradient_stays_in_the_window(name):
    dims = dims_of(name)[0]
    input = random_input(name, (1, CHANNELS, *[8] * dims)).requires_grad_()
    output = build(name, dims, 2)(input)
    (grad_input,) = torch.autograd.grad(output[..., -1].sum(), input)
    # The guide and the blur see one element more.
    reach = {"DPPPool": 1, "BlurPool": 2}.get(name, 0)
    assert not grad_input[..., : 6 - reach].any()
    assert grad_input[..., 6:].any()
