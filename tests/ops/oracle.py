"""SoftPool from the paper's equations, window by window in float64 with NumPy alone.

For any number of spatial dimensions. A window is the tuple (kernel, stride, padding, dilation),
each with one number for every dimension.
"""

from __future__ import annotations

import numpy as np


def window_indices(shape, out_shape, window):
    """Yield (position of the window, index of its elements inside the input) for every window."""

    def inside(axis, out):
        kernel, stride, padding, dilation = (numbers[axis] for numbers in window)
        taps = out * stride - padding + np.arange(kernel) * dilation
        return taps[(taps >= 0) & (taps < shape[axis])]

    for position in np.ndindex(*out_shape):
        yield position, np.ix_(*(inside(axis, out) for axis, out in enumerate(position)))


def soft_pool_oracle(values, out_shape, window, beta=1.0):
    """(N, C, ...) -> (N, C, *out_shape); Eq. (1)-(2) with the temperature `beta`, one or (C,).

    -inf for a window wholly in the padding.
    """
    output = np.full(values.shape[:2] + tuple(out_shape), -np.inf)
    for position, index in window_indices(values.shape[2:], out_shape, window):
        elements = values[(..., *index)].reshape(*values.shape[:2], -1)
        if elements.shape[-1]:
            _, deviation = weights_and_deviations(elements, beta)
            # Of the maximum, whose deviation is the largest.
            output[(..., *position)] = elements.max(-1) - deviation.max(-1)
    return output


def soft_pool_gradient_oracle(grad_output, values, window, gradient, beta=1.0):
    """Gradients for the input, "paper" (section 3.2) or "exact" (the derivative), and beta (C,)."""
    grad_input, grad_beta = np.zeros_like(values), np.zeros(values.shape[1])
    for position, index in window_indices(values.shape[2:], grad_output.shape[2:], window):
        block = values[(..., *index)]
        elements = block.reshape(*values.shape[:2], -1)
        if not elements.shape[-1]:
            continue
        weights, deviation = weights_and_deviations(elements, beta)
        upstream = grad_output[(..., *position)][:, :, None]
        factor = weights
        if gradient == "exact":
            factor = weights + times(by_channel(beta), weights * deviation)
        grad_input[(..., *index)] += (upstream * factor).reshape(block.shape)
        grad_beta += (upstream * weights * deviation**2).sum((0, 2))
    return grad_input, grad_beta


def weights_and_deviations(elements, beta):
    """Softmax of beta * elements, and the elements' distances to their mean by it."""
    distance = elements - elements.max(-1, keepdims=True)
    exponentials = np.exp(times(by_channel(beta), distance))
    weights = exponentials / exponentials.sum(-1, keepdims=True)
    return weights, distance - (weights * distance).sum(-1, keepdims=True)


def by_channel(beta):
    return np.reshape(beta, (-1, 1))


def times(beta, values):
    """Their product, of which an infinite beta leaves a 0 what it is."""
    with np.errstate(invalid="ignore"):
        return np.where(values == 0, 0.0, beta * values)
