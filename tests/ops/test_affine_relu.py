"""The fused stem: soft_pool2d(relu(input * scale + bias)) in one operator."""

from __future__ import annotations

import math

import pytest
import torch
from cases import DTYPES, to_layout
from emulation import on_real_devices
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, vmap

from softpool_det.ops import _library, affine_relu_soft_pool2d, soft_pool2d


def unfused(input, scale, bias, *arguments, **softness):
    """In the dtype of scale, as the operator computes."""
    shape = (-1, 1, 1)
    line = input.to(scale.dtype) * scale.view(shape) + bias.view(shape)
    return soft_pool2d(line.relu(), *arguments, **softness)


def operands(dtype, shape=(2, 5, 9, 11), device="cpu"):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    input = torch.randn(shape).to(device, dtype)
    scale, bias = (torch.randn(shape[-3], dtype=wide, device=device) for _ in range(2))
    return input, scale, bias


@pytest.fixture(params=["kernel", "reference"])
def either(request, monkeypatch):
    if request.param == "reference":
        monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset())


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_composition(device, channels_last, dtype, gradient):
    @settings(max_examples=15, deadline=None)
    @given(
        shape=st.sampled_from([(2, 5, 9, 11), (1, 40, 5, 6), (1, 2, 6, 70)]),
        window=st.sampled_from([(2, 2, 0), (3, 2, 1)])
        | st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(1)).filter(lambda w: w[0] > 1),
        dilation=st.sampled_from([1, 1, 2]),
        ceil_mode=st.booleans(),
        batched=st.booleans(),
        beta=st.sampled_from([1.0, 1.0, 0.0, 4.0, float("inf"), None]),
        seed=st.integers(0, 2**31),
    )
    @example((1, 2, 6, 70), (3, 1, 1), 1, False, True, 4.0, 55)  # 47 eps apart in float32
    def check(shape, window, dilation, ceil_mode, batched, beta, seed):
        torch.manual_seed(seed)
        input, scale, bias = operands(dtype, shape, device=device)
        input = to_layout(input, channels_last) if batched else input[0]
        leaves = [input.requires_grad_()]
        if beta is None:
            beta = (scale * 3).abs().requires_grad_()
            leaves.append(beta)
        windows = (*window, dilation, ceil_mode)
        results = []
        for pool in (affine_relu_soft_pool2d, unfused):
            output = pool(input, scale, bias, *windows, gradient=gradient, beta=beta)
            upstream = torch.ones_like(output)
            results.append((output, *torch.autograd.grad(output, leaves, upstream)))
        eps = torch.finfo(dtype).eps
        tolerance = {"rtol": 1.01 * eps, "atol": 16 * min(eps, 1e-6), "check_dtype": False}
        if dtype in (torch.float64, torch.float32):
            # One of the two rounds before beta multiplies: a weight moves by beta * |line| * eps.
            largest = float(torch.as_tensor(beta).detach().max())
            line = unfused(input, scale, bias, 1, 1).detach().max()
            exponent = largest * float(line) if math.isfinite(largest) else 0.0
            values = max(1.0, float(results[1][1].abs().max()))
            tolerance |= {"rtol": 32 * eps, "atol": 4 * eps * (16 + exponent) * values}
        torch.testing.assert_close(results[0][:2], results[1][:2], **tolerance)
        # A sum over windows, of numbers up to 10.
        rounding = max(eps if dtype == torch.float64 else 1e-7, 1e-14)
        torch.testing.assert_close(
            results[0][2:], results[1][2:], rtol=32 * rounding, atol=1e5 * rounding
        )
        assert results[0][0].dtype == dtype

    check()


