"""SoftPool and its derivatives in plain PyTorch, differentiable to any order.

What the kernels are measured against, what runs without them, and what their second derivatives
are made of. Everything takes the operators' arguments (see csrc/schemas.h), computes in float32
(float64 for float64) and answers in input's dtype.

For a window of x, or of relu(input * scale + bias), with the temperature beta:

    w_i = softmax(beta * x)_i    out = sum_i w_i x_i    c_i = x_i - out    V = sum_i w_i c_i^2
    d out / d x_i = p_i          paper: p_i = w_i (section 3.2, which takes the weights for
                                 constants)    exact: p_i = w_i (1 + beta c_i)
    d out / d beta = V           the derivative, in both

Second derivatives are those of p and V. d p_i / d x_j is symmetric in both; d p_i / d beta equals
d V / d x_i in the exact one alone. So the paper's gradient is that of no function of x and beta,
and what goes one way in double backward goes the other way in forward mode.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ._arguments import Settings, Window, output_sizes
from ._layout import memory_format_of


class _Windows(NamedTuple):
    """(N, C, [OD,] OH, OW, taps), with a last dimension of 1 for what a window has one of."""

    output: torch.Tensor
    weights: torch.Tensor
    deviation: torch.Tensor  # c; finite but arbitrary where the weight is 0
    total: torch.Tensor  # of the exponentials below the maximum; 0 where all taps are -inf
    beta: torch.Tensor
    slope: torch.Tensor | None  # derivative of what is pooled for input, where that is not 1

    def moment(self, power: int) -> torch.Tensor:
        return (self.weights * self.deviation**power).sum(-1, keepdim=True)

    def factors(self, exact: bool) -> torch.Tensor:
        """Compute p. The product comes first: for a weight of 0 it is 0 even with infinite beta."""
        if not exact:
            return self.weights
        return self.weights + self.beta * (self.weights * self.deviation)


def soft_pool_reference(input: torch.Tensor, *arguments) -> torch.Tensor:
    """Eq. (1)-(2) of Stergiou et al., ICCV 2021, with a temperature.

    Differentiable by itself: with the paper's gradient, which has no potential if `betas` is given,
    the mixed second derivatives of input and betas are 0. +inf inputs get no gradient.
    """
    settings = Settings(*arguments)
    if settings.exact:
        output = _windows(input, settings).output
    elif settings.betas is None:
        windows = _windows(input, settings)
        output = windows.output.detach() + _without_value(_potential(windows))
    else:
        fixed = settings._replace(betas=settings.betas.detach())
        output = _windows(input.detach(), settings).output
        output = output + _without_value(_potential(_windows(input, fixed)))
    return _like(output.squeeze(-1), input)


def tangent_reference(
    tangent: torch.Tensor | None, beta_tangent: torch.Tensor | None, input: torch.Tensor, *arguments
) -> torch.Tensor:
    """sum_i p_i t_i + V u of each window, for tangents t of input and u of betas; like the output.

    None stands for a tangent of 0.
    """
    settings = Settings(*arguments)
    windows = _windows(input, settings)
    result = torch.zeros_like(windows.output)
    if tangent is not None:
        products = windows.factors(settings.exact) * _tangents(tangent, windows, settings)
        result = result + products.sum(-1, keepdim=True)
    if beta_tangent is not None:
        result = result + windows.moment(2) * _by_channel(beta_tangent, result)
    return result.squeeze(-1).to(input.dtype)


def backward_reference(
    grad_output: torch.Tensor, input: torch.Tensor, *arguments
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum grad_output * p_i over the windows, like input, and grad_output * V, by channel.

    The second one is empty without betas.
    """
    settings = Settings(*arguments)
    windows = _windows(input, settings)
    upstream = _wide(grad_output).unsqueeze(-1)
    rows = upstream * windows.factors(settings.exact)
    grad_input = _like(_input_gradient(rows, windows, input, settings), input)
    if settings.betas is None:
        return grad_input, rows.new_zeros(0)
    return grad_input, _sum_by_channel(upstream * windows.moment(2))


