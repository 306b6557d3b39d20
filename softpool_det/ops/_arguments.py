"""Argument checks and the output shape, by the rules of `torch.nn.functional.max_pool2d`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

FLOATING_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
GRADIENTS = ("paper", "exact")


def pair(name: str, value: int | Sequence[int]) -> list[int]:
    """An int, or a sequence of one or two, as [vertical, horizontal]."""
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) not in (1, 2) or not all(_is_int(item) for item in values):
        raise TypeError(f"{name} must be an int or a pair of ints, got {value!r}")
    return values * 2 if len(values) == 1 else values


def _is_int(value: object) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def check_input(input: torch.Tensor) -> None:
    if input.dtype not in FLOATING_TYPES:
        names = ", ".join(str(dtype) for dtype in FLOATING_TYPES)
        raise TypeError(f"input must have one of the dtypes {names}; got {input.dtype}")
    if input.dim() not in (3, 4):
        raise ValueError(
            f"input must have the shape (C, H, W) or (N, C, H, W), got {tuple(input.shape)}"
        )
    if any(size == 0 for size in input.shape[-3:]):
        raise ValueError(
            f"input must not be empty but for a batch of 0, got the shape {tuple(input.shape)}"
        )


def check_windows(kernel_size: list[int], stride: list[int], padding: list[int]) -> None:
    for name, values in (("kernel_size", kernel_size), ("stride", stride)):
        if min(values) < 1:
            raise ValueError(f"{name} must be positive, got {tuple(values)}")
    if any(not 0 <= p <= k // 2 for p, k in zip(padding, kernel_size, strict=True)):
        raise ValueError(
            "padding must be at least 0 and at most half of kernel_size "
            f"{tuple(kernel_size)}, got {tuple(padding)}"
        )


def check_gradient(gradient: str) -> None:
    if gradient not in GRADIENTS:
        raise ValueError(f'gradient must be "paper" or "exact", got {gradient!r}')


def output_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Number of windows along a dimension of `size` inputs.

    Raises:
        ValueError: not one window fits.
    """
    free = size + 2 * padding - kernel
    count = (free + (stride - 1 if ceil_mode else 0)) // stride + 1
    # The last window has to start inside the input or the padding before it.
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    if count < 1:
        raise ValueError(
            f"input of size {size} is too small for a window of {kernel} with padding {padding}"
        )
    return count
