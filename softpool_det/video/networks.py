"""The networks of the paper's Table 7, by name; its ResNets are of torchvision's blocks.

r3d: Hara et al., CVPR 2018. r(2+1)d and CSN: Tran et al., CVPR 2018 and ICCV 2019. SRTG: Stergiou
and Poppe, arXiv 2006.08247. Parameters are named as in the authors' checkpoints, but for what
`softpool_det.classification.networks` renames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models.video import resnet

from softpool_det.video.architectures import POOL_PICTURES, SlowFast, build_i3d, build_mfnet


class NarrowBottleneck(resnet.Bottleneck):
    """A bottleneck that gives as many channels as it has inside, as in the authors' code."""

    expansion = 1


class DepthwiseConv3d(resnet.Conv3DSimple):
    """CSN's 3x3x3 convolution, one channel a group: channels interact in 1x1x1 ones alone."""

    def __init__(self, in_planes: int, out_planes: int, midplanes: int, stride: int = 1) -> None:
        nn.Conv3d.__init__(self, in_planes, out_planes, 3, stride, 1, groups=in_planes, bias=False)


class SqueezeAndRecursion(nn.Module):
    """Scale (N, channels, T, H, W) by what an LSTM of two layers says of the frames up to each.

    The paper's temporal gates are not here: the published code always closes them (docs/video.md).
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


@dataclass(frozen=True)
class Network:
    """A network that takes (N, 3, T, H, W) and gives (N, num_classes)."""

    build: Callable[[int], nn.Module]  # takes the number of classes
    stem_pools: tuple[str, ...]  # names of the poolings behind its stems, one a pathway
    side: int = 224  # pixels of Table 7's clips, which have 32 frames
    pool_frames: bool = False  # whether the stems' poolings halve the frames, too

    def soft_pool(self, pool: str = "SoftPool3d") -> dict[str, Any]:
        """Arguments of `replace_pooling` for the authors' stems: windows of 2 where max has 3."""
        window = {"kernel_size": [1 + self.pool_frames, 2, 2], "padding": 0, "ceil_mode": True}
        return {"where": "stem", "pool": pool, **window}


def _resnet(
    block: Any, depths: Sequence[int], conv: Any = resnet.Conv3DSimple, pool_frames: bool = True
) -> Network:
    def stem() -> nn.Sequential:
        stem = resnet.R2Plus1dStem() if conv is resnet.Conv2Plus1D else resnet.BasicStem()
        return stem.append(nn.MaxPool3d(*((3, 2, 1) if pool_frames else POOL_PICTURES)))

    build = partial(resnet.VideoResNet, block, [conv] * 4, list(depths), stem)
    pools = ("stem.6" if conv is resnet.Conv2Plus1D else "stem.3",)
    return Network(build, pools, pool_frames=pool_frames)


_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
# All but three are the paper's own variant of ResNet: blocks as wide outside as inside, and a stem
# whose pooling halves the frames, too. No row's GFLOP fit the usual blocks (docs/video.md).
NETWORKS = {
    "r3d_50": _resnet(NarrowBottleneck, _R50),
    "r3d_101": _resnet(NarrowBottleneck, _R101),
    "r2plus1d_50": _resnet(NarrowBottleneck, _R50, resnet.Conv2Plus1D),
    "i3d": Network(build_i3d, ("pool1",)),
    "ir_csn_101_narrow": _resnet(NarrowBottleneck, _R101, DepthwiseConv3d),
    "ir_csn_101": _resnet(resnet.Bottleneck, _R101, DepthwiseConv3d, pool_frames=False),
    "mfnet": Network(build_mfnet, ("maxpool",)),
    "slowfast_r50_4x16": Network(
        SlowFast, ("s1.pathway0_stem.pool_layer", "s1.pathway1_stem.pool_layer"), side=256
    ),
    "srtg_r3d_50": _resnet(SRTGBottleneck, _R50),
    "srtg_r2plus1d_50": _resnet(SRTGBottleneck, _R50, resnet.Conv2Plus1D),
    "srtg_r3d_101": _resnet(SRTGBottleneck, _R101),
    "r3d_10": _resnet(resnet.BasicBlock, (1, 1, 1, 1)),  # small enough for two CPU cores
}


def build_network(name: str, num_classes: int) -> nn.Module:
    """Build a network of `NETWORKS` with fresh weights.

    Raises:
        ValueError: no such network, with the names that there are; or `num_classes` below 1.
    """
    if name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}, got {name!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, got {num_classes}")
    return NETWORKS[name].build(num_classes)
