"""Detail-preserving pooling (DPP), full and lite."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from softpool_det.layers._windows import (
    CONVOLUTIONS,
    WindowPool,
    by_channel,
    elements,
    inside,
    is_padded,
    magnitude,
    means,
    padded,
    without_autocast,
)
from softpool_det.layers.learning import checked_channels

# In units of the input squared: smaller differences count as none.
_EPSILON = 1e-3
# Of weights, as a power of e: far from what overflows, and then one element has all.
_LARGEST_POWER = 80.0


class _DetailPreserving(WindowPool):
    undecayed = ("alpha", "lambda_")

    def __init__(
        self, *window: Any, num_channels: int, symmetric: bool = True, **settings: Any
    ) -> None:
        super().__init__(*window, **settings)
        self.num_channels = checked_channels(num_channels)
        self.symmetric = symmetric
        self.alpha = nn.Parameter(torch.zeros(num_channels))
        self.lambda_ = nn.Parameter(torch.zeros(num_channels))

    def reference(self, input: torch.Tensor) -> torch.Tensor:
        """Return what an element's distance is measured from, one for each window."""
        raise NotImplementedError

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        # Nothing but ratios of squares counts: scaled down, none overflows.
        scale = magnitude(input).clamp_min(1.0)
        input = input / scale
        epsilon = (_EPSILON / scale / scale).clamp_min(1e-30)
        reference = self.reference(input)
        masks: list = [None] * math.prod(self.window[0])
        if is_padded(input, self.window):
            masks = inside(input, self.window)
        values = elements(input, self.window, 0.0)
        squares = []
        for x, mask in zip(values, masks, strict=True):
            distance = x - reference
            distance = distance if self.symmetric else distance.relu()
            square = distance.square() + epsilon
            squares.append(square if mask is None else square * mask + (1 - mask) * epsilon)
        return scale * self._weighted(values, squares, masks)

    def _weighted(
        self, values: list[torch.Tensor], squares: list[torch.Tensor], masks: list
    ) -> torch.Tensor:
        """Mean of `values` with the weights r^(exp(lambda) / 2) + exp(alpha)."""
        exponent = by_channel(self.lambda_, values[0]).exp() / 2
        share = by_channel(self.alpha, values[0]).sigmoid()
        counted = [s if m is None else s * m for s, m in zip(squares, masks, strict=True)]
        count = len(masks) if masks[0] is None else sum(masks)
        log_mean = (sum(counted) / count).log()
        total = product = torch.zeros_like(values[0])
        for x, square, mask in zip(values, squares, masks, strict=True):
            # Divided by 1 + exp(alpha), which may be infinite; pow() costs several times exp().
            power = (exponent * (square.log() - log_mean)).clamp_max(_LARGEST_POWER).exp()
            weight = share + (1 - share) * power
            weight = weight if mask is None else weight * mask
            total, product = total + weight, product + weight * x
        return product / total


class _LiteDPPPool(_DetailPreserving):
    def reference(self, input: torch.Tensor) -> torch.Tensor:
        return means(input, self.window)


class LiteDPPPool1d(_LiteDPPPool):
    """`LiteDPPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class LiteDPPPool2d(_LiteDPPPool):
    """Mean of each window with larger weights for elements far from the window's plain mean.

    With u the plain mean, the weight of x_i is r_i^(exp(lambda) / 2) + exp(alpha), where
    r_i = e_i / mean(e) and e_i = (x_i - u)^2 + 0.001. So it is meant for values of about 0 to 1.

    Args:
        num_channels: of the input.
        symmetric: False for max(0, x_i - u) in place of x_i - u: only larger elements gain.

    Attributes:
        alpha, lambda_: (C,), start at 0, without weight decay.

    Source: Saeedan et al., Detail-Preserving Pooling, 2018 ("Lite"); of the authors' three codes,
    which disagree, the Lua one. The paper has 2x2 windows only.
    """

    dims = 2


class LiteDPPPool3d(_LiteDPPPool):
    """`LiteDPPPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _DPPPool(_DetailPreserving):
    def __init__(
        self, *window: Any, num_channels: int, symmetric: bool = True, **settings: Any
    ) -> None:
        super().__init__(*window, num_channels=num_channels, symmetric=symmetric, **settings)
        # Odd, so that it lies centred on the window; 3 for windows of 2, as published.
        kernel, stride, _, dilation, _ = self.window
        size = [k | 1 for k in kernel]
        self.guide = CONVOLUTIONS[self.dims](
            num_channels, num_channels, size, stride, 0, dilation, num_channels, bias=False
        )
        nn.init.constant_(self.guide.weight, 1 / self.guide.weight[0].numel())

    def reference(self, input: torch.Tensor) -> torch.Tensor:
        kernel, _, _, dilation, _ = self.window
        pads: list[int] = []
        for k, d in zip(kernel, dilation, strict=True):
            pads = [0 if k % 2 else d, 0, *pads]
        whole = F.pad(padded(input, self.window, 0.0), pads)
        with without_autocast(input):
            # Not the module itself: its weight may be of another dtype than is computed in.
            return self.guide._conv_forward(whole, self.guide.weight.to(input.dtype), None)


class DPPPool1d(_DPPPool):
    """`DPPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class DPPPool2d(_DPPPool):
    """`LiteDPPPool2d` with a learned convolution in place of the window's plain mean.

    The convolution is depthwise, and a little larger than an even window (3x3 for 2x2, as
    published). It starts as the mean of its elements; those outside the input count as 0.

    Args:
        num_channels, symmetric: as in `LiteDPPPool2d`.

    Attributes:
        alpha, lambda_: as in `LiteDPPPool2d`.
        guide: the convolution.

    Source: Saeedan et al., Detail-Preserving Pooling, 2018; SoftPool paper, Tables 3 and 5 ("DPP").
    """

    dims = 2


class DPPPool3d(_DPPPool):
    """`DPPPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3
