"""What poolings become at the ends of their parameters, and what they keep."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from layer_cases import (
    ALL,
    CHANNELS,
    EVERY,
    NOT_MEANS,
    SHAPES,
    build,
    dims_of,
    random_input,
)

from softpool_det.layers import build_pooling
from softpool_det.ops import soft_pool2d

AVG_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
DIMS = [1, 2, 3]
WINDOW = (3, 2, 1)


def average(input):
    return AVG_POOLS[input.dim() - 2](input, *WINDOW, count_include_pad=False)


def maximum(input):
    return MAX_POOLS[input.dim() - 2](input, *WINDOW)


def set_to(layer, **values):
    with torch.no_grad():
        for name, value in values.items():
            layer.get_parameter(name.replace("__", ".")).fill_(value)
    return layer


def assert_close(actual, expected, error=1e-12):
    torch.testing.assert_close(actual, expected, rtol=error, atol=error)


@pytest.fixture(params=DIMS, ids=["1d", "2d", "3d"])
def input(request):
    return random_input("", SHAPES[request.param])


def new(name, input, *window, **options):
    """As it starts, with no parameter changed; in eval mode."""
    window = window or WINDOW
    options = {"num_channels": CHANNELS, **options}
    return build_pooling(name, input.dim() - 2, *window, **options).double().eval()


def test_mixed_begins_at_average_and_ends_at_maximum(input):
    for mix, expected in ((0.0, average(input)), (1.0, maximum(input))):
        assert_close(new("Mixed", input, mix=mix, learn_mix="no")(input), expected)
    for b, expected in ((-60.0, average(input)), (60.0, maximum(input))):
        assert_close(set_to(new("Mixed", input), b=b)(input), expected)


def test_a_learned_mix_starts_where_it_is_told(input):
    expected = 0.2 * maximum(input) + 0.8 * average(input)
    for learn in ("no", "one", "channel"):
        assert_close(new("Mixed", input, mix=0.2, learn_mix=learn)(input), expected, 1e-6)


def test_gate_without_weights_is_the_middle_of_average_and_maximum(input):
    layer = set_to(new("Gated", input), omega=0.0)
    assert_close(layer(input), (maximum(input) + average(input)) / 2)


def test_gates_weights_start_small(input):
    omega = build_pooling("gated", 2, 32).omega
    assert omega.shape == (32, 32)
    assert abs(omega.std().item() - 0.1) < 0.01
    assert abs(omega.mean().item()) < 0.02


def test_lip_starts_as_average_without_padding(input):
    assert_close(new("LIP", input)(input), average(input))


def test_lip_is_softpool_where_logits_are_linear():
    """Of 12 sigmoid(w t) the slope is 3 w, and t is the input divided by its deviation."""
    input = random_input("", (1, 1, 7, 9))
    layer = new("LIP", input, num_channels=1)
    weight = 0.01
    with torch.no_grad():
        layer.conv.weight[0, 0, 1, 1] = 1
        layer.norm.weight.fill_(weight)
    deviation = (input.var(correction=0) + 1e-5).sqrt()
    expected = soft_pool2d(input, *WINDOW, beta=(3 * weight / deviation).item())
    assert_close(layer(input), expected, 1e-5)
    assert (layer(input) - average(input)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["LiteDPP", "DPP"])
def test_dpp_without_power_or_with_large_bias_is_average(input, name):
    layer = new(name, input)
    assert_close(set_to(layer, lambda_=-60.0)(input), average(input), 1e-9)
    assert_close(set_to(layer, lambda_=0.0, alpha=10.0)(input), average(input), 1e-2)


def test_dpp_is_lite_where_the_guide_is_the_mean_of_the_window():
    """The guide's 3x3 begins one tap before the window of 2x2, as the original's with padding 1."""
    input = random_input("", (2, CHANNELS, 8, 6))
    layer, lite = (new(name, input, 2) for name in ("DPP", "LiteDPP"))
    assert layer.guide.weight.shape == (CHANNELS, 1, 3, 3)
    with torch.no_grad():
        layer.guide.weight.zero_()
        layer.guide.weight[..., 1:, 1:] = 1 / 4
    assert_close(layer(input), lite(input))


def test_symmetric_dpp_turns_its_sign_with_the_input(input):
    for name in ("LiteDPP", "DPP"):
        layer = new(name, input)
        assert_close(layer(-input), -layer(input))


def test_asymmetric_dpp_lies_above_average(input):
    layer = new("LiteDPP", input, symmetric=False)
    assert (layer(input) >= average(input) - 1e-12).all()
    assert (layer(input) <= maximum(input) + 1e-12).all()
    assert (new("LiteDPP", input)(input) < average(input)).any()


def test_lp_goes_from_mean_to_maximum_of_magnitudes(input):
    magnitudes = input.abs()
    for p, expected, error in (
        (1 + 1e-9, average(magnitudes), 1e-6),
        (2.0, average(magnitudes**2).sqrt(), 1e-9),
        (1e5, maximum(magnitudes), 1e-3),
    ):
        for learn in ("no", "one", "channel"):
            assert_close(new("LP", input, p=p, learn_p=learn)(input), expected, max(error, 1e-6))


def test_power_average_of_one_is_the_sum(input):
    magnitudes = input.abs()
    expected = new("Sum", input)(magnitudes)
    assert_close(new("PowerAvg", input, exponent=1.0)(magnitudes), expected)
    assert_close(new("PowerAvg", input, exponent=2.0)(input), new("Sum", input)(input**2).sqrt())


def test_stochastic_in_eval_mode_lies_between_average_and_maximum(input):
    values = input.abs()
    output = new("Stochastic", values)(values)
    assert (output >= average(values) - 1e-12).all()
    assert (output <= maximum(values) + 1e-12).all()
    # Negative elements are never drawn.
    assert_close(new("Stochastic", input)(input), new("Stochastic", input)(input.relu()))


def test_adapool_goes_from_softpool_to_edscw(input):
    for mix, name in ((0.0, "SoftPool"), (1.0, "EDSCW")):
        expected = new(name, input)(input)
        assert_close(new("Ada", input, mix=mix, learn_mix="no")(input), expected)


def test_s3_and_blur_without_a_maximum(input):
    """Without a window's maximum: the mean of cells, and of the neighbours, 1 2 1 by 1 2 1."""
    assert_close(new("S3", input, 1, 1)(input), input)
    assert_close(new("S3", input, 3, 1, 1)(input), MAX_POOLS[input.dim() - 2](input, 3, 1, 1))
    if input.dim() == 4:
        output = new("Blur", input, 1, 2)(input)
        weights = torch.tensor([1.0, 2.0, 1.0], dtype=input.dtype)
        weights = weights.outer(weights).expand(CHANNELS, 1, 3, 3) / 16
        inner = F.conv2d(input[..., 1:, 1:], weights, stride=2, groups=CHANNELS)
        assert_close(output[..., 1:-1, 1:-1], inner[..., :2, :3])


