"""SoftPool from the paper's equations, window by window in float64 with NumPy alone."""

from __future__ import annotations

import numpy as np


def window_slices(shape, out_shape, kernel, stride, padding):
    """Yield (output row, output column, slice of rows, slice of columns) for every window."""

    def inside(axis, out):
        start = out * stride[axis] - padding[axis]
        return slice(max(start, 0), min(start + kernel[axis], shape[axis]))

    for row in range(out_shape[0]):
        for column in range(out_shape[1]):
            yield row, column, inside(0, row), inside(1, column)


def soft_pool2d_oracle(values, out_shape, kernel, stride, padding):
    """(N, C, H, W) -> (N, C, *out_shape); Eq. (1)-(2)."""
    output = np.empty(values.shape[:2] + tuple(out_shape))
    for row, column, rows, columns in window_slices(
        values.shape[2:], out_shape, kernel, stride, padding
    ):
        window = values[:, :, rows, columns]
        weights = window_weights(window)
        output[:, :, row, column] = (weights * window).sum((2, 3))
    return output


def soft_pool2d_gradient_oracle(grad_output, values, kernel, stride, padding, gradient):
    """Gradient for the input, "paper" (section 3.2) or "exact" (the derivative)."""
    grad_input = np.zeros_like(values)
    for row, column, rows, columns in window_slices(
        values.shape[2:], grad_output.shape[2:], kernel, stride, padding
    ):
        window = values[:, :, rows, columns]
        factor = window_weights(window)
        if gradient == "exact":
            output = (factor * window).sum((2, 3), keepdims=True)
            factor = factor * (1 + window - output)
        upstream = grad_output[:, :, row, column][:, :, None, None]
        grad_input[:, :, rows, columns] += upstream * factor
    return grad_input


def window_weights(window):
    exponentials = np.exp(window - window.max((2, 3), keepdims=True))
    return exponentials / exponentials.sum((2, 3), keepdims=True)
