"""SoftPool over the whole input."""

from __future__ import annotations

import torch
from torch import nn

from softpool_det.ops import soft_pool1d, soft_pool2d, soft_pool3d
from softpool_det.ops._arguments import check_gradient

_FUNCTIONS = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}


class GlobalSoftPool(nn.Module):
    """SoftPool over all of (N, C, ...) or (C, ...): what becomes of an adaptive pooling to size 1.

    Args:
        dims: number of pooled dimensions, 1 to 3; the output has size 1 in each.
        gradient: "paper" or "exact", see :func:`softpool_det.ops.soft_pool2d`.
    """

    def __init__(self, dims: int, gradient: str = "paper") -> None:
        super().__init__()
        check_gradient(gradient)
        self.dims = dims
        self.output_size = 1
        self.gradient = gradient

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _FUNCTIONS[self.dims](input, input.shape[-self.dims :], gradient=self.gradient)

    def extra_repr(self) -> str:
        return f"dims={self.dims}, gradient={self.gradient!r}"
