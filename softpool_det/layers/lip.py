"""Local importance-based pooling (LIP)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from softpool_det.layers._windows import CONVOLUTIONS, SOFT_POOLS, WindowPool
from softpool_det.layers.learning import checked_channels

_NORMS: dict[int, Any] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
# Logits lie between 0 and it.
_LARGEST_LOGIT = 12.0


class _LIPPool(WindowPool):
    def __init__(self, *window: Any, num_channels: int, **settings: Any) -> None:
        super().__init__(*window, **settings)
        self.num_channels = checked_channels(num_channels)
        self.conv = CONVOLUTIONS[self.dims](num_channels, num_channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)
        self.norm = _NORMS[self.dims](num_channels, affine=True)

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        # The convolution in its own dtype, or in autocast's: it is most of the cost.
        logits = self.norm(self.conv(input.to(self.conv.weight.dtype))).to(input.dtype)
        # From exp(-12) to 1: no sum overflows, and no maximum has to be subtracted.
        weight = (_LARGEST_LOGIT * (logits.sigmoid() - 1)).exp()
        # The operator's means at temperature 0, whose counts cancel: faster than ATen's.
        mean, window = SOFT_POOLS[self.dims], self.window
        return mean(weight * input, *window, beta=0.0) / mean(weight, *window, beta=0.0)


class LIPPool1d(_LIPPool):
    """`LIPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class LIPPool2d(_LIPPool):
    """Mean of each window with the weights exp(l), l = 12 sigmoid(norm(conv(x))).

    It starts as the mean, for the convolution starts at 0. Its norm looks at the whole map, in
    evaluation, too: the output depends on the size of the input and on what was padded to it. The
    first gradients of the convolution can be hundreds of times the usual ones: clip gradients.

    Args:
        num_channels: of the input.

    Attributes:
        conv: 3x3, all channels to all, without bias.
        norm: `torch.nn.InstanceNorm2d` with learned scale and bias.

    Source: Gao, Wang and Wu, LIP: Local Importance-based Pooling, 2019 ("simplified").
    """

    dims = 2


class LIPPool3d(_LIPPool):
    """`LIPPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3
