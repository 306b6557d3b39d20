"""The ResNet stem with a pooling of one's choice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.resnet import BasicStem, CNNBlockBase
from torch import nn


class PooledStem(CNNBlockBase):
    """Detectron2's `BasicStem` with its 3x3 max pooling replaced by `pool`.

    The convolution and norm are those of `stem` itself, under their old names: state-dict keys
    (`conv1.*`, `conv1.norm.*`), initial values and what is frozen all stay, so that stock
    checkpoints load and `FREEZE_AT` keeps its meaning.

    Args:
        stem: the stem to take over; it shares `conv1` with the new one.
        pool: maps (N, C, H, W) to (N, C, H', W') with stride 2, without parameters.

    Raises:
        TypeError: `stem` is no `BasicStem`, so where its pooling happens is unknown.
        ValueError: `pool` has a stride other than 2; ResNet tells its users (FPN, the anchors)
            that a stem has stride 4, whatever it does.
    """

    def __init__(self, stem: BasicStem, pool: nn.Module) -> None:
        if not isinstance(stem, BasicStem):
            raise TypeError(f"stem must be a detectron2 BasicStem, got {type(stem).__name__}")
        stride = getattr(pool, "stride", 2)
        if stride not in (2, (2, 2)):
            raise ValueError(
                f"stride of the stem's pooling must be 2, got {stride}: the convolution before it "
                "has stride 2 and Detectron2's ResNet counts on 4 in all"
            )
        super().__init__(stem.in_channels, stem.out_channels, stem.stride)
        self.conv1 = stem.conv1
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image batch (N, in_channels, H, W) to (N, out_channels, ~H/4, ~W/4)."""
        x = self.conv1(x)
        x = F.relu_(x)
        return self.pool(x)
