"""MF-Net in 3-D (Chen et al., ECCV 2018); parameters are named as in its authors' checkpoints."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from softpool_det.video.slowfast import conv3d

_GROUPS = 16
# Width, number of blocks, stride of the first one.
_STAGES = ((96, 3, (2, 1, 1)), (192, 4, (1, 2, 2)), (384, 6, (1, 2, 2)), (768, 3, (1, 2, 2)))
_ONE = (1, 1, 1)


def _norm(channels: int) -> dict[str, nn.Module]:
    return {"bn": nn.BatchNorm3d(channels), "relu": nn.ReLU(inplace=True)}


def _unit(inputs: int, outputs: int, kernel: Any = _ONE, **kwargs: Any) -> nn.Sequential:
    conv = conv3d(inputs, outputs, *kernel, **kwargs)
    return nn.Sequential(OrderedDict(**_norm(inputs), conv=conv))


class _Block(nn.Module):
    """A residual block of grouped convolutions, which a multiplexer of 1x1x1 ones connects."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, ...], first: bool) -> None:
        super().__init__()
        self.conv_i1 = _unit(inputs, width // 4)
        self.conv_i2 = _unit(width // 4, inputs)
        self.conv_m1 = _unit(inputs, width, (3, 3, 3), stride=stride, groups=_GROUPS)
        last: dict[str, Any] = {} if first else {"kernel": (1, 3, 3), "groups": _GROUPS}
        self.conv_m2 = _unit(width, width, **last)
        self.conv_w1 = _unit(inputs, width, stride=stride) if first else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = x + self.conv_i2(self.conv_i1(x))
        return self.conv_m2(self.conv_m1(mixed)) + self.conv_w1(x)


class MFNet(nn.Sequential):
    """Multi-fiber network.

    Args:
        num_classes: outputs.
    """

    def __init__(self, num_classes: int) -> None:
        conv = conv3d(3, 16, 3, 5, 5, stride=(1, 2, 2))
        layers: dict[str, nn.Module] = {
            "conv1": nn.Sequential(OrderedDict(conv=conv, **_norm(16))),
            "maxpool": nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        }
        inputs = 16
        for number, (width, blocks, stride) in enumerate(_STAGES, start=2):
            stage = OrderedDict(B01=_Block(inputs, width, stride, first=True))
            for i in range(2, blocks + 1):
                stage[f"B{i:02d}"] = _Block(width, width, _ONE, first=False)
            layers[f"conv{number}"] = nn.Sequential(stage)
            inputs = width
        layers["tail"] = nn.Sequential(OrderedDict(_norm(inputs)))
        layers["globalpool"] = nn.AdaptiveAvgPool3d(1)
        layers["flatten"] = nn.Flatten()
        layers["classifier"] = nn.Linear(inputs, num_classes)
        super().__init__(OrderedDict(layers))
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
