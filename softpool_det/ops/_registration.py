"""What PyTorch's dispatcher has to know about the operators: for torch.compile, export, script.

There it is the operators themselves that are called, not the autograd.Functions. Those of
csrc/softpool_det.cpp have the paper's gradient; two more, defined here, have the exact one.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from ._fake import fake_backward, fake_forward
from ._functions import curvature_of, fold, tangent_of, unfold_batch

_WINDOW = "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode"
# Tensors that come before the window's five numbers, for each forward operator.
_OPERANDS = {"soft_pool": 1, "affine_relu_soft_pool": 3}


class _Library(torch.library.Library):
    """Its kernels refuse forward mode, for which those of `register_autograd` give zeros."""

    def impl(self, op_name, fn, dispatch_key="", *, with_keyset=False, **options):
        def kernel(*args):
            if any(isinstance(arg, torch.Tensor) and _has_tangent(arg) for arg in args):
                raise NotImplementedError(
                    f"{op_name} has no forward-mode derivative: call soft_pool1d, soft_pool2d, "
                    "soft_pool3d or affine_relu_soft_pool2d of softpool_det.ops, which have one"
                )
            return fn(*args)

        super().impl(op_name, kernel, dispatch_key, with_keyset=with_keyset, **options)


def _has_tangent(tensor: torch.Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


# Its registrations last as long as it does.
_AUTOGRAD = _Library("softpool_det", "FRAGMENT")


def register_operators() -> None:
    for name, operands in _OPERANDS.items():
        _define_exact(name, operands)
        for exact in (False, True):
            forward = f"softpool_det::{name}_exact" if exact else f"softpool_det::{name}"
            torch.library.register_fake(forward, fake_forward(operands))
            _register_gradient(forward, name, operands, exact)
            torch.library.register_vmap(forward, _batched(forward, (0,)))
        backward = f"softpool_det::{name}_backward"
        torch.library.register_fake(backward, fake_backward(operands))
        _register_second_gradient(backward, operands)
        torch.library.register_vmap(backward, _batched(backward, (0, 1)))


def _operator(name: str):
    return getattr(torch.ops.softpool_det, name.removeprefix("softpool_det::"))


def _define_exact(name: str, operands: int) -> None:
    tensors = ", ".join(f"Tensor {operand}" for operand in ("input", "scale", "shift")[:operands])
    exact = f"softpool_det::{name}_exact"
    torch.library.define(exact, f"({tensors}, {_WINDOW}) -> Tensor")
    torch.library.impl(exact, "CompositeExplicitAutograd", lambda *args: _operator(name)(*args))


def _refuse_gradients_of_constants(ctx, first: int, operands: int) -> None:
    if any(ctx.needs_input_grad[first : first + operands - 1]):
        raise RuntimeError(
            "affine_relu_soft_pool: scale and shift get no gradient: detach them, or pool "
            "relu(input * scale + shift) with soft_pool"
        )


def _register_gradient(forward: str, name: str, operands: int, exact: bool) -> None:
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:operands])
        ctx.window = inputs[operands:]

    def backward(ctx, grad_output):
        _refuse_gradients_of_constants(ctx, 1, operands)
        operator = _operator(f"{name}_backward")
        grad_input = operator(grad_output, *ctx.saved_tensors, *ctx.window, exact)
        return grad_input, *[None] * (operands + 4)

    torch.library.register_autograd(forward, backward, setup_context=setup_context, lib=_AUTOGRAD)


def _register_second_gradient(name: str, operands: int) -> None:
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[: operands + 1])
        *window, ctx.exact = inputs[operands + 1 :]
        ctx.window = tuple(window)

    def backward(ctx, tangent):
        _refuse_gradients_of_constants(ctx, 2, operands)
        grad_output, *tensors = ctx.saved_tensors
        input, scale, shift = tensors if operands == 3 else (*tensors, None, None)
        arguments = (input, scale, shift, tangent, ctx.window, ctx.exact)
        first, second = tangent_of(*arguments), curvature_of(grad_output, *arguments)
        return first, second, *[None] * (operands + 5)

    torch.library.register_autograd(name, backward, setup_context=setup_context, lib=_AUTOGRAD)


def _batched(name: str, folded: tuple[int, ...]):
    """vmap's dimension goes into the batch of the operands in `folded`."""

    def rule(info, in_dims, *arguments):
        operands = list(arguments)
        for index, dim in enumerate(in_dims):
            if index in folded:
                operands[index] = fold(arguments[index], dim, info.batch_size)
            elif isinstance(arguments[index], torch.Tensor) and dim is not None:
                raise NotImplementedError(f"vmap over scale or shift is not supported by {name}")
        result = _operator(name)(*operands)
        return unfold_batch(result, info.batch_size), 0

    return rule
