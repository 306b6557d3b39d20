"""Sum pooling, power-average pooling and L_p pooling."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F

from softpool_det.layers._windows import (
    WindowPool,
    by_channel,
    counts,
    elements,
    magnitude,
    sums,
)
from softpool_det.layers.learning import learned, number


class _SumPool(WindowPool):
    def pool(self, input: torch.Tensor) -> torch.Tensor:
        return sums(input, self.window)


class SumPool1d(_SumPool):
    """`SumPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class SumPool2d(_SumPool):
    """Sum of each window: `torch.nn.AvgPool2d` with `divisor_override=1`, and dilation.

    Source: SoftPool paper, Figure 2c, Tables 1, 3 and 5 ("Sum").
    """

    dims = 2


class SumPool3d(_SumPool):
    """`SumPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _PowerAvgPool(WindowPool):
    def __init__(self, *window: Any, exponent: float = 2.0, **settings: Any) -> None:
        super().__init__(*window, **settings)
        if not 1 <= number("exponent", exponent) < math.inf:
            raise ValueError(f"exponent must be at least 1 and finite, got {exponent!r}")
        self.exponent = float(exponent)

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        scale = magnitude(input)
        total = sums((input / scale).pow(self.exponent), self.window)
        # The root has no derivative at 0, where the layer takes 0 for it.
        root = torch.where(total == 0, 1.0, total.abs()).pow(1 / self.exponent)
        return scale * total.sign() * root


class PowerAvgPool1d(_PowerAvgPool):
    """`PowerAvgPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class PowerAvgPool2d(_PowerAvgPool):
    """(sum x_i^q)^(1/q) of each window.

    It is not divided by the number of elements, despite the paper's name: q = 1 is the sum.
    `torch.nn.LPPool2d` has the same formula; it lacks padding and dilation, overflows where this
    does not, and with `ceil_mode` counts a cut window as a whole one.

    Args:
        exponent: q, at least 1; the paper does not say which it took. Of x < 0 a power has to
            exist: q is a whole number, or the output NaN. A negative sum keeps its sign. For large
            q, elements far below their map's maximum can underflow to 0.

    Source: SoftPool paper, Figure 2c, Tables 1, 3 and 5 ("Pow-average").
    """

    dims = 2


class PowerAvgPool3d(_PowerAvgPool):
    """`PowerAvgPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _LPPool(WindowPool):
    undecayed = ("rho",)

    def __init__(
        self,
        *window: Any,
        p: float = 2.0,
        learn_p: str = "one",
        num_channels: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*window, **settings)
        if not 1 < number("p", p) < math.inf:
            raise ValueError(f"p must be above 1 and finite, got {p!r}")
        self.p, self.learn_p, self.num_channels = float(p), learn_p, num_channels
        # The inverse of softplus, for large p, too.
        start = p - 1 + math.log(-math.expm1(1 - p))
        self.rho = learned("learn_p", learn_p, start, num_channels)

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        p: float | torch.Tensor = self.p
        if self.rho is not None:
            p = 1 + F.softplus(by_channel(self.rho, input))
        # In logarithms, each window relative to its maximum: no power overflows, and exp() costs
        # a fraction of pow(). An element of 0 has the power 0 and no derivative.
        numbers = torch.finfo(input.dtype)
        least = math.log(numbers.tiny)
        logs = elements(input.abs().clamp_min(numbers.tiny).log(), self.window, least)
        reference = reduce(torch.maximum, [log.detach() for log in logs]).clamp_max(numbers.max)
        total = sum(((log - reference) * p).exp() for log in logs)
        output = (reference + (total / counts(input, self.window)).log() / p).exp()
        is_zero = reference < least + 1e-3
        return torch.where(is_zero, 0.0, output)


class LPPool1d(_LPPool):
    """`LPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class LPPool2d(_LPPool):
    """(mean |x_i|^p)^(1/p) of each window, with a learned p = 1 + softplus(rho).

    `torch.nn.LPPool2d` is another layer: its exponent is fixed and its sum is not divided, see
    `PowerAvgPool2d`.

    Args:
        p: above 1; where it is learned, its start.
        learn_p: "one" for one p that is learned, "channel" for one by channel, "no" for neither.
        num_channels: of the input, for "channel" only.

    Attributes:
        rho: (1,) or (C,), the only parameter; without weight decay, which would pull p to 1.693.

    Source: Gulcehre et al., Learned-Norm Pooling, 2014, without its centres.
    """

    dims = 2


class LPPool3d(_LPPool):
    """`LPPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3
