"""Every pooling of softpool_det.layers by its formula, window by window with NumPy alone.

Values are (N, C, ...) with any number of spatial dimensions, results (N, C, *sizes). Parameters are
those of the layers (`rho`, `b`, `alpha`, ...), one or one for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np


@dataclass(frozen=True)
class Window:
    """Each with one number for every dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    def output_sizes(self, sizes):
        """Those of torch's max pooling."""
        return tuple(self._size(axis, size) for axis, size in enumerate(sizes))

    def _size(self, axis, size):
        stride, padding = self.stride[axis], self.padding[axis]
        free = size + 2 * padding - (self.kernel[axis] - 1) * self.dilation[axis] - 1
        count = free // stride + 1
        if self.ceil_mode:
            count = -(-free // stride) + 1
            # The last window starts inside the input or the padding before it.
            if (count - 1) * stride >= size + padding:
                count -= 1
        return count

    def taps(self, axis, start, size):
        """Numbers of the kernel's taps from `start` on that are inside, and where they are."""
        taps = np.arange(self.kernel[axis])
        places = start + taps * self.dilation[axis]
        inside = (places >= 0) & (places < size)
        return taps[inside], places[inside]

    def at_stride_one(self):
        return Window(self.kernel, (1,) * len(self.kernel), self.padding, self.dilation)


@dataclass(frozen=True)
class Place:
    """One window: its position in the output, its first tap, its elements and their taps."""

    position: tuple[int, ...]
    start: tuple[int, ...]
    index: tuple[np.ndarray, ...]
    taps: tuple[np.ndarray, ...]

    def of(self, values):
        """The window's elements, (N, C, elements)."""
        block = values[(..., *self.index)]
        return block.reshape(*values.shape[:2], -1)

    def of_kernel(self, weights):
        """The numbers of a kernel that lie on those elements."""
        return weights[(..., *self.taps)].reshape(-1)


def places(sizes, window, counts=None):
    """Every window. `counts`: of how many along each dimension, instead of the output's sizes."""
    for position in np.ndindex(*(counts or window.output_sizes(sizes))):
        numbers = zip(position, window.stride, window.padding, strict=True)
        start = tuple(out * stride - padding for out, stride, padding in numbers)
        found = [window.taps(axis, start[axis], size) for axis, size in enumerate(sizes)]
        taps, index = (np.ix_(*part) for part in zip(*found, strict=True))
        yield Place(position, start, index, taps)


def pool(values, window, rule):
    """`rule(elements, place)` for every window, with elements (N, C, number of them)."""
    output = np.full(values.shape[:2] + window.output_sizes(values.shape[2:]), np.nan)
    for place in places(values.shape[2:], window):
        output[(..., *place.position)] = rule(place.of(values), place)
    return output


def has_empty_windows(sizes, window):
    return any(0 in np.broadcast(*place.index).shape for place in places(sizes, window))


def sigmoid(value):
    return 1 / (1 + np.exp(-np.asarray(value, dtype=float)))


def average(values, window):
    return pool(values, window, lambda x, place: x.mean(-1))


def maximum(values, window):
    return pool(values, window, lambda x, place: x.max(-1))


def total(values, window):
    return pool(values, window, lambda x, place: x.sum(-1))


def power_average(values, window, exponent):
    return pool(values, window, lambda x, place: (x**exponent).sum(-1) ** (1 / exponent))


def lp(values, window, p):
    p = np.reshape(p, -1)
    return pool(values, window, lambda x, place: (abs(x) ** p[:, None]).mean(-1) ** (1 / p))


def lp_of_rho(values, window, rho):
    return lp(values, window, 1 + np.log1p(np.exp(rho)))


def mixed(values, window, mix):
    return by_channel(mix, maximum(values, window), average(values, window))


def by_channel(mix, first, second):
    """mix * first + (1 - mix) * second."""
    mix = np.reshape(mix, (-1, *[1] * (first.ndim - 2)))
    return mix * first + (1 - mix) * second


def gated(values, window, omega):
    def rule(x, place):
        gate = sigmoid((x * place.of_kernel(omega)).sum(-1))
        return gate * x.max(-1) + (1 - gate) * x.mean(-1)

    return pool(values, window, rule)


def dpp(values, window, alpha, lambda_, symmetric=True, guide=None):
    """With the weights of a convolution as `guide` the full one, without it Lite."""

    def rule(x, place):
        centre = x.mean(-1) if guide is None else guided(values, place, window, guide)
        distance = x - centre[..., None]
        if not symmetric:
            distance = np.maximum(distance, 0)
        errors = distance**2 + 1e-3
        ratios = errors / errors.mean(-1, keepdims=True)
        weights = ratios ** (np.exp(lambda_)[:, None] / 2) + np.exp(alpha)[:, None]
        return (weights * x).sum(-1) / weights.sum(-1)

    return pool(values, window, rule)


def guided(values, place, window, weights):
    """The depthwise convolution (C, 1, K...) at a window, with zeros around the input.

    Of a kernel with an even size, whose own is one larger, it begins one tap earlier: 3x3 with
    padding 1 for windows of 2x2.
    """
    result = np.zeros(values.shape[:2])
    for taps in np.ndindex(*weights.shape[2:]):
        earlier = [1 - size % 2 for size in window.kernel]
        numbers = zip(place.start, taps, earlier, window.dilation, strict=True)
        at = [start + (tap - shift) * step for start, tap, shift, step in numbers]
        if all(0 <= where < size for where, size in zip(at, values.shape[2:], strict=True)):
            result += weights[(slice(None), 0, *taps)] * values[(..., *at)]
    return result


def lip(values, window, logits):
    def rule(x, place):
        weights = np.exp(place.of(logits))
        return (x * weights).sum(-1) / weights.sum(-1)

    return pool(values, window, rule)


def lip_logits(values, conv, scale, shift):
    """12 sigmoid(InstanceNorm(convolution)), weights (C, C, 3...), scale and shift (C,)."""
    spatial = values.ndim - 2
    padded = np.pad(values, [(0, 0), (0, 0), *[(1, 1)] * spatial])
    mapped = np.zeros_like(values)
    for taps in product(range(3), repeat=spatial):
        cut = tuple(slice(tap, tap + n) for tap, n in zip(taps, values.shape[2:], strict=True))
        mapped += np.einsum("oi,ni...->no...", conv[(..., *taps)], padded[(..., *cut)])
    axes = tuple(range(2, values.ndim))
    centred = mapped - mapped.mean(axes, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
    scale, shift = (np.reshape(numbers, (-1, *[1] * spatial)) for numbers in (scale, shift))
    return 12 * sigmoid(normed * scale + shift)


def stochastic(values, window):
    """The expectation of the draws; negative elements count as 0."""

    def rule(x, place):
        x = np.maximum(x, 0)
        sums = x.sum(-1)
        return np.where(sums > 0, (x**2).sum(-1) / np.where(sums > 0, sums, 1), 0)

    return pool(values, window, rule)


def s3(values, window):
    """The mean over cells of the maxima at stride 1.

    Of those there are as many as elements; the last cell has what is left, at least its first.
    """
    rows = s3_rows(values.shape[2:], window)
    dense = np.zeros((*values.shape[:2], *rows))
    for place in places(values.shape[2:], window.at_stride_one(), rows):
        dense[(..., *place.position)] = place.of(values).max(-1)
    return cell_means(dense, values, window)


def lite_s3_dpp(values, window, alpha, lambda_):
    """The mean over cells of Lite DPP at stride 1; around the input its edge is repeated."""
    rows = s3_rows(values.shape[2:], window)
    pads = [(0, 0), (0, 0)]
    numbers = (values.shape[2:], rows, window.kernel, window.padding, window.dilation)
    for size, count, k, p, d in zip(*numbers, strict=True):
        pads.append((p, max(count + (k - 1) * d - p - size, 0)))
    inner = replace(window.at_stride_one(), padding=(0,) * len(rows))
    dense = dpp(np.pad(values, pads, mode="edge"), inner, alpha, lambda_)
    return cell_means(dense[(..., *map(slice, rows))], values, window)


def cell_means(dense, values, window):
    counts = window.output_sizes(values.shape[2:])
    output = np.zeros((*values.shape[:2], *counts))
    for position in np.ndindex(*counts):
        numbers = zip(position, window.stride, strict=True)
        cell = tuple(slice(out * stride, (out + 1) * stride) for out, stride in numbers)
        output[(..., *position)] = dense[(..., *cell)].mean(tuple(range(2, values.ndim)))
    return output


def s3_rows(sizes, window):
    """Numbers of those maxima along each dimension."""
    zipped = zip(window.output_sizes(sizes), window.stride, sizes, strict=True)
    return tuple(
        min(count * stride, max(size, (count - 1) * stride + 1)) for count, stride, size in zipped
    )


def soft(values, window, beta=1.0):
    def rule(x, place):
        weights = np.exp(np.reshape(beta, (-1, 1)) * (x - x.max(-1, keepdims=True)))
        return (x * weights).sum(-1) / weights.sum(-1)

    return pool(values, window, rule)


def edscw(values, window):
    def rule(x, place):
        mean = x.mean(-1, keepdims=True)
        squares = x**2 + mean**2
        weights = np.exp(2 * x * mean / np.where(squares > 0, squares, 1))
        return (x * weights).sum(-1) / weights.sum(-1)

    return pool(values, window, rule)


def ada(values, window, mix):
    return by_channel(mix, edscw(values, window), soft(values, window))


def blur(values, window, filter_size):
    """Of two dimensions: binomial weights over the maxima at stride 1, mirrored at the borders."""
    maxima = maximum(values, window.at_stride_one())
    weights = np.poly1d((0.5, 0.5)) ** (filter_size - 1)
    weights = np.outer(weights.coeffs, weights.coeffs)
    before = [(stride - 1 + filter_size - 1) // 2 for stride in window.stride]
    padded = np.pad(maxima, [(0, 0), (0, 0), *[(n, n) for n in before]], mode="reflect")
    output = np.zeros(values.shape[:2] + window.output_sizes(values.shape[2:]))
    for position in np.ndindex(*output.shape[2:]):
        starts = [out * stride for out, stride in zip(position, window.stride, strict=True)]
        cut = tuple(slice(start, start + filter_size) for start in starts)
        output[(..., *position)] = (padded[(..., *cut)] * weights).sum((-2, -1))
    return output
