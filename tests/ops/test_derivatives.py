"""Derivatives of any order, and torch.func."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from cases import POOLS
from emulation import on_real_devices
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap

from softpool_det.ops import _library

SMALL = {1: (2, 2, 9), 2: (1, 2, 5, 6), 3: (1, 1, 3, 4, 3)}


@pytest.fixture(params=["kernel", pytest.param("reference", marks=pytest.mark.slow)])
def pool(request, monkeypatch, dims, gradient):
    """Overlapping, dilated and padded windows, with the kernels and without."""
    if request.param == "reference":
        monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset())
    return lambda input: POOLS[dims](input, 3, 2, 1, 2, True, gradient=gradient)


@pytest.fixture
def input(dims, device):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SMALL[dims], dtype=torch.float64, generator=generator).to(device)


@pytest.mark.parametrize("gradient", ["exact"], indirect=True)
def test_exact_gradient_is_the_derivative(pool, input):
    input.requires_grad_()
    assert gradcheck(pool, (input,), check_forward_ad=True)


def test_second_derivatives_are_those_of_the_backward_formula(pool, input):
    assert gradgradcheck(pool, (input.requires_grad_(),))


def test_all_ways_give_one_jacobian(pool, input):
    jacobian = jacrev(pool)(input)
    torch.testing.assert_close(jacfwd(pool)(input), jacobian)
    tangent, upstream = torch.randn_like(input), torch.randn_like(pool(input))
    product = (jacobian * tangent).flatten(-input.dim()).sum(-1)
    assert product.any()
    torch.testing.assert_close(jvp(pool, (input,), (tangent,))[1], product)
    with forward_ad.dual_level():
        output = pool(forward_ad.make_dual(input, tangent))
        torch.testing.assert_close(forward_ad.unpack_dual(output).tangent, product)
    expected = torch.einsum(
        "o,oi->i", upstream.flatten(), jacobian.reshape(upstream.numel(), input.numel())
    )
    torch.testing.assert_close(vjp(pool, input)[1](upstream)[0].flatten(), expected)


def test_all_ways_give_one_second_derivative(pool, input):
    expected = jacrev(jacrev(pool))(input)
    assert expected.any()
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacfwd, jacfwd)):
        torch.testing.assert_close(outer(inner(pool))(input), expected)


def test_third_derivative_by_three_ways(gradient, device):
    input = torch.randn(1, 1, 3, 3, dtype=torch.float64, device=device)

    def pool(input):
        return POOLS[2](input, 2, 1, gradient=gradient)

    expected = jacrev(jacrev(jacrev(pool)))(input)
    assert expected.any()
    torch.testing.assert_close(jacfwd(jacrev(jacrev(pool)))(input), expected)
    torch.testing.assert_close(jacfwd(jacfwd(jacrev(pool)))(input), expected)


@pytest.mark.parametrize("in_dim", [0, 1, -1])
def test_vmap_is_a_loop(pool, input, in_dim):
    images = torch.stack([input, input.flip(0), input * 2], in_dim)

    def loss(image):
        return pool(image).square().sum()

    for function in (pool, grad(loss), grad(lambda image: grad(loss)(image).square().sum())):
        expected = torch.stack([function(image) for image in images.unbind(in_dim)])
        torch.testing.assert_close(vmap(function, in_dims=in_dim)(images), expected)
        without_batch = vmap(function)(input)
        torch.testing.assert_close(without_batch, torch.stack([function(x) for x in input]))


def test_low_precision_has_second_derivatives_too(pool, input):
    for dtype in (torch.float32, torch.bfloat16):
        leaf = input.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(pool(leaf).square().sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        assert second.dtype == dtype
        assert second.isfinite().all()
        assert second.any()


@on_real_devices
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", ["soft_pool", "soft_pool_backward"])
@pytest.mark.parametrize("affine", [False, True])
def test_operators_themselves_refuse_forward_mode(device, name, affine, requires_grad):
    input = torch.randn(1, 2, 4, 6, device=device, requires_grad=requires_grad)
    upstream = [torch.ones(1, 2, 2, 3, device=device)] * (name == "soft_pool_backward")
    constants = [torch.ones(2, device=device)] * 2 if affine else [None, None]
    settings = ([2, 2], [2, 2], [0, 0], [1, 1], False, True, 1.0)

    def operator(input, betas=None):
        function = getattr(torch.ops.softpool_det, name)
        result = function(*upstream, input, *settings, betas, *constants)
        return result[0] if upstream else result

    operator(input)
    tangent, betas = torch.ones_like(input), torch.ones(2, device=device)
    with pytest.raises(NotImplementedError, match="no forward-mode derivative: call soft_pool1d"):
        jvp(operator, (input,), (tangent,))
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        jvp(lambda betas: operator(input, betas), (betas,), (betas,))
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        jacfwd(operator)(input)
    with forward_ad.dual_level():
        operator(input)
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            operator(forward_ad.make_dual(input, tangent))
