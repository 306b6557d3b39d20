"""I3D: Inception-v1 with a third dimension (Carreira and Zisserman, CVPR 2017)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torchvision.ops import Conv3dNormActivation as _Unit

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
_POOL = ((1, 3, 3), (1, 2, 2), (0, 1, 1))


class _Mixed(nn.ModuleList):
    """Four branches side by side."""

    def __init__(self, inputs: int, one: int, *widths: int) -> None:
        before_a, three_a, before_b, three_b, pooled = widths
        branch_a = nn.Sequential(_Unit(inputs, before_a, 1), _Unit(before_a, three_a, 3))
        branch_b = nn.Sequential(_Unit(inputs, before_b, 1), _Unit(before_b, three_b, 3))
        branch_c = nn.Sequential(nn.MaxPool3d(3, 1, 1), _Unit(inputs, pooled, 1))
        super().__init__([_Unit(inputs, one, 1), branch_a, branch_b, branch_c])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


class I3D(nn.Sequential):
    """Inception-v1 inflated: 13 max poolings, `pool1` the stem's.

    Args:
        num_classes: outputs.
    """

    def __init__(self, num_classes: int) -> None:
        mixed = {name: _Mixed(*widths) for name, widths in _MIXED.items()}
        layers: dict[str, nn.Module] = {
            "conv1": _Unit(3, 64, 7, 2),
            "pool1": nn.MaxPool3d(*_POOL),
            "conv2": _Unit(64, 64, 1),
            "conv3": _Unit(64, 192, 3),
            "pool2": nn.MaxPool3d(*_POOL),
            **{name: mixed[name] for name in mixed if "3" in name},
            "pool3": nn.MaxPool3d(3, 2, 1),
            **{name: mixed[name] for name in mixed if "4" in name},
            # TensorFlow's "SAME": clips of 4 frames have 1 there.
            "pool4": nn.MaxPool3d(2, 2, ceil_mode=True),
            **{name: mixed[name] for name in mixed if "5" in name},
            "avgpool": nn.AdaptiveAvgPool3d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(),
            "fc": nn.Linear(1024, num_classes),
        }
        super().__init__(OrderedDict(layers))
