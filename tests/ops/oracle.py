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


def soft_pool_oracle(values, out_shape, window):
    """(N, C, ...) -> (N, C, *out_shape); Eq. (1)-(2). -inf for a window wholly in the padding."""
    output = np.full(values.shape[:2] + tuple(out_shape), -np.inf)
    for position, index in window_indices(values.shape[2:], out_shape, window):
        elements = values[(..., *index)].reshape(*values.shape[:2], -1)
        if elements.shape[-1]:
            output[(..., *position)] = (window_weights(elements) * elements).sum(-1)
    return output


def soft_pool_gradient_oracle(grad_output, values, window, gradient):
    """Gradient for the input, "paper" (section 3.2) or "exact" (the derivative)."""
    grad_input = np.zeros_like(values)
    for position, index in window_indices(values.shape[2:], grad_output.shape[2:], window):
        block = values[(..., *index)]
        elements = block.reshape(*values.shape[:2], -1)
        if not elements.shape[-1]:
            continue
        factor = window_weights(elements)
        if gradient == "exact":
            output = (factor * elements).sum(-1, keepdims=True)
            factor = factor * (1 + elements - output)
        upstream = grad_output[(..., *position)][:, :, None]
        grad_input[(..., *index)] += (upstream * factor).reshape(block.shape)
    return grad_input


def window_weights(elements):
    exponentials = np.exp(elements - elements.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
