"""SoftPool and its derivatives in plain PyTorch, differentiable to any order.

What the kernels are measured against, what runs without them, and what their second derivatives
are made of. Everything takes checked arguments and (N, C, H, W) or (N, C, D, H, W), computes in
float32 (float64 for float64) and answers in input's dtype.

For one window with the weights w_i, the distances d_i to its maximum and s = sum_i w_i d_i, the
factors between the gradient of the output and that of the input are

    paper:  f_i = w_i                      (section 3.2, which takes the weights for constants)
    exact:  f_i = w_i * (1 + d_i - s)

Both are gradients of a scalar (of log-sum-exp and of the output), so that their Jacobians
J_ij = df_i / da_j are symmetric: one formula serves double backward and forward mode.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ._arguments import Window, output_sizes
from ._layout import memory_format_of


class _Softmax(NamedTuple):
    """Of windows (N, C, [OD,] OH, OW, taps)."""

    maximum: torch.Tensor  # finite or +inf; these two keep a last dimension of 1
    total: torch.Tensor  # 0 where a window has nothing but -inf
    distance: torch.Tensor
    weights: torch.Tensor


def soft_pool_reference(
    input: torch.Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """Eq. (1)-(2) of Stergiou et al., ICCV 2021, on checked arguments.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), floating point.
        kernel_size, stride, padding, dilation: one number for each of [D,] H, W.
        ceil_mode: as in `torch.nn.functional.max_pool2d`.
        gradient: "exact" or "paper"; +inf inputs get none.

    Returns:
        (N, C, [OD,] OH, OW) in input's dtype and memory format.
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    softmax = _softmax(_taps(_wide(input), window, -torch.inf))
    empty = softmax.total == 0
    output = softmax.maximum + (softmax.weights * softmax.distance).sum(-1, keepdim=True)
    if gradient == "paper":
        # The weights are the gradient of log-sum-exp: the paper's derivatives, of any order, are
        # those of it. Its value drops out.
        potential = softmax.total.masked_fill(empty, 1.0).log()
        output = output.detach() + (potential - potential.detach())
    return _like(output.masked_fill(empty, -torch.inf).squeeze(-1), input)


def tangent_reference(
    input: torch.Tensor, tangent: torch.Tensor, window: Window, exact: bool
) -> torch.Tensor:
    """sum_i f_i t_i of each window, for a tangent t of input's shape; of the output's."""
    softmax = _softmax(_taps(_wide(input), window, -torch.inf))
    tangents = _taps(_wide(tangent), window, 0.0)
    return (_factors(softmax, exact) * tangents).sum(-1).to(input.dtype)


def backward_reference(
    grad_output: torch.Tensor, input: torch.Tensor, window: Window, exact: bool
) -> torch.Tensor:
    """The sum over the windows of grad_output * f_i; of input's shape and memory format."""
    softmax = _softmax(_taps(_wide(input), window, -torch.inf))
    upstream = _wide(grad_output).unsqueeze(-1)
    return _like(_sum_of_taps(upstream * _factors(softmax, exact), input, window), input)


def curvature_reference(
    grad_output: torch.Tensor,
    input: torch.Tensor,
    tangent: torch.Tensor,
    window: Window,
    exact: bool,
) -> torch.Tensor:
    """The sum over the windows of grad_output * sum_j J_ij t_j; of input's shape."""
    softmax = _softmax(_taps(_wide(input), window, -torch.inf))
    tangents = _taps(_wide(tangent), window, 0.0)
    weights = softmax.weights
    mean = (weights * tangents).sum(-1, keepdim=True)
    if exact:
        factors = _factors(softmax, exact)
        product = (factors * tangents).sum(-1, keepdim=True)
        rows = factors * (tangents - mean) + weights * (tangents - product)
    else:
        rows = weights * (tangents - mean)
    upstream = _wide(grad_output).unsqueeze(-1)
    return _sum_of_taps(upstream * rows, input, window).to(input.dtype)


def _softmax(windows: torch.Tensor) -> _Softmax:
    lowest = torch.finfo(windows.dtype).min
    # Starting from a finite value gives -inf (padding too) the weight 0, even where all are -inf.
    # No clamp(): ONNX Runtime's bounds from above too, and takes inf away.
    maximum = windows.detach().amax(-1, keepdim=True)
    maximum = maximum.masked_fill(maximum == -torch.inf, lowest)
    # The mask keeps inf - inf out; the bound, whose exp() is 0, keeps 0 * inf out.
    infinite = (windows == maximum) & maximum.isinf()
    distance = (windows - maximum).masked_fill(infinite, 0.0)
    # No clamp() here either: its derivative hides NaN.
    distance = torch.where(distance < -750.0, -750.0, distance)
    exponential = distance.exp()
    total = exponential.sum(-1, keepdim=True)
    return _Softmax(maximum, total, distance, exponential / total.masked_fill(total == 0, 1.0))


def _factors(softmax: _Softmax, exact: bool) -> torch.Tensor:
    weights, distance = softmax.weights, softmax.distance
    if not exact:
        return weights
    return weights * (1 + distance - (weights * distance).sum(-1, keepdim=True))


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _like(result: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    return result.to(input.dtype).contiguous(memory_format=memory_format_of(input))


def _taps(input: torch.Tensor, window: Window, fill: float) -> torch.Tensor:
    """(N, C, [OD,] OH, OW, taps of the window), with `fill` in the padding."""
    kernel_size, stride, _, dilation, _ = window
    result = F.pad(input, _pads(input, window), value=fill)
    for axis, count in enumerate(output_sizes(input.shape[2:], window)):
        dim, step = axis + 2, stride[axis]
        # Slices rather than unfold(): vmap knows the derivative of these.
        slices = [
            result.narrow(dim, tap * dilation[axis], (count - 1) * step + 1)
            for tap in range(kernel_size[axis])
        ]
        result = torch.stack([_every(values, dim, step) for values in slices], -1)
    return result.flatten(-len(kernel_size))


def _every(values: torch.Tensor, dim: int, step: int) -> torch.Tensor:
    return values[(slice(None),) * dim + (slice(None, None, step),)]


def _sum_of_taps(windows: torch.Tensor, input: torch.Tensor, window: Window) -> torch.Tensor:
    """The transpose of `_taps`: what the windows hold for each input, summed; of input's shape."""
    kernel_size, stride, _, dilation, _ = window
    pads = _pads(input, window)
    result = windows.unflatten(-1, kernel_size)
    for axis in reversed(range(len(kernel_size))):
        dim, step = axis + 2, stride[axis]
        count, sizes = result.shape[dim], list(result.shape[:-1])
        sizes[dim] = input.shape[dim] + pads[-2 * axis - 2] + pads[-2 * axis - 1]
        total = zeros = result.new_zeros(sizes)
        for tap, values in enumerate(result.unbind(-1)):
            start = tap * dilation[axis]
            end = start + (count - 1) * step + 1
            total = total + torch.slice_scatter(zeros, values, dim, start, end, step)
        result = total
    return F.pad(result, [-pad for pad in pads])


def _pads(input: torch.Tensor, window: Window) -> list[int]:
    """For F.pad. The last window may end before or behind the padding: crop or pad to just that."""
    kernel_size, stride, padding, dilation, _ = window
    sizes = input.shape[2:]
    pads: list[int] = []
    for axis, count in enumerate(output_sizes(sizes, window)):
        end = (count - 1) * stride[axis] + (kernel_size[axis] - 1) * dilation[axis] + 1
        pads = [padding[axis], end - padding[axis] - sizes[axis], *pads]
    return pads
