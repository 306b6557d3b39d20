"""The memory format of an operator's result."""

from __future__ import annotations

import torch


def memory_format_of(input: torch.Tensor) -> torch.memory_format:
    """contiguous_format, or channels_last(_3d) if the strides say so without ambiguity.

    The rule of `has_channels_last_strides` in csrc/soft_pool.h, which is PyTorch's own.
    """
    if not _has_channels_last_strides(input):
        return torch.contiguous_format
    return torch.channels_last if input.dim() == 4 else torch.channels_last_3d


def _has_channels_last_strides(input: torch.Tensor) -> bool:
    if input.stride(1) == 0:
        return False
    least = 0
    for dim in (1, *range(input.dim() - 1, 1, -1), 0):
        size, stride = input.shape[dim], input.stride(dim)
        if size == 0 or stride < least or (dim == 0 and least == input.stride(1)):
            return False
        least = stride * size if size > 1 else stride
    return True
