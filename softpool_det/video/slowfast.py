"""SlowFast r50 (Feichtenhofer et al., ICCV 2019); parameters are named as in PySlowFast."""

from __future__ import annotations

import torch
from torch import nn

_BLOCKS = (3, 4, 6, 3)
_SLOW_KERNELS = (1, 1, 3, 3)  # frames of the first convolution of a block, by stage
_FUSION_FRAMES = 7


class _Stem(nn.Module):
    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3), bias=False)
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.pool_layer = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool_layer(self.relu(self.bn(self.conv(x))))


class _Branch(nn.Module):
    def __init__(self, inputs: int, width: int, frames: int, stride: int) -> None:
        super().__init__()
        padding = (frames // 2, 0, 0)
        self.a = nn.Conv3d(inputs, width, (frames, 1, 1), padding=padding, bias=False)
        self.a_bn = nn.BatchNorm3d(width)
        self.b = nn.Conv3d(width, width, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.b_bn = nn.BatchNorm3d(width)
        self.c = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_bn(self.a(x)).relu_()
        x = self.b_bn(self.b(x)).relu_()
        return self.c_bn(self.c(x))


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, frames: int, stride: int) -> None:
        super().__init__()
        self.branch2 = _Branch(inputs, width, frames, stride)
        self.projects = inputs != 4 * width
        if self.projects:
            strides = (1, stride, stride)
            self.branch1 = nn.Conv3d(inputs, 4 * width, 1, strides, bias=False)
            self.branch1_bn = nn.BatchNorm3d(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if self.projects else x
        return (self.branch2(x) + shortcut).relu_()


class _Fusion(nn.Module):
    """Puts the fast pathway's channels beside the slow one's, at the slow one's frames."""

    def __init__(self, width: int, alpha: int) -> None:
        super().__init__()
        kernel, padding = (_FUSION_FRAMES, 1, 1), (_FUSION_FRAMES // 2, 0, 0)
        self.conv_f2s = nn.Conv3d(width, 2 * width, kernel, (alpha, 1, 1), padding, bias=False)
        self.bn = nn.BatchNorm3d(2 * width)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return torch.cat([slow, self.bn(self.conv_f2s(fast)).relu_()], dim=1)


class SlowFast(nn.Module):
    """Two pathways: few frames with many channels, all frames with few channels.

    Args:
        num_classes: outputs.
        alpha: of so many frames the slow pathway takes one: 8 for 4 x 16, of 32 frames.
        beta_inverse: the slow pathway has so many times the fast one's channels.
        dropout: probability, before the last layer.
    """

    def __init__(
        self, num_classes: int, alpha: int = 8, beta_inverse: int = 8, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.alpha = alpha
        widths = (64, 64 // beta_inverse)
        stems = {f"pathway{i}_stem": _Stem(width, 1 + 4 * i) for i, width in enumerate(widths)}
        self.s1 = nn.ModuleDict(stems)
        self.s1_fuse = _Fusion(widths[1], alpha)
        inputs = [widths[0] + 2 * widths[1], widths[1]]
        for stage, blocks in enumerate(_BLOCKS):
            layers = nn.ModuleDict()
            for i in (0, 1):
                width = widths[i] * 2**stage
                frames = 3 if i else _SLOW_KERNELS[stage]
                for block in range(blocks):
                    stride = 2 if stage and not block else 1
                    layers[f"pathway{i}_res{block}"] = _Block(inputs[i], width, frames, stride)
                    inputs[i] = 4 * width
            setattr(self, f"s{stage + 2}", layers)
            if stage < 3:
                setattr(self, f"s{stage + 2}_fuse", _Fusion(inputs[1], alpha))
                inputs[0] += 2 * inputs[1]
        self.head = nn.ModuleDict(
            {"dropout": nn.Dropout(dropout), "projection": nn.Linear(sum(inputs), num_classes)}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head["projection"].weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pathways = [x[:, :, :: self.alpha], x]
        for stage in ("s1", "s2", "s3", "s4", "s5"):
            for name, block in getattr(self, stage).items():
                i = int(name[len("pathway")])
                pathways[i] = block(pathways[i])
            if stage != "s5":
                pathways[0] = getattr(self, f"{stage}_fuse")(*pathways)
        means = torch.cat([pathway.mean((2, 3, 4)) for pathway in pathways], dim=1)
        return self.head["projection"](self.head["dropout"](means))
