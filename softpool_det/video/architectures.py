"""I3D, MF-Net and SlowFast, from clips (N, 3, T, H, W) to (N, num_classes): no library has them.

Parameters of MF-Net are named as in its authors' checkpoints, SlowFast's as in PySlowFast.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torchvision.ops import Conv3dNormActivation as _Unit

# Arguments of a max pooling of pictures alone.
POOL_PICTURES = ((1, 3, 3), (1, 2, 2), (0, 1, 1))

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
# Of MF-Net's stages: width, number of blocks, stride of the first one.
_FIBERS = ((96, 3, (2, 1, 1)), (192, 4, (1, 2, 2)), (384, 6, (1, 2, 2)), (768, 3, (1, 2, 2)))
_GROUPS = 16
# Of so many frames SlowFast's slow pathway takes one: 4 of 32 for 4 x 16.
_ALPHA = 8


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


def _conv(inputs: int, outputs: int, *kernel: int, stride: Any = 1, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size where `stride` is 1."""
    padding = tuple(side // 2 for side in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _norm(channels: int) -> dict[str, nn.Module]:
    return {"bn": nn.BatchNorm3d(channels), "relu": nn.ReLU(inplace=True)}


def _unit(inputs: int, outputs: int, *kernel: int, **kwargs: Any) -> nn.Sequential:
    return _named(**_norm(inputs), conv=_conv(inputs, outputs, *kernel, **kwargs))


def build_i3d(num_classes: int) -> nn.Sequential:
    """Build Inception-v1 inflated (Carreira and Zisserman, CVPR 2017), with 13 max poolings."""
    mixed = {name: _Mixed(*widths) for name, widths in _MIXED.items()}
    return _named(
        conv1=_Unit(3, 64, 7, 2),
        pool1=nn.MaxPool3d(*POOL_PICTURES),
        conv2=_Unit(64, 64, 1),
        conv3=_Unit(64, 192, 3),
        pool2=nn.MaxPool3d(*POOL_PICTURES),
        **{name: mixed[name] for name in mixed if "3" in name},
        pool3=nn.MaxPool3d(3, 2, 1),
        **{name: mixed[name] for name in mixed if "4" in name},
        # TensorFlow's "SAME": clips of 4 frames have 1 there.
        pool4=nn.MaxPool3d(2, 2, ceil_mode=True),
        **{name: mixed[name] for name in mixed if "5" in name},
        avgpool=nn.AdaptiveAvgPool3d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(),
        fc=nn.Linear(1024, num_classes),
    )


class _FiberBlock(nn.Module):
    """A residual block of grouped convolutions, which a multiplexer of 1x1x1 ones connects."""

    def __init__(self, inputs: int, width: int, stride: Any = 1) -> None:
        super().__init__()
        self.conv_i1 = _unit(inputs, width // 4, 1, 1, 1)
        self.conv_i2 = _unit(width // 4, inputs, 1, 1, 1)
        self.conv_m1 = _unit(inputs, width, 3, 3, 3, stride=stride, groups=_GROUPS)
        if inputs != width:
            self.conv_m2 = _unit(width, width, 1, 1, 1)
            self.conv_w1 = _unit(inputs, width, 1, 1, 1, stride=stride)
        else:
            self.conv_m2 = _unit(width, width, 1, 3, 3, groups=_GROUPS)
            self.conv_w1 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = x + self.conv_i2(self.conv_i1(x))
        return self.conv_m2(self.conv_m1(mixed)) + self.conv_w1(x)


def build_mfnet(num_classes: int) -> nn.Sequential:
    """Build the multi-fiber network in 3-D (Chen et al., ECCV 2018)."""
    stem, inputs = _conv(3, 16, 3, 5, 5, stride=(1, 2, 2)), 16
    stages = {"conv1": _named(conv=stem, **_norm(16)), "maxpool": nn.MaxPool3d(*POOL_PICTURES)}
    for number, (width, blocks, stride) in enumerate(_FIBERS, start=2):
        stage = {"B01": _FiberBlock(inputs, width, stride)}
        stage |= {f"B{i:02d}": _FiberBlock(width, width) for i in range(2, blocks + 1)}
        stages[f"conv{number}"], inputs = _named(**stage), width
    ends = {"globalpool": nn.AdaptiveAvgPool3d(1), "flatten": nn.Flatten()}
    classifier = nn.Linear(inputs, num_classes)
    network = _named(**stages, tail=_named(**_norm(inputs)), **ends, classifier=classifier)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
    return network


class _Residual(nn.Module):
    def __init__(self, inputs: int, width: int, frames: int, stride: int) -> None:
        super().__init__()
        strides = (1, stride, stride)
        if inputs != 4 * width:
            self.branch1 = _conv(inputs, 4 * width, 1, 1, 1, stride=strides)
            self.branch1_bn = nn.BatchNorm3d(4 * width)
        self.branch2 = _named(
            a=_conv(inputs, width, frames, 1, 1),
            a_bn=nn.BatchNorm3d(width),
            a_relu=nn.ReLU(inplace=True),
            b=_conv(width, width, 1, 3, 3, stride=strides),
            b_bn=nn.BatchNorm3d(width),
            b_relu=nn.ReLU(inplace=True),
            c=_conv(width, 4 * width, 1, 1, 1),
            c_bn=nn.BatchNorm3d(4 * width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x
        return (self.branch2(x) + shortcut).relu_()


class _Fusion(nn.Module):
    """Puts the fast pathway's channels beside the slow one's; docs/video.md says why 7 frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_f2s = _conv(width, 2 * width, 7, 1, 1, stride=(_ALPHA, 1, 1))
        self.bn = nn.BatchNorm3d(2 * width)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return torch.cat([slow, self.bn(self.conv_f2s(fast)).relu_()], dim=1)


class SlowFast(nn.Module):
    """SlowFast r50 (Feichtenhofer et al., ICCV 2019)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # A pathway of few frames with many channels, and one of all frames with an eighth of them.
        self.s1 = nn.ModuleDict()
        for i, (width, frames) in enumerate(((64, 1), (8, 5))):
            conv = _conv(3, width, frames, 7, 7, stride=(1, 2, 2))
            pool = nn.MaxPool3d(*POOL_PICTURES)
            self.s1[f"pathway{i}_stem"] = _named(conv=conv, **_norm(width), pool_layer=pool)
        self.s1_fuse = _Fusion(8)
        inputs = [64 + 2 * 8, 8]
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layers = nn.ModuleDict()
            for i, width in enumerate((64 * 2**stage, 8 * 2**stage)):
                for block in range(blocks):
                    stride = 2 if stage and not block else 1
                    frames = 3 if i or stage > 1 else 1
                    layers[f"pathway{i}_res{block}"] = _Residual(inputs[i], width, frames, stride)
                    inputs[i] = 4 * width
            setattr(self, f"s{stage + 2}", layers)
            if stage < 3:
                setattr(self, f"s{stage + 2}_fuse", _Fusion(inputs[1]))
                inputs[0] += 2 * inputs[1]
        self.head = _named(dropout=nn.Dropout(), projection=nn.Linear(sum(inputs), num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.projection.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pathways = [x[:, :, ::_ALPHA], x]
        for stage in ("s1", "s2", "s3", "s4", "s5"):
            for name, block in getattr(self, stage).items():
                i = int(name[len("pathway")])
                pathways[i] = block(pathways[i])
            if stage != "s5":
                pathways[0] = getattr(self, f"{stage}_fuse")(*pathways)
        return self.head(torch.cat([pathway.mean((2, 3, 4)) for pathway in pathways], dim=1))
