"""The operators on tensors without values (meta, FakeTensor): shapes, and checks as in soft_pool.h.

What the kernels refuse is refused here with a RuntimeError, too, so that torch.compile and export
see what a call would do. Sizes that are symbols are compared only where an eager call does so
before it comes here: a comparison restricts the sizes for which an exported program holds.
"""

from __future__ import annotations

import torch

from ._arguments import FLOATING_TYPES, Settings, Window, accumulation_type, output_sizes
from ._layout import memory_format_of

_LARGEST_NUMBER = 2**31 - 1


def fake_forward(input, *arguments):
    return _empty((*input.shape[:2], *_checked_sizes(input, Settings(*arguments))), input)


def fake_backward(grad_output, input, *arguments):
    settings = Settings(*arguments)
    sizes = _checked_sizes(input, settings)
    _check_grad_output(grad_output, input, (*input.shape[:2], *sizes))
    channels = 0 if settings.betas is None else input.shape[1]
    grad_betas = input.new_empty(channels, dtype=accumulation_type(input))
    return _empty(input.shape, input), grad_betas


def _empty(shape, input: torch.Tensor) -> torch.Tensor:
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format_of(input)
    )


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def _checked_sizes(input: torch.Tensor, settings: Settings) -> list[int]:
    """Return the output's sizes, after all checks."""
    _check_window(input, settings.window)
    _check(settings.beta >= 0, f"soft_pool: beta must be at least 0, got {settings.beta}")
    both = (settings.scale is None) == (settings.bias is None)
    _check(both, "soft_pool: scale and bias must be given both, or neither")
    for name in ("betas", "scale", "bias"):
        tensor = getattr(settings, name)
        if tensor is not None:
            _check_by_channel(name, tensor, input)
    try:
        return output_sizes(input.shape[2:], settings.window)
    except ValueError as error:
        raise RuntimeError(f"soft_pool: {error}") from None


def _check_window(input: torch.Tensor, window: Window) -> None:
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


def _check_by_channel(name: str, tensor: torch.Tensor, input: torch.Tensor) -> None:
    _check(
        tensor.dim() == 1 and tensor.shape[0] == input.shape[1],
        f"soft_pool: {name} must have one element for each of the {input.shape[1]} channels, "
        f"got {tuple(tensor.shape)}",
    )
    _check(
        tensor.dtype == accumulation_type(input) and tensor.device == input.device,
        f"soft_pool: {name} must be float32 (float64 with a float64 input) and on input's device "
        f"{input.device}, got {tensor.dtype} on {tensor.device}",
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