SCALED = ["Avg", "Max", "Sum", "PowerAvg", "LP", "Mixed", "Stochastic", "S3", "EDSCW"]
SHIFTED = ["Avg", "Max", "Mixed", "S3", "SoftPool", "LiteDPP"]
# Powers' means of positive elements are between them, too.
MEANS = [name for name in ALL if name not in NOT_MEANS]


@pytest.mark.parametrize("name", SCALED)
def test_the_scale_of_the_input_is_that_of_the_output(input, name):
    values = input.abs() if name == "PowerAvg" else input
    layer = new(name, values)
    for scale in (1e-3, 7.0):
        assert_close(layer(scale * values), scale * layer(values), 1e-9)


@pytest.mark.parametrize("name", SHIFTED)
def test_a_shift_of_the_input_is_one_of_the_output(input, name):
    if name == "Avg":
        pytest.skip("torch's counts the padding")
    layer = new(name, input)
    assert_close(layer(input + 5), layer(input) + 5, 1e-9)


@pytest.mark.parametrize(("name", "dims"), [layer for layer in EVERY if layer[0] in MEANS])
def test_means_of_equal_elements_are_the_element(name, dims):
    for mode in (False, True):
        layer = build(name, dims, *WINDOW).train(mode)
        if name == "DPPPool":
            layer.guide.weight.data.fill_(1 / 3**dims)
        input = torch.full(SHAPES[dims], 0.7, dtype=torch.float64)
        output = layer(input)
        torch.testing.assert_close(output, torch.full_like(output, 0.7), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MEANS)
def test_means_lie_between_the_smallest_and_the_largest_element(name):
    dims = dims_of(name)[-1]
    for seed in range(5):
        input = random_input(name, SHAPES[dims], seed).abs()
        output = build(name, dims, *WINDOW)(input)
        # Blur and S3 look at the maxima of the windows beside.
        largest = input.amax() if name in ("BlurPool", "S3Pool") else maximum(input)
        assert (output <= largest + 1e-12).all()
        assert (output >= -maximum(-input) - 1e-12).all()


@pytest.mark.parametrize("kernel", [2, 3])
def test_dpp_with_a_large_exponent_chooses_one_element(kernel):
    layer = build_pooling("LiteDPPPool", 2, kernel, num_channels=1)
    with torch.no_grad():
        layer.lambda_.fill_(10.0)
        layer.alpha.fill_(-100.0)
    windows = torch.zeros(1, 1, kernel, kernel)
    windows[..., 0, 0] = 1.0
    windows.requires_grad_()
    output = layer(windows)
    torch.testing.assert_close(output, torch.ones(1, 1, 1, 1))
    output.backward()
    assert windows.grad.isfinite().all()
