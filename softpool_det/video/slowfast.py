"""SlowFast r50 (Feichtenhofer et al., ICCV 2019); parameters are named as in PySlowFast.

Connections have 7 frames, with which the GFLOP are nearest to Table 7's; PySlowFast's have 5.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

_BLOCKS = (3, 4, 6, 3)


def conv3d(inputs: int, outputs: int, *kernel: int, stride: Any = 1, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size where `stride` is 1."""
    padding = tuple(side // 2 for side in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def _stem(width: int, frames: int) -> nn.Sequential:
    layers = OrderedDict(
        conv=conv3d(3, width, frames, 7, 7, stride=(1, 2, 2)),
        bn=nn.BatchNorm3d(width),
        relu=nn.ReLU(inplace=True),
        pool_layer=nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    )
    return nn.Sequential(layers)


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, frames: int, stride: int) -> None:
        super().__init__()
        strides = (1, stride, stride)
        if inputs != 4 * width:
            self.branch1 = conv3d(inputs, 4 * width, 1, 1, 1, stride=strides)
            self.branch1_bn = nn.BatchNorm3d(4 * width)
        layers = OrderedDict(
            a=conv3d(inputs, width, frames, 1, 1),
            a_bn=nn.BatchNorm3d(width),
            a_relu=nn.ReLU(inplace=True),
            b=conv3d(width, width, 1, 3, 3, stride=strides),
            b_bn=nn.BatchNorm3d(width),
            b_relu=nn.ReLU(inplace=True),
            c=conv3d(width, 4 * width, 1, 1, 1),
            c_bn=nn.BatchNorm3d(4 * width),
        )
        self.branch2 = nn.Sequential(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x
        return (self.branch2(x) + shortcut).relu_()


class _Fusion(nn.Module):
    """Puts the fast pathway's channels beside the slow one's, at the slow one's frames."""

    def __init__(self, width: int, alpha: int) -> None:
        super().__init__()
        self.conv_f2s = conv3d(width, 2 * width, 7, 1, 1, stride=(alpha, 1, 1))
        self.bn = nn.BatchNorm3d(2 * width)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return torch.cat([slow, self.bn(self.conv_f2s(fast)).relu_()], dim=1)


class SlowFast(nn.Module):
    """Two pathways: few frames with many channels, all frames with an eighth of the channels.

    Args:
        num_classes: outputs.
        alpha: of so many frames the slow pathway takes one: 8 for 4 x 16, of 32 frames.
    """

    def __init__(self, num_classes: int, alpha: int = 8) -> None:
        super().__init__()
        self.alpha = alpha
        self.s1 = nn.ModuleDict({"pathway0_stem": _stem(64, 1), "pathway1_stem": _stem(8, 5)})
        self.s1_fuse = _Fusion(8, alpha)
        inputs = [64 + 2 * 8, 8]
        for stage, blocks in enumerate(_BLOCKS):
            layers = nn.ModuleDict()
            for i, width in enumerate((64 * 2**stage, 8 * 2**stage)):
                for block in range(blocks):
                    stride = 2 if stage and not block else 1
                    frames = 3 if i or stage > 1 else 1
                    layers[f"pathway{i}_res{block}"] = _Block(inputs[i], width, frames, stride)
                    inputs[i] = 4 * width
            setattr(self, f"s{stage + 2}", layers)
            if stage < 3:
                setattr(self, f"s{stage + 2}_fuse", _Fusion(inputs[1], alpha))
                inputs[0] += 2 * inputs[1]
        head = OrderedDict(dropout=nn.Dropout(), projection=nn.Linear(sum(inputs), num_classes))
        self.head = nn.Sequential(head)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.projection.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pathways = [x[:, :, :: self.alpha], x]
        for stage in ("s1", "s2", "s3", "s4", "s5"):
            for name, block in getattr(self, stage).items():
                i = int(name[len("pathway")])
                pathways[i] = block(pathways[i])
            if stage != "s5":
                pathways[0] = getattr(self, f"{stage}_fuse")(*pathways)
        return self.head(torch.cat([pathway.mean((2, 3, 4)) for pathway in pathways], dim=1))
