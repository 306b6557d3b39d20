"""The networks of the paper's Table 7, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.video.resnet import BasicBlock, Bottleneck, Conv2Plus1D, Conv3DSimple

from softpool_det.video.inception import I3D
from softpool_det.video.mfnet import MFNet
from softpool_det.video.resnets import DepthwiseConv3d, NarrowBottleneck, SRTGBottleneck, resnet
from softpool_det.video.slowfast import SlowFast


@dataclass(frozen=True)
class Network:
    """A network that takes (N, 3, T, H, W) and gives (N, num_classes).

    Args:
        build: makes it for a number of classes.
        stem_pools: names of the poolings behind its stems, one a pathway.
        gflops: Table 7's column, for one clip; None where it has no such network.
        side: pixels of that clip, which has 32 frames.
        pool_frames: whether the stems' poolings halve the frames, too.
    """

    build: Callable[[int], nn.Module]
    stem_pools: tuple[str, ...]
    gflops: float | None = None
    side: int = 224
    pool_frames: bool = False

    def soft_pool(self, pool: str = "SoftPool3d") -> dict[str, Any]:
        """Arguments of `replace_pooling` for the authors' stems: windows of 2 where max has 3."""
        window = {"kernel_size": [1 + self.pool_frames, 2, 2], "padding": 0, "ceil_mode": True}
        return {"where": "stem", "pool": pool, **window}


_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)


def _resnet(
    block: type[nn.Module],
    depths: Sequence[int],
    gflops: float | None = None,
    conv: type[nn.Module] = Conv3DSimple,
    pool_frames: bool = True,
) -> Network:
    build = partial(resnet, block, conv, depths, pool_frames)
    pools = ("stem.6" if conv is Conv2Plus1D else "stem.3",)
    return Network(build, pools, gflops, pool_frames=pool_frames)


# All but three are the paper's own variant of ResNet: blocks as wide outside as inside, and a stem
# whose pooling halves the frames, too. With the usual blocks, four times as wide outside, no row's
# GFLOPs fit. ir-CSN-101's accuracies in the table are of the real network (22 M parameters, 57
# GFLOPs), its GFLOPs are of the narrow one.
NETWORKS = {
    "r3d_50": _resnet(NarrowBottleneck, _R50, 53.16),
    "r3d_101": _resnet(NarrowBottleneck, _R101, 78.52),
    "r2plus1d_50": _resnet(NarrowBottleneck, _R50, 50.04, Conv2Plus1D),
    "i3d": Network(I3D, ("pool1",), 55.27),
    "ir_csn_101_narrow": _resnet(NarrowBottleneck, _R101, 17.26, DepthwiseConv3d),
    "ir_csn_101": _resnet(Bottleneck, _R101, conv=DepthwiseConv3d, pool_frames=False),
    "mfnet": Network(MFNet, ("maxpool",), 22.50),
    "slowfast_r50_4x16": Network(
        SlowFast, ("s1.pathway0_stem.pool_layer", "s1.pathway1_stem.pool_layer"), 36.71, 256
    ),
    "srtg_r3d_50": _resnet(SRTGBottleneck, _R50, 53.22),
    "srtg_r2plus1d_50": _resnet(SRTGBottleneck, _R50, 50.10, Conv2Plus1D),
    "srtg_r3d_101": _resnet(SRTGBottleneck, _R101, 78.66),
    # Small enough for two CPU cores.
    "r3d_10": _resnet(BasicBlock, (1, 1, 1, 1)),
}


def build_network(name: str, num_classes: int) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: in `NETWORKS`.
        num_classes: 1 or more.

    Raises:
        ValueError: no such network, with the names that there are.
    """
    if name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}, got {name!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, got {num_classes}")
    return NETWORKS[name].build(num_classes)
