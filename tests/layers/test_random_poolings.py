"""Poolings that draw: their laws, their generators, and what eval mode has instead."""

from __future__ import annotations

import math

import pytest
import torch
from layer_cases import CHANNELS, DRAWN, build, dims_of, random_input

from softpool_det.layers import build_pooling

# stride, grid_size and size; the last cell of a grid may have fewer rows than the others.
GRIDS = [(2, None, 8), (2, 4, 8), (3, 6, 12), (1, 3, 9), (2, 4, 10), (2, 6, 8), (2, 4, 9)]
EVERY_DRAWN = [(name, dims) for name in DRAWN for dims in dims_of(name)]


def numbered(rows, columns):
    """Elements that tell their row and column, and grow along both."""
    return (torch.arange(rows)[:, None] * 100 + torch.arange(columns)).double()[None]


def test_stochastic_draws_by_size():
    """Frequencies within 5 deviations; elements of 0 and below are never drawn."""
    window = torch.tensor([0.1, 0.9, 0.0, 0.5, -3.0, 0.2], dtype=torch.float64)
    count = 40_000
    layer = build_pooling("stochastic", 1, 6).train()
    draws = layer(window.expand(count, 1, 6)).flatten()
    assert set(draws.tolist()) == {0.1, 0.9, 0.5, 0.2}
    for element in (0.1, 0.9, 0.5, 0.2):
        probability = element / 1.7
        deviation = math.sqrt(probability * (1 - probability) / count)
        assert abs((draws == element).double().mean().item() - probability) < 5 * deviation


@pytest.mark.parametrize(("dims", "window"), [(1, (3, 2, 1)), (2, (3, 2, 1)), (3, (2, 2, 0))])
def test_stochastic_draws_have_the_mean_of_eval_mode(dims, window):
    layer = build("StochasticPool", dims, *window)
    input = random_input("StochasticPool", (1, 2, *[4] * dims)).abs()
    draws = layer.train()(input.expand(6_000, *input.shape[1:]))
    error = draws.mean(0) - layer.eval()(input)[0]
    assert (error.abs() < 5 * draws.std(0) / math.sqrt(6_000) + 1e-12).all()


def test_stochastic_draws_are_elements_and_get_the_gradient():
    layer = build("StochasticPool", 2, 2).train()
    input = random_input("StochasticPool", (2, CHANNELS, 6, 6)).requires_grad_()
    output = layer(input)
    (grad_input,) = torch.autograd.grad(output, input, torch.full_like(output, 3.0))
    assert set(grad_input.unique().tolist()) <= {0.0, 3.0}
    windows = (input * grad_input / 3).unfold(2, 2, 2).unfold(3, 2, 2).sum((-2, -1))
    torch.testing.assert_close(windows, output)
    # No gradient for a window without a positive element.
    assert (grad_input.unfold(2, 2, 2).unfold(3, 2, 2).sum((-2, -1)) == 3)[output > 0].all()


@pytest.mark.parametrize(("stride", "grid", "size"), GRIDS)
def test_s3_draws_rows_and_columns_of_cells(stride, grid, size):
    """Without repetition, in order, the same number of each cell, one draw for all images."""
    layer = build_pooling("s3", 2, 1, stride, grid_size=grid).train()
    input = numbered(size, size).expand(2, 3, size, size)
    seen = set()
    for _ in range(60):
        output = layer(input)
        assert (output == output[0, 0]).all()
        rows, columns = output[0, 0, :, 0] // 100, output[0, 0, 0] % 100
        assert torch.equal(output[0, 0], rows[:, None] * 100 + columns)
        cell = grid or stride
        for drawn in (rows, columns):
            assert (drawn.diff() > 0).all()
            assert torch.equal(drawn // cell, torch.arange(0, size, stride) // cell)
            seen.update(drawn.tolist())
    assert seen == set(range(size))


@pytest.mark.parametrize("name", ["S3Pool", "LiteS3DPPPool"])
@pytest.mark.parametrize(("window", "size"), [((2, 2), 4), ((3, 2, 1), 5), ((2, 2, 0, 1, True), 5)])
def test_s3_draws_have_the_mean_of_eval_mode(name, window, size):
    layer = build(name, 2, *window)
    input = random_input(name, (1, CHANNELS, size, size))
    layer.train()
    draws = torch.stack([layer(input) for _ in range(600)])
    error = draws.mean(0) - layer.eval()(input)
    assert (error.abs() < 5.5 * draws.std(0) / math.sqrt(600) + 1e-12).all()


def test_s3_draws_rows_and_columns_independently():
    layer = build_pooling("s3", 2, 1, 2).train()
    pairs = {tuple(layer(numbered(2, 2)).flatten().tolist()) for _ in range(100)}
    assert pairs == {(0.0,), (1.0,), (100.0,), (101.0,)}


@pytest.mark.parametrize(("name", "dims"), EVERY_DRAWN)
def test_eval_mode_draws_nothing(name, dims):
    layer = build(name, dims, 3, 2, 1)
    input = random_input(name, (2, CHANNELS, *[8] * dims))
    before = torch.get_rng_state()
    outputs = [layer(input) for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.equal(torch.get_rng_state(), before)
    layer.train()
    assert len({tuple(layer(input).flatten().tolist()) for _ in range(20)}) > 1


@pytest.mark.parametrize(("name", "dims"), EVERY_DRAWN)
def test_the_global_seed_gives_the_same_draws_again(name, dims):
    layer = build(name, dims, 3, 2, 1).train()
    input = random_input(name, (2, CHANNELS, *[9] * dims))
    outputs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outputs.append(layer(input))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(("name", "dims"), EVERY_DRAWN)
def test_a_generator_gives_the_same_draws_again_and_leaves_the_global_one_alone(name, dims):
    generator = torch.Generator()
    layer = build(name, dims, 3, 2, 1, generator=generator).train()
    input = random_input(name, (2, CHANNELS, *[9] * dims))
    outputs, before = [], torch.get_rng_state()
    for seed in (3, 3, 4):
        generator.manual_seed(seed)
        outputs.append([layer(input), layer(input)])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(*outputs[:2], strict=True))
    assert not torch.equal(outputs[0][0], outputs[0][1])
    assert not torch.equal(outputs[0][0], outputs[2][0])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", DRAWN)
def test_draws_do_not_depend_on_the_type_of_the_input(name, channels_last):
    """Half types compute in float32, and draw the same."""
    layer = build(name, 2, 3, 2, 1).float().train()
    input = random_input(name, (2, CHANNELS, 8, 8), channels_last=channels_last).bfloat16()
    outputs = []
    for values in (input.float(), input):
        torch.manual_seed(3)
        outputs.append(layer(values).bfloat16())
    assert torch.equal(*outputs)


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 2, 2)])
@pytest.mark.parametrize("name", ["StochasticPool", "S3Pool"])
def test_draws_are_elements_of_the_input(name, window):
    layer = build(name, 2, *window).train()
    input = random_input(name, (1, 2, 7, 9)).abs()
    for _ in range(5):
        assert torch.isin(layer(input), input).all()
