"""Detail-preserving pooling (DPP), full and lite."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from softpool_det.layers._windows import (
    WindowPool,
    by_channel,
    elements,
    inside,
    is_padded,
    means,
    padded,
)
from softpool_det.layers.learning import checked_channels

# In units of the input squared: smaller differences count as none.
_EPSILON = 1e-3
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


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
        """What an element's distance is measured from, one for each window."""
        raise NotImplementedError

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        reference = self.reference(input)
        values = elements(input, self.window, 0.0)
        masks = inside(input, self.window) if is_padded(input, self.window) else None
        distances = [x - reference for x in values]
        if not self.symmetric:
            distances = [distance.relu() for distance in distances]
        if masks is not None:
            distances = [d * mask for d, mask in zip(distances, masks, strict=True)]
        # Ratios of squares: divided by the largest, none overflows, and none is 0 / 0.
        scale = torch.stack([d.detach().abs() for d in distances]).amax(0).clamp_min(1.0)
        squares = [((d / scale).square() + _EPSILON / scale / scale) for d in distances]
        squares = [square.clamp_min(1e-30) for square in squares]
        if masks is None:
            mean = sum(squares) / len(squares)
        else:
            squares_inside = [s * mask for s, mask in zip(squares, masks, strict=True)]
            mean = sum(squares_inside) / sum(masks)
        exponent = by_channel(self.lambda_, input).exp() / 2
        share = by_channel(self.alpha, input).sigmoid()
        # r^(exp(lambda) / 2) + exp(alpha), divided by 1 + exp(alpha): that may be infinite.
        weights = [(1 - share) * (s / mean).pow(exponent) + share for s in squares]
        if masks is not None:
            weights = [w * mask for w, mask in zip(weights, masks, strict=True)]
        return sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)


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
        self.guide = _CONVOLUTIONS[self.dims](
            num_channels, num_channels, size, stride, 0, dilation, num_channels, bias=False
        )
        nn.init.constant_(self.guide.weight, 1 / self.guide.weight[0].numel())

    def reference(self, input: torch.Tensor) -> torch.Tensor:
        kernel, _, _, dilation, _ = self.window
        pads: list[int] = []
        for k, d in zip(kernel, dilation, strict=True):
            pads = [0 if k % 2 else d, 0, *pads]
        whole = F.pad(padded(input, self.window, 0.0), pads)
        with torch.autocast(input.device.type, enabled=False):
            # Not the module itself: its weight may be of another dtype than is computed in.
            return self.guide._conv_forward(whole, self.guide.weight.to(input.dtype), None)


class DPPPool1d(_DPPPool):
    """`DPPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class DPPPool2d(_DPPPool):
    """`LiteDPPPool2d` with a learned convolution in place of the window's plain mean.

    The convolution is one by channel, a little larger than the window where that is even (3x3 for
    2x2, as published), and starts as the mean of its elements, where those outside the input count
    as 0.

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
