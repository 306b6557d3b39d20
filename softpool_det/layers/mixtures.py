"""Shares of two poolings: mixed and gated pooling, and adaPool."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from softpool_det.layers._windows import (
    SOFT_POOLS,
    WindowPool,
    by_channel,
    elements,
    inside,
    is_padded,
    magnitude,
    maxima,
    means,
    padded,
    without_autocast,
)
from softpool_det.layers.learning import learned, number

_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class _Mixture(WindowPool):
    """a * first + (1 - a) * second, with a learned or fixed share a."""

    def __init__(
        self,
        *window: Any,
        mix: float = 0.5,
        learn_mix: str = "one",
        num_channels: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*window, **settings)
        fixed = learn_mix == "no"
        if not (0 <= number("mix", mix) <= 1 if fixed else 0 < number("mix", mix) < 1):
            bounds = "at least 0 and at most 1" if fixed else "above 0 and below 1 to be learned"
            raise ValueError(f"mix must be {bounds}, got {mix!r}")
        self.mix, self.learn_mix, self.num_channels = float(mix), learn_mix, num_channels
        start = 0.0 if fixed else math.log(mix / (1 - mix))
        self.b = learned("learn_mix", learn_mix, start, num_channels)

    def parts(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        first, second = self.parts(input)
        share = self.mix if self.b is None else by_channel(self.b, input).sigmoid()
        return share * first + (1 - share) * second


class _MixedPool(_Mixture):
    def parts(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return maxima(input, self.window), means(input, self.window)


class MixedPool1d(_MixedPool):
    """`MixedPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class MixedPool2d(_MixedPool):
    """a max + (1 - a) mean of each window, with a learned share a = sigmoid(b).

    The mean is that of the elements inside the input.

    Args:
        mix: a, from 0 to 1; where it is learned, its start.
        learn_mix: "one" for one share that is learned, "channel" for one by channel, "no" for
            neither.
        num_channels: of the input, for "channel" only.

    Attributes:
        b: (1,) or (C,), the only parameter.

    Source: Lee, Gallagher and Tu, Generalizing Pooling Functions, 2016, "mixed"; a is not bounded
    there.
    """

    dims = 2


class MixedPool3d(_MixedPool):
    """`MixedPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _GatedPool(WindowPool):
    def __init__(self, *window: Any, **settings: Any) -> None:
        super().__init__(*window, **settings)
        self.omega = nn.Parameter(0.1 * torch.randn(self.window[0]))

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        channels, (_, stride, _, dilation, _) = input.shape[1], self.window
        masks = self.omega.to(input.dtype).expand(channels, 1, *self.window[0])
        convolution = _CONVOLUTIONS[self.dims]
        with without_autocast(input):
            response = convolution(
                padded(input, self.window, 0.0), masks, None, stride, 0, dilation, channels
            )
        return torch.lerp(means(input, self.window), maxima(input, self.window), response.sigmoid())


class GatedPool1d(_GatedPool):
    """`GatedPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class GatedPool2d(_GatedPool):
    """s max + (1 - s) mean of each window, with s = sigmoid(sum omega_i x_i).

    The mask omega, shared by all channels and windows, starts normal with standard deviation 0.1.
    Elements outside the input count as 0 in the sum and not at all in the mean.

    Attributes:
        omega: of kernel_size's shape, the only parameter.

    Source: Lee, Gallagher and Tu, Generalizing Pooling Functions, 2016, "gated"; SoftPool paper,
    Tables 1, 3 and 5 ("Gate").
    """

    dims = 2


class GatedPool3d(_GatedPool):
    """`GatedPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _EDSCWPool(WindowPool):
    def pool(self, input: torch.Tensor) -> torch.Tensor:
        return _dice_weighted(self, input)


def _dice_weighted(layer: WindowPool, input: torch.Tensor) -> torch.Tensor:
    """Mean with the weights exp(2 x u / (x^2 + u^2)), u the window's mean."""
    # The coefficient depends on x / u alone: scaled down, no square overflows.
    scale = magnitude(input)
    input = input / scale
    mean = means(input, layer.window)
    masks = inside(input, layer.window) if is_padded(input, layer.window) else None
    doubled, mean_squared = 2 * mean, mean.square()
    total = product = torch.zeros_like(mean)
    for index, x in enumerate(elements(input, layer.window, 0.0)):
        squares = x.square() + mean_squared
        weight = (x * doubled / squares.clamp_min(1e-30)).exp()
        if masks is not None:
            weight = weight * masks[index]
        total, product = total + weight, product + weight * x
    return scale * product / total


class EDSCWPool1d(_EDSCWPool):
    """`EDSCWPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class EDSCWPool2d(_EDSCWPool):
    """Mean of each window, weighted by the softmax of the Dice-Sorensen coefficient with the mean.

    The coefficient is 2 x u / (x^2 + u^2), u the mean of the window; 0 / 0 is taken as 0.

    Source: Stergiou and Poppe, AdaPool, 2021 ("eDSCW").
    """

    dims = 2


class EDSCWPool3d(_EDSCWPool):
    """`EDSCWPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _AdaPool(_Mixture):
    def parts(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maximum = SOFT_POOLS[self.dims](input, *self.window, gradient="exact")
        return _dice_weighted(self, input), maximum


class AdaPool1d(_AdaPool):
    """`AdaPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class AdaPool2d(_AdaPool):
    """a eDSCW + (1 - a) eM of each window, with a learned share a = sigmoid(b).

    eDSCW is `EDSCWPool2d`, eM is SoftPool with the exact gradient. The authors clip a to 0 to 1,
    learn one for each place of the output, which fixes the input's size, and give no output below
    0; here a is one number for all or one by channel.

    Args, attributes: as in `MixedPool2d`.

    Source: Stergiou and Poppe, AdaPool, 2021.
    """

    dims = 2


class AdaPool3d(_AdaPool):
    """`AdaPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3
