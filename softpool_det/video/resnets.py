"""3-D ResNets of torchvision's blocks: r3d, r(2+1)d, CSN, and SRTG's recurrent attention.

Hara et al. (CVPR 2018), Tran et al. (CVPR 2018 and ICCV 2019), Stergiou and Poppe (arXiv
2006.08247). Names of parameters are those of the authors' checkpoints (see `weights.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.video.resnet import (
    BasicStem,
    Bottleneck,
    Conv2Plus1D,
    Conv3DSimple,
    R2Plus1dStem,
    VideoResNet,
)


class NarrowBottleneck(Bottleneck):
    """A bottleneck that gives as many channels as it has inside, as in the authors' code."""

    expansion = 1


class DepthwiseConv3d(Conv3DSimple):
    """CSN's 3x3x3 convolution, one channel a group: channels interact in 1x1x1 ones alone."""

    def __init__(self, in_planes: int, out_planes: int, midplanes: int, stride: int = 1) -> None:
        nn.Conv3d.__init__(
            self, in_planes, out_planes, 3, stride, padding=1, groups=in_planes, bias=False
        )


class SqueezeAndRecursion(nn.Module):
    """Scale each frame's channels by what an LSTM of two layers says of the frames up to it.

    The paper's temporal gates are not here: the published weights were trained without them, and
    the published code closes them always.

    Args:
        channels: of input and output, (N, channels, T, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales, _ = self.lstm(x.mean((3, 4)).permute(2, 0, 1))  # (T, N, C)
        return x * scales.permute(1, 2, 0)[..., None, None]


class SRTGBottleneck(NarrowBottleneck):
    """A bottleneck with squeeze and recursion behind it (SRTG's "final" position)."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.sar = SqueezeAndRecursion(planes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sar(super().forward(x))


def resnet(
    block: type[Any], conv: type[Any], depths: Sequence[int], pool_frames: bool, num_classes: int
) -> VideoResNet:
    """Build torchvision's video ResNet with a max pooling in its stem, of frames, too, or not."""

    def stem() -> nn.Sequential:
        window = (3, 2, 1) if pool_frames else ((1, 3, 3), (1, 2, 2), (0, 1, 1))
        stem = R2Plus1dStem() if conv is Conv2Plus1D else BasicStem()
        return stem.append(nn.MaxPool3d(*window))

    return VideoResNet(block, [conv] * 4, list(depths), stem, num_classes)