@pytest.mark.usefixtures("either")
def test_no_gradient_where_relu_is_closed(device, gradient):
    input = torch.tensor([[-1.0, 0.0], [2.0, float("nan")]], device=device).expand(1, 2, 2, 2)
    input = torch.cat([input, input.nan_to_num(1.0)], -1).requires_grad_()
    scale, bias = torch.tensor([1.0, -1.0], device=device), torch.zeros(2, device=device)
    output = affine_relu_soft_pool2d(input, scale, bias, gradient=gradient)
    assert output[..., 0].isnan().all()
    assert output[..., 1].isfinite().all()
    (grad_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
    closed = input * scale.view(-1, 1, 1) <= 0
    assert (grad_input[closed] == 0).all()
    assert (grad_input[..., 2:][~closed[..., 2:]] != 0).all()


@pytest.mark.usefixtures("either")
def test_derivatives_of_any_order(device, gradient):
    torch.manual_seed(0)
    input, scale, bias = operands(torch.float64, (1, 2, 4, 5), device)

    def pool(input):
        return affine_relu_soft_pool2d(input, scale, bias, 3, 2, 1, gradient=gradient)

    leaf = input.clone().requires_grad_()
    if gradient == "exact":
        assert gradcheck(pool, (leaf,), check_forward_ad=True)
    assert gradgradcheck(pool, (leaf,))
    torch.testing.assert_close(jacfwd(pool)(input), jacrev(pool)(input))
    second = jacrev(jacrev(pool))(input)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacfwd, jacfwd)):
        torch.testing.assert_close(outer(inner(pool))(input), second)


def test_vmap_over_any_operand(device):
    input, _, bias = operands(torch.float32, device=device)
    numbers = torch.rand(2, 5, device=device) * 3

    def loss(input, scale, bias, beta):
        return affine_relu_soft_pool2d(input, scale, bias, beta=beta).square().sum()

    for in_dims in ((0, None, None, None), (None, 0, None, None), (0, 0, 0, 0), (0, None, None, 0)):
        operands_of = (input, numbers - 1, bias.expand(2, 5), numbers)
        batched = [
            operand[0] if dim is None else operand
            for operand, dim in zip(operands_of, in_dims, strict=True)
        ]
        for function in (loss, grad(loss), grad(loss, 3)):
            actual = vmap(function, in_dims)(*batched)
            for index in range(2):
                one = [
                    operand if dim is None else operand[index]
                    for operand, dim in zip(batched, in_dims, strict=True)
                ]
                torch.testing.assert_close(actual[index], function(*one))


def test_errors_name_argument_and_remedy():
    input, scale, bias = operands(torch.bfloat16)
    with pytest.raises(ValueError, match=r"scale requires grad.*scale.detach\(\)"):
        affine_relu_soft_pool2d(input, scale.requires_grad_(), bias)
    with torch.no_grad():
        affine_relu_soft_pool2d(input, scale, bias)
    scale = scale.detach()
    with pytest.raises(TypeError, match=r"bias must be torch\.float32 for input of"):
        affine_relu_soft_pool2d(input, scale, bias.double())
    with pytest.raises(ValueError, match=r"bias must have the shape \(5,\)"):
        affine_relu_soft_pool2d(input, scale, bias[:4])
    window = ([2, 2], [2, 2], [0, 0], [1, 1], False, False, 1.0, None)
    output = torch.ops.softpool_det.soft_pool(input, *window, scale.requires_grad_(), bias)
    with pytest.raises(RuntimeError, match="scale and bias get no gradient"):
        output.sum().backward()


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(device, channels_last, gradient, dynamic):
    window = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}

    def pool(input, scale, bias):
        return affine_relu_soft_pool2d(input, scale, bias, **window, gradient=gradient)

    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in ((2, 5, 9, 11), (3, 5, 12, 10)):
        input, scale, bias = operands(torch.float32, shape, device)
        input = to_layout(input, channels_last).requires_grad_()
        results = []
        for function in (pool, compiled):
            output = function(input, scale, bias)
            results.append((output, *torch.autograd.grad(output.square().sum(), input)))
        torch.testing.assert_close(results[0], results[1])
