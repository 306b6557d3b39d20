"""One 2x2 window through the operator: outputs, weights and gradients."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch

from figures.style import BLUE, ORANGE, new_figure
from softpool_det.ops import soft_pool2d

# Activations behind a ReLU, as a stem pools them.
WINDOW = ((2.0, 0.0), (0.5, 1.0))
COLUMNS = {
    "average (beta 0)": 0.0,
    "SoftPool, beta 1": 1.0,
    "SoftPool, beta 4": 4.0,
    "max (beta inf)": float("inf"),
}


class Pooled(NamedTuple):
    """A window's output, and the gradient of the output, (2, 2)."""

    output: float
    gradient: torch.Tensor


def pooled(beta: float, gradient: str) -> Pooled:
    window = torch.tensor([[WINDOW]], dtype=torch.float64, requires_grad=True)
    output = soft_pool2d(window, kernel_size=2, beta=beta, gradient=gradient)
    output.sum().backward()
    return Pooled(output.item(), window.grad[0, 0])


def weights(beta: float) -> Pooled:
    """Weights are the paper's gradient, for which they are constants."""
    return pooled(beta, "paper")


def draw_operator() -> Any:
    """The window, and what each temperature makes of it (the paper's Figures 1 and 4)."""
    figure, axes = new_figure(2.3, 1, 5)
    _grid(axes[0], torch.tensor(WINDOW), 2.0, "{:g}")
    axes[0].set(title="window x", xlabel="a 2x2 window\nof activations")
    for axis, (label, beta) in zip(axes[1:], COLUMNS.items(), strict=True):
        found = weights(beta)
        _grid(axis, found.gradient, 1.0, "{:.2f}")
        kind, _, temperature = label.partition(" ")
        axis.set(title=f"{kind}\n{temperature}", xlabel="output")
        axis.annotate(
            f"{found.output:.2f}", (0.5, -0.32), None, "axes fraction", fontsize=15, ha="center",
            va="top", color=BLUE, weight="bold",
        )  # fmt: skip
    figure.suptitle("weights w = softmax(beta x), output = sum of w x", fontsize=10)
    return figure


def _grid(axis: Any, values: torch.Tensor, most: float, form: str) -> None:
    """Cells, the darker the larger, with their values."""
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1.3 * most)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
    for row, column in itertools.product(range(2), repeat=2):
        value = float(values[row, column])
        colour = "white" if value > 0.6 * most else "black"
        axis.text(column, row, form.format(value), ha="center", va="center", color=colour)


def draw_gradients() -> Any:
    """Both gradients of the window's output, at two temperatures."""
    figure, axes = new_figure(2.8, 1, 2, sharey=True)
    order = torch.tensor(WINDOW).flatten().sort().indices
    names = [f"{value:g}" for value in torch.tensor(WINDOW).flatten()[order]]
    for axis, beta in zip(axes, (1.0, 4.0), strict=True):
        for shift, gradient, colour in ((-0.2, "paper", BLUE), (0.2, "exact", ORANGE)):
            values = pooled(beta, gradient).gradient.flatten()[order]
            at = [number + shift for number in range(len(names))]
            bars = axis.bar(at, values, 0.4, color=colour, label=gradient)
            texts = [f"{value:.2f}".replace("-0.00", "0.00") for value in values]
            axis.bar_label(bars, texts, fontsize=8, padding=1)
        axis.set_xticks(range(len(names)), names)
        axis.set(title=f"beta {beta:g}", xlabel="activation x")
        axis.axhline(0, color="black", lw=0.8)
        axis.margins(y=0.12)
    axes[0].set_ylabel("d output / d x")
    axes[0].legend(title="gradient", loc="upper left")
    return figure
