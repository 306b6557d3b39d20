"""MF-Net in 3-D (Chen et al., ECCV 2018); parameters are named as in its authors' checkpoints."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

_GROUPS = 16
# Width, number of blocks, stride of the first one.
_STAGES = ((96, 3, (2, 1, 1)), (192, 4, (1, 2, 2)), (384, 6, (1, 2, 2)), (768, 3, (1, 2, 2)))


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _unit(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int] = (1, 1, 1),
    stride: tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
) -> nn.Sequential:
    padding = tuple(side // 2 for side in kernel)
    return _named(
        bn=nn.BatchNorm3d(inputs),
        relu=nn.ReLU(inplace=True),
        conv=nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
    )


class _Block(nn.Module):
    """A residual block of grouped convolutions, which a multiplexer of 1x1x1 ones connects."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, int, int], first: bool) -> None:
        super().__init__()
        self.conv_i1 = _unit(inputs, width // 4)
        self.conv_i2 = _unit(width // 4, inputs)
        self.conv_m1 = _unit(inputs, width, (3, 3, 3), stride, _GROUPS)
        self.conv_m2 = _unit(width, width) if first else _unit(width, width, (1, 3, 3), groups=16)
        self.conv_w1 = _unit(inputs, width, stride=stride) if first else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = x + self.conv_i2(self.conv_i1(x))
        return self.conv_m2(self.conv_m1(mixed)) + self.conv_w1(x)


class MFNet(nn.Module):
    """Multi-fiber network.

    Args:
        num_classes: outputs.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _named(
            conv=nn.Conv3d(3, 16, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False),
            bn=nn.BatchNorm3d(16),
            relu=nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inputs = 16
        for number, (width, blocks, stride) in enumerate(_STAGES, start=2):
            stage = {"B01": _Block(inputs, width, stride, first=True)}
            for i in range(2, blocks + 1):
                stage[f"B{i:02d}"] = _Block(width, width, (1, 1, 1), first=False)
            setattr(self, f"conv{number}", _named(**stage))
            inputs = width
        self.tail = _named(bn=nn.BatchNorm3d(inputs), relu=nn.ReLU(inplace=True))
        self.globalpool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        return self.classifier(self.globalpool(self.tail(x)).flatten(1))
