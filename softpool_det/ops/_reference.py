"""SoftPool in plain PyTorch: what the kernels are measured against, and what runs without them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ._arguments import output_size


def soft_pool2d_reference(
    input: torch.Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """Eq. (1)-(2) of Stergiou et al., ICCV 2021, on checked arguments.

    Args:
        input: (N, C, H, W), floating point.
        kernel_size, stride, padding: [vertical, horizontal].
        ceil_mode: as in `torch.nn.functional.max_pool2d`.
        gradient: "exact", or "paper" for section 3.2, which takes the weights for constants.

    Returns:
        (N, C, OH, OW) in input's dtype. Unlike the kernels it gives +inf inputs no gradient.
    """
    channels_last = not input.is_contiguous() and input.is_contiguous(
        memory_format=torch.channels_last
    )
    values = input if input.dtype == torch.float64 else input.float()
    windows = _windows(values, kernel_size, stride, padding, ceil_mode)
    lowest = torch.finfo(values.dtype).min
    # Starting from a finite value gives -inf (padding too) the weight 0, even where all are -inf.
    maximum = windows.detach().amax(-1, keepdim=True).clamp(min=lowest)
    # The mask keeps inf - inf out; the bound, whose exp() is 0, keeps 0 * inf out.
    infinite = (windows == maximum) & maximum.isinf()
    distance = (windows - maximum).masked_fill(infinite, 0.0).clamp(min=-750.0)
    exponential = distance.exp()
    total = exponential.sum(-1, keepdim=True)
    weights = exponential / total.masked_fill(total == 0, 1.0)
    if gradient == "paper":
        weights = weights.detach()
    output = (maximum + (weights * distance).sum(-1, keepdim=True)).masked_fill(
        total == 0, -torch.inf
    )
    return (
        output.squeeze(-1)
        .to(input.dtype)
        .contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    )


def _windows(
    input: torch.Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
) -> torch.Tensor:
    """(N, C, OH, OW, window elements), with -inf in the padding."""
    # The last window may end before or behind the padding: crop or pad to just that.
    height, width = (
        (output_size(size, k, s, p, ceil_mode) - 1) * s + k - p
        for size, k, s, p in zip(input.shape[-2:], kernel_size, stride, padding, strict=True)
    )
    bottom, right = height - input.shape[-2], width - input.shape[-1]
    padded = F.pad(input, (padding[1], right, padding[0], bottom), value=-torch.inf)
    windows = padded.unfold(2, kernel_size[0], stride[0]).unfold(3, kernel_size[1], stride[1])
    return windows.flatten(-2)
