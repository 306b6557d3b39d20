"""SoftPool over the whole input."""

from __future__ import annotations

from typing import Any

import torch

from softpool_det.ops import soft_pool1d, soft_pool2d, soft_pool3d
from softpool_det.ops.modules import _SoftPool
from softpool_det.ops.temperatures import single_beta

_FUNCTIONS = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}


class GlobalSoftPool(_SoftPool):
    """SoftPool over all of (N, C, ...) or (C, ...): what becomes of an adaptive pooling to size 1.

    Args:
        dims: number of pooled dimensions, 1 to 3; the output has size 1 in each.
        softness: gradient, beta, learn_beta and num_channels, see
            :class:`softpool_det.ops.SoftPool2d`.
    """

    def __init__(self, dims: int, **softness: Any) -> None:
        super().__init__(**softness)
        self.dims = dims
        self.output_size = 1

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Pool (N, C, ...) to (N, C, 1, ...)."""
        window = input.shape[-self.dims :]
        return _FUNCTIONS[self.dims](input, window, gradient=self.gradient, beta=self.beta)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        text = f"dims={self.dims}, gradient={self.gradient!r}"
        if self.learn_beta != "no" or self.beta != 1.0:
            text += f", beta={single_beta(self)}, learn_beta={self.learn_beta!r}"
        return text
