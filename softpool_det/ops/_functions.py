"""The operators as autograd.Functions: gradients of any order, forward mode and torch.func.

Both take the arguments of the operator of their name, in its order (see csrc/schemas.h). `scale`
and `bias` are constants to every derivative.
"""

from __future__ import annotations

import torch

from . import _library
from ._arguments import Settings
from ._reference import (
    backward_reference,
    second_reference,
    soft_pool_reference,
    tangent_reference,
)

# Arguments between the tensors (N, C, ...) and those with a number for each channel.
_NUMBERS = 7


class SoftPoolFunction(torch.autograd.Function):
    """(N, C, [D,] H, W) -> (N, C, [OD,] OH, OW); saves nothing but its inputs."""

    @staticmethod
    def forward(input, *arguments):
        if _library.has_kernel(input.device):
            return _library.kernels().soft_pool(input, *arguments)
        # Only the values are wanted, for which the exact gradient has the shorter formula.
        return soft_pool_reference(input, *Settings(*arguments)._replace(exact=True))

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save(ctx, inputs, 1)

    @staticmethod
    def backward(ctx, grad_output):
        _refuse_gradients_of_constants(ctx, 1)
        input, *channels = ctx.saved_tensors
        arguments = (grad_output, input, *ctx.numbers, *channels)
        grad_input, grad_betas = SoftPoolBackwardFunction.apply(*arguments)
        return _gradients(channels[0], [grad_input], grad_betas)

    @staticmethod
    def jvp(ctx, tangent, *tangents):
        input, *channels = ctx.saved_tensors
        return tangent_reference(tangent, tangents[_NUMBERS], input, *ctx.numbers, *channels)

    @staticmethod
    def vmap(info, in_dims, *arguments):
        folded, dim = _folded(info.batch_size, in_dims, arguments, 1)
        output = SoftPoolFunction.apply(*folded)
        return _unfolded(output, dim, info.batch_size), dim


class SoftPoolBackwardFunction(torch.autograd.Function):
    """Gradients of input and betas, as functions of the output's gradient and of the inputs."""

    @staticmethod
    def forward(grad_output, input, *arguments):
        if _library.has_kernel(input.device):
            return _library.kernels().soft_pool_backward(grad_output, input, *arguments)
        return backward_reference(grad_output, input, *arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save(ctx, inputs, 2)

    @staticmethod
    def backward(ctx, tangent, beta_tangent):
        _refuse_gradients_of_constants(ctx, 2)
        grad_output, input, *channels = ctx.saved_tensors
        arguments = (input, *ctx.numbers, *channels)
        tangents = (tangent, None if channels[0] is None else beta_tangent)
        first = second = betas = None
        if ctx.needs_input_grad[0]:
            first = tangent_reference(*tangents, *arguments)
        if any(ctx.needs_input_grad[1:]):
            second, betas = second_reference(*tangents, grad_output, *arguments, transposed=True)
        return _gradients(channels[0], [first, second], betas)

    @staticmethod
    def jvp(ctx, grad_tangent, tangent, *tangents):
        grad_output, input, *channels = ctx.saved_tensors
        arguments = (input, *ctx.numbers, *channels)
        results = second_reference(
            tangent, tangents[_NUMBERS], grad_output, *arguments, transposed=False
        )
        if grad_tangent is not None:
            linear = SoftPoolBackwardFunction.apply(grad_tangent, *arguments)
            results = tuple(one + other for one, other in zip(results, linear, strict=True))
        return results

    @staticmethod
    def vmap(info, in_dims, *arguments):
        folded, dim = _folded(info.batch_size, in_dims, arguments, 2)
        grad_input, grad_betas = SoftPoolBackwardFunction.apply(*folded)
        grad_input = _unfolded(grad_input, dim, info.batch_size)
        if grad_betas.numel() == 0:  # without betas
            return (grad_input, grad_betas), (dim, None)
        return (grad_input, _unfolded(grad_betas, 0, info.batch_size)), (dim, 0)


def _save(ctx, inputs, maps: int) -> None:
    """Keep the arguments, of which the first `maps` are (N, C, ...)."""
    ctx.numbers = inputs[maps : maps + _NUMBERS]
    tensors = (*inputs[:maps], *inputs[maps + _NUMBERS :])
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _gradients(betas, of_maps, of_betas) -> tuple:
    """One for each argument."""
    return *of_maps, *[None] * _NUMBERS, None if betas is None else of_betas, None, None


def _refuse_gradients_of_constants(ctx, maps: int) -> None:
    if any(ctx.needs_input_grad[maps + _NUMBERS + 1 :]):
        raise RuntimeError(
            "soft_pool: scale and bias get no gradient: detach them, or pool "
            "relu(input * scale + bias) without them"
        )


def _folded(batch_size: int, in_dims, arguments, maps: int) -> tuple[list, int]:
    """Fold vmap's dimension into another one; return where it is in results (N, C, ...).

    That is the batch; or the channels, where a tensor has one number for each of them.
    """
    folded = list(arguments)  # those equal to their defaults may be missing at the end
    by_channel = [
        index for index in range(maps + _NUMBERS, len(folded)) if folded[index] is not None
    ]
    dim = 1 if by_channel else 0
    for index in (*range(maps), *by_channel):
        target = dim if index < maps else 0
        tensor, source = folded[index], in_dims[index]
        if source is None:
            tensor, source = tensor.expand(batch_size, *tensor.shape), 0
        folded[index] = tensor.movedim(source, target).flatten(target, target + 1)
    return folded, dim


def _unfolded(tensor: torch.Tensor, dim: int, batch_size: int) -> torch.Tensor:
    return tensor.unflatten(dim, (batch_size, tensor.shape[dim] // batch_size))
