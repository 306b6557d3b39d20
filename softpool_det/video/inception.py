"""I3D: Inception-v1 with a third dimension (Carreira and Zisserman, CVPR 2017)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

# Input channels; then 1x1x1, 1x1x1 before 3x3x3, 3x3x3, the same two again, 1x1x1 behind a pooling.
_MIXED = {
    "mixed3b": (192, 64, 96, 128, 16, 32, 32),
    "mixed3c": (256, 128, 128, 192, 32, 96, 64),
    "mixed4b": (480, 192, 96, 208, 16, 48, 64),
    "mixed4c": (512, 160, 112, 224, 24, 64, 64),
    "mixed4d": (512, 128, 128, 256, 24, 64, 64),
    "mixed4e": (512, 112, 144, 288, 32, 64, 64),
    "mixed4f": (528, 256, 160, 320, 32, 128, 128),
    "mixed5b": (832, 256, 160, 320, 32, 128, 128),
    "mixed5c": (832, 384, 192, 384, 48, 128, 128),
}


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class _Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, *widths: int) -> None:
        super().__init__()
        one, reduce_a, three_a, reduce_b, three_b, pooled = widths
        self.branch0 = _unit(inputs, one, 1)
        self.branch1 = nn.Sequential(_unit(inputs, reduce_a, 1), _unit(reduce_a, three_a, 3))
        self.branch2 = nn.Sequential(_unit(inputs, reduce_b, 1), _unit(reduce_b, three_b, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _unit(inputs, pooled, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1
        )


class I3D(nn.Sequential):
    """Inception-v1 inflated: 13 max poolings, `pool1` the stem's.

    Args:
        num_classes: outputs.
        dropout: probability, before the last layer.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5) -> None:
        mixed = {name: _Mixed(*widths) for name, widths in _MIXED.items()}
        layers: dict[str, nn.Module] = {
            "conv1": _unit(3, 64, 7, 2),
            "pool1": nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            "conv2": _unit(64, 64, 1),
            "conv3": _unit(64, 192, 3),
            "pool2": nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            **{name: mixed[name] for name in mixed if "3" in name},
            "pool3": nn.MaxPool3d(3, 2, 1),
            **{name: mixed[name] for name in mixed if "4" in name},
            "pool4": nn.MaxPool3d(2, 2),
            **{name: mixed[name] for name in mixed if "5" in name},
            "avgpool": nn.AdaptiveAvgPool3d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
            "fc": nn.Linear(1024, num_classes),
        }
        super().__init__(OrderedDict(layers))
