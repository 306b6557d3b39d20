"""The forward pass for ONNX, which has no kernel of ours.

`_reference._windows` puts the taps of all windows into one tensor, and guards what derivatives
need. ONNX Runtime takes several times as long for that as for one slice of the input for each tap.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from ._arguments import Settings, Window, output_sizes
from ._reference import _activation, _by_channel, _every, _like, _pads, _wide


def soft_pool_onnx(input: torch.Tensor, *arguments) -> torch.Tensor:
    """The output of :func:`._reference.soft_pool_reference`, for infinite inputs, too.

    With float32, finite inputs of a window that are more than 1e37 apart count as 1e37 or more
    apart where beta is below 1e-35, as 0 is.
    """
    settings = Settings(*arguments)
    pooled, _ = _activation(_wide(input), settings.scale, settings.bias)
    limits = torch.finfo(pooled.dtype)
    beta: float | torch.Tensor = min(settings.beta, limits.max)
    if settings.betas is not None:
        beta = _by_channel(settings.betas, pooled).clamp(max=limits.max)
    taps = _slices(pooled, settings.window)
    maximum = functools.reduce(torch.maximum, taps)
    finite = maximum.clamp(limits.min, limits.max)
    total = mean = torch.zeros_like(maximum)
    # So that the sum is finite. What is further away has no weight, unless beta is below 1e-35.
    least = limits.min / (2 * len(taps))
    for tap in taps:
        # Of an infinite maximum, the infinite taps are at 0; -inf, padding too, is at the least,
        # where a temperature near 0 would leave it a weight.
        distance = (tap - finite).clamp(least, 0.0)
        weight = (distance * beta).exp().masked_fill(tap == -torch.inf, 0.0)
        total = total + weight
        mean = mean + weight * distance
    # The total is 0 where all taps are -inf, and else at least 1.
    return _like(maximum + mean / total.clamp(min=1.0), input)


def _slices(input: torch.Tensor, window: Window) -> list[torch.Tensor]:
    """For each tap, what it has in all windows; -inf in the padding."""
    kernel_size, stride, _, dilation, _ = window
    slices = [F.pad(input, _pads(input, window), value=-torch.inf)]
    for axis, count in enumerate(output_sizes(input.shape[2:], window)):
        dim, step = axis + 2, stride[axis]
        slices = [
            _every(values.narrow(dim, tap * dilation[axis], (count - 1) * step + 1), dim, step)
            for values in slices
            for tap in range(kernel_size[axis])
        ]
    return slices
