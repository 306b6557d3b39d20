"""The operators on tensors without values (meta, FakeTensor): shapes, and checks as in soft_pool.h.

What the kernels refuse is refused here with a RuntimeError, too, so that torch.compile and export
see what a call would do. Sizes that are symbols are compared only where an eager call does so
before it comes here: a comparison restricts the sizes for which an exported program holds.
"""

from __future__ import annotations

import torch

from ._arguments import FLOATING_TYPES, Window, output_sizes
from ._layout import memory_format_of

_LARGEST_NUMBER = 2**31 - 1


def fake_forward(operands: int):
    """Of an operator whose first `operands` arguments are tensors."""

    def fake(input, *arguments):
        window = arguments[operands - 1 :]
        sizes = _checked_sizes(input, arguments[: operands - 1], window)
        return _empty((*input.shape[:2], *sizes), input)

    return fake


def fake_backward(operands: int):
    def fake(grad_output, input, *arguments):
        *window, _ = arguments[operands - 1 :]
        sizes = _checked_sizes(input, arguments[: operands - 1], tuple(window))
        _check_grad_output(grad_output, input, (*input.shape[:2], *sizes))
        return _empty(input.shape, input)

    return fake


def _empty(shape, input: torch.Tensor) -> torch.Tensor:
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format_of(input)
    )


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def _checked_sizes(input: torch.Tensor, parameters, window: Window) -> list[int]:
    kernel_size, stride, padding, dilation, _ = window
    dims = len(kernel_size)
    _check(dims in (2, 3), f"soft_pool: kernel_size must have two or three elements, got {dims}")
    _check(
        len(stride) == len(padding) == len(dilation) == dims,
        "soft_pool: stride, padding and dilation must have as many elements as kernel_size, "
        f"{dims}",
    )
    _check(
        input.dim() == dims + 2,
        f"soft_pool: input must have the dimensions of batch and channels and {dims} more, "
        f"got {input.dim()}",
    )
    channels = input.shape[1]
    _check(
        not isinstance(channels, int) or channels > 0,
        "soft_pool: input must have at least one channel",
    )
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING_TYPES)
    _check(
        input.dtype in FLOATING_TYPES,
        f"soft_pool: input must have one of the dtypes {names}, got {input.dtype}",
    )
    for name, numbers in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)):
        _check(
            all(0 < number <= _LARGEST_NUMBER for number in numbers),
            f"soft_pool: {name} must be positive and below 2^31, got {list(numbers)}",
        )
    _check(
        all(0 <= pad <= size // 2 for pad, size in zip(padding, kernel_size, strict=True)),
        "soft_pool: padding must be at least 0 and at most half of kernel_size "
        f"({list(kernel_size)}), got {list(padding)}",
    )
    for parameter in parameters:
        _check_parameter(parameter, input)
    try:
        return output_sizes(input.shape[2:], window)
    except ValueError as error:
        raise RuntimeError(f"soft_pool: {error}") from None


def _check_parameter(parameter: torch.Tensor, input: torch.Tensor) -> None:
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    _check(
        parameter.dim() == 1 and parameter.shape[0] == input.shape[1],
        "affine_relu_soft_pool: scale and shift must have one element for each of the "
        f"{input.shape[1]} channels, got {tuple(parameter.shape)}",
    )
    _check(
        parameter.dtype == dtype and parameter.device == input.device,
        f"affine_relu_soft_pool: scale and shift must be {dtype} and on {input.device}, "
        f"got {parameter.dtype} on {parameter.device}",
    )


def _check_grad_output(grad_output: torch.Tensor, input: torch.Tensor, shape) -> None:
    same = grad_output.dim() == len(shape) and all(
        size == wanted
        for size, wanted in zip(grad_output.shape, shape, strict=True)
        if isinstance(size, int) and isinstance(wanted, int)
    )
    _check(
        same,
        f"soft_pool_backward: grad_output must have the output's shape {tuple(shape)}, "
        f"got {tuple(grad_output.shape)}",
    )
    _check(
        grad_output.dtype == input.dtype and grad_output.device == input.device,
        f"soft_pool_backward: grad_output must be {input.dtype} and on {input.device}, "
        f"got {grad_output.dtype} on {grad_output.device}",
    )
