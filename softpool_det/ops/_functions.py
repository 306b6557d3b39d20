"""The operators as autograd.Functions: gradients of any order, forward mode and torch.func.

`scale` and `shift` are None for SoftPool alone. With them it pools relu(input * scale + shift);
they are constants to every derivative.
"""

from __future__ import annotations

import torch

from ._arguments import Window
from ._layout import memory_format_of
from ._library import has_kernel
from ._reference import (
    backward_reference,
    curvature_reference,
    soft_pool_reference,
    tangent_reference,
)

_NO_GRADIENT = (None, None, None, None)  # of scale, shift, window and exact


class SoftPoolFunction(torch.autograd.Function):
    """(N, C, [D,] H, W) -> (N, C, [OD,] OH, OW); saves nothing but its inputs."""

    @staticmethod
    def forward(input, scale, shift, window, exact):
        if not has_kernel(input.device):
            return forward_reference(input, scale, shift, window, exact)
        if scale is None:
            return torch.ops.softpool_det.soft_pool(input, *window)
        return torch.ops.softpool_det.affine_relu_soft_pool(input, scale, shift, *window)

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, scale, shift, ctx.window, ctx.exact = inputs
        ctx.save_for_backward(input, scale, shift)
        ctx.save_for_forward(input, scale, shift)

    @staticmethod
    def backward(ctx, grad_output):
        arguments = (*ctx.saved_tensors, ctx.window, ctx.exact)
        return SoftPoolBackwardFunction.apply(grad_output, *arguments), *_NO_GRADIENT

    @staticmethod
    def jvp(ctx, tangent, *_):
        input, scale, shift = ctx.saved_tensors
        return tangent_of(input, scale, shift, tangent, ctx.window, ctx.exact)

    @staticmethod
    def vmap(info, in_dims, input, scale, shift, window, exact):
        _check_unbatched(in_dims[1:3])
        output = SoftPoolFunction.apply(
            fold(input, in_dims[0], info.batch_size), scale, shift, window, exact
        )
        return unfold_batch(output, info.batch_size), 0


class SoftPoolBackwardFunction(torch.autograd.Function):
    """Gradient of the input, as a function of the output's gradient and of the input."""

    @staticmethod
    def forward(grad_output, input, scale, shift, window, exact):
        if not has_kernel(input.device):
            pooled, slope = activation(input, scale, shift)
            result = scaled(backward_reference(grad_output, pooled, window, exact), slope)
            return result.to(input.dtype).contiguous(memory_format=memory_format_of(input))
        if scale is None:
            return torch.ops.softpool_det.soft_pool_backward(grad_output, input, *window, exact)
        return torch.ops.softpool_det.affine_relu_soft_pool_backward(
            grad_output, input, scale, shift, *window, exact
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        grad_output, input, scale, shift, ctx.window, ctx.exact = inputs
        ctx.save_for_backward(grad_output, input, scale, shift)
        ctx.save_for_forward(grad_output, input, scale, shift)

    @staticmethod
    def backward(ctx, tangent):
        """The result is linear in grad_output, and its Jacobian for input is symmetric."""
        grad_output, input, scale, shift = ctx.saved_tensors
        arguments = (input, scale, shift, tangent, ctx.window, ctx.exact)
        first = tangent_of(*arguments) if ctx.needs_input_grad[0] else None
        second = None
        if ctx.needs_input_grad[1]:
            second = curvature_of(grad_output, *arguments)
        return first, second, *_NO_GRADIENT

    @staticmethod
    def jvp(ctx, grad_tangent, tangent, *_):
        grad_output, input, scale, shift = ctx.saved_tensors
        settings = (ctx.window, ctx.exact)
        result = torch.zeros_like(input)
        if grad_tangent is not None:
            result = result + SoftPoolBackwardFunction.apply(
                grad_tangent, input, scale, shift, *settings
            )
        if tangent is not None:
            result = result + curvature_of(grad_output, input, scale, shift, tangent, *settings)
        return result

    @staticmethod
    def vmap(info, in_dims, grad_output, input, scale, shift, window, exact):
        _check_unbatched(in_dims[2:4])
        folded = (
            fold(tensor, dim, info.batch_size)
            for tensor, dim in zip((grad_output, input), in_dims[:2], strict=True)
        )
        result = SoftPoolBackwardFunction.apply(*folded, scale, shift, window, exact)
        return unfold_batch(result, info.batch_size), 0


def forward_reference(input, scale, shift, window: Window, exact: bool) -> torch.Tensor:
    pooled, _ = activation(input, scale, shift)
    gradient = "exact" if exact else "paper"
    output = soft_pool_reference(pooled, *window, gradient=gradient)
    return output.to(input.dtype)


def tangent_of(input, scale, shift, tangent, window: Window, exact: bool) -> torch.Tensor:
    pooled, slope = activation(input, scale, shift)
    return tangent_reference(pooled, scaled(tangent, slope), window, exact).to(input.dtype)


def curvature_of(
    grad_output, input, scale, shift, tangent, window: Window, exact: bool
) -> torch.Tensor:
    pooled, slope = activation(input, scale, shift)
    curvature = curvature_reference(grad_output, pooled, scaled(tangent, slope), window, exact)
    return scaled(curvature, slope).to(input.dtype)


def activation(input, scale, shift) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What is pooled, and its derivative for input where that is not 1."""
    if scale is None:
        return input, None
    shape = [-1] + [1] * (input.dim() - 2)
    line = input * scale.view(shape) + shift.view(shape)
    return line.relu(), torch.where(line > 0, scale.view(shape), 0)


def scaled(tensor: torch.Tensor, slope: torch.Tensor | None) -> torch.Tensor:
    return tensor if slope is None else torch.where(slope == 0, 0, tensor * slope)


def fold(tensor: torch.Tensor, dim: int | None, batch_size: int) -> torch.Tensor:
    """Put vmap's dimension into the batch."""
    if dim is None:
        return tensor.expand(batch_size, *tensor.shape).flatten(0, 1)
    return tensor.movedim(dim, 0).flatten(0, 1)


def unfold_batch(tensor: torch.Tensor, batch_size: int) -> torch.Tensor:
    return tensor.unflatten(0, (batch_size, tensor.shape[0] // batch_size))


def _check_unbatched(in_dims) -> None:
    if any(dim is not None for dim in in_dims):
        raise NotImplementedError(
            "vmap over scale or shift is not supported: give them in_dims of None, or pool "
            "relu(input * scale + shift) with soft_pool2d"
        )