def second_reference(
    tangent: torch.Tensor | None,
    beta_tangent: torch.Tensor | None,
    grad_output: torch.Tensor,
    input: torch.Tensor,
    *arguments,
    transposed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Differentiate `backward_reference` for input and betas, times tangents of both.

    Transposed, it is what double backward needs: the tangents are cotangents of its two results.
    """
    settings = Settings(*arguments)
    windows = _windows(input, settings)
    upstream = _wide(grad_output).unsqueeze(-1)
    rows = torch.zeros_like(windows.weights)
    if tangent is not None:
        tangents = _tangents(tangent, windows, settings)
        rows = _second_of_input(windows, tangents, settings.exact)
    grad_betas = rows.new_zeros(0)
    if settings.betas is not None:
        across, along = _mixed_seconds(windows, settings.exact)
        if transposed:
            across, along = along, across
        column = torch.zeros_like(windows.output)
        if tangent is not None:
            column = (along * tangents).sum(-1, keepdim=True)
        if beta_tangent is not None:
            beta_tangents = _by_channel(beta_tangent, rows)
            rows = rows + across * beta_tangents
            column = column + windows.moment(3) * beta_tangents
        grad_betas = _sum_by_channel(upstream * column)
    return _input_gradient(upstream * rows, windows, input, settings).to(input.dtype), grad_betas


def _second_of_input(windows: _Windows, tangents: torch.Tensor, exact: bool) -> torch.Tensor:
    """sum_j dp_i / dx_j t_j."""
    weights, factors, beta = windows.weights, windows.factors(exact), windows.beta
    rows = beta * factors * (tangents - (weights * tangents).sum(-1, keepdim=True))
    if exact:
        rows = rows + beta * weights * (tangents - (factors * tangents).sum(-1, keepdim=True))
    return rows


def _mixed_seconds(windows: _Windows, exact: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """dp_i / dbeta and dV / dx_i."""
    weights, c = windows.weights, windows.deviation
    slope = windows.beta * (weights * c**2 - weights * windows.moment(2)) + 2 * weights * c
    return slope if exact else weights * c, slope


def _windows(input: torch.Tensor, settings: Settings) -> _Windows:
    pooled, slope = _activation(_wide(input), settings.scale, settings.bias)
    taps = _taps(pooled, settings.window, -torch.inf)
    limits = torch.finfo(taps.dtype)
    if settings.betas is None:
        beta = taps.new_full((), min(settings.beta, limits.max))
    else:
        beta = _by_channel(settings.betas, taps).clamp(max=limits.max)
    # Starting from a finite value gives -inf (padding too) the weight 0, even where all are -inf.
    # No clamp(): ONNX Runtime's bounds from above too, and takes inf away.
    maximum = taps.detach().amax(-1, keepdim=True)
    maximum = maximum.masked_fill(maximum == -torch.inf, limits.min)
    infinite = (taps == maximum) & maximum.isinf()
    distance = taps - maximum
    absent = distance < limits.min
    # The masks keep inf - inf out, and 0 * inf: of a temperature of 0, then of a weight of 0.
    distance = distance.masked_fill(infinite | absent, 0.0)
    exponential = (beta * distance).exp().masked_fill(absent, 0.0)
    distance = distance.masked_fill(exponential == 0, 0.0)
    total = exponential.sum(-1, keepdim=True)
    empty = total == 0
    weights = exponential / total.masked_fill(empty, 1.0)
    mean = (weights * distance).sum(-1, keepdim=True)
    output = (maximum + mean).masked_fill(empty, -torch.inf)
    return _Windows(output, weights, distance - mean, total, beta, slope)


def _potential(windows: _Windows) -> torch.Tensor:
    """Compute log(sum_i exp(beta x_i)) / beta, whose derivative at a fixed beta is w.

    Its limit at 0 is the output.
    """
    zero = windows.beta == 0
    total = windows.total.masked_fill(windows.total == 0, 1.0)
    return torch.where(zero, windows.output, total.log() / windows.beta.masked_fill(zero, 1.0))


def _without_value(tensor: torch.Tensor) -> torch.Tensor:
    """0 with the derivatives of `tensor`."""
    value = tensor.detach()
    return (tensor - value).masked_fill(value.isinf(), 0.0)


def _activation(
    input: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what is pooled, and its derivative for input where that is not 1."""
    if scale is None or bias is None:
        return input, None
    shape = [-1] + [1] * (input.dim() - 2)
    line = input * scale.view(shape) + bias.view(shape)
    return line.relu(), torch.where(line <= 0, 0, scale.view(shape))


def _scaled(tensor: torch.Tensor, slope: torch.Tensor | None) -> torch.Tensor:
    return tensor if slope is None else torch.where(slope == 0, 0, tensor * slope)


def _by_channel(numbers: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    return numbers.view([-1] + [1] * (windows.dim() - 2))


def _sum_by_channel(column: torch.Tensor) -> torch.Tensor:
    return column.sum([dim for dim in range(column.dim()) if dim != 1])


def _tangents(tangent: torch.Tensor, windows: _Windows, settings: Settings) -> torch.Tensor:
    return _taps(_scaled(_wide(tangent), windows.slope), settings.window, 0.0)


def _input_gradient(
    rows: torch.Tensor, windows: _Windows, input: torch.Tensor, settings: Settings
) -> torch.Tensor:
    return _scaled(_sum_of_taps(rows, input, settings.window), windows.slope)


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
    """Sum what the windows hold for each input: the transpose of `_taps`, of input's shape."""
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
