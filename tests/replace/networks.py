"""Small networks that pool in every way there is."""

import torch
import torch.nn.functional as F
from torch import nn


class Functional(nn.Module):
    """Functional max and average pooling, with state of all kinds around them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 1.5))
        self.register_buffer("shift", torch.full((4, 1, 1), 0.25))
        self.out_channels = 4

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 3, stride=2, padding=1)
        x = torch.max_pool2d(x * self.scale + self.shift, 2)
        return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class Helper(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self._pool(self.conv(x))

    def _pool(self, x):
        return halve(x)


def halve(x):
    return F.max_pool2d(x, 2)


class Shared(nn.Module):
    """One pooling under two names, called three times."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.first = self.second = nn.MaxPool2d(2)

    def forward(self, x):
        return self.second(self.first(self.second(self.conv(x))))


class Residual(nn.Module):
    """A pooling between calls of children that were defined in another order."""

    def __init__(self):
        super().__init__()
        self.late = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2))
        self.early = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.late(F.max_pool2d(self.early(x), 3, 2, 1))


class ByMode(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, 2) if self.training else F.avg_pool2d(x, 2)


class Optional(nn.Module):
    def forward(self, x, mask=None):
        return F.max_pool2d(x if mask is None else x * mask, 2)


class Remembers(nn.Module):
    def forward(self, x):
        self.last = F.max_pool2d(x, 2)
        return self.last


class Loops(nn.Module):
    def forward(self, x):
        while x.shape[-1] > 4:
            x = F.max_pool2d(x, 2)
        return x


class AsksTypes(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x if isinstance(x, torch.Tensor) else x[0], 2)


class SlowFast(nn.Module):
    """Two pathways of a video: few frames with many channels, all frames with few channels."""

    def __init__(self):
        super().__init__()
        self.slow_stem = self._stem(16, 1)
        self.fast_stem = self._stem(4, 5)
        self.lateral = nn.Conv3d(4, 8, (5, 1, 1), (4, 1, 1), (2, 0, 0))
        self.slow = nn.Sequential(nn.Conv3d(24, 32, 1), nn.Conv3d(32, 32, 3, padding=1))
        self.fast = nn.Sequential(nn.Conv3d(4, 8, 1), nn.Conv3d(8, 8, 3, padding=1))
        self.slow_pool = nn.AdaptiveAvgPool3d(1)
        self.fast_pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(40, 5)

    @staticmethod
    def _stem(channels, frames):
        return nn.Sequential(
            nn.Conv3d(3, channels, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3)),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )

    def forward(self, video):
        slow, fast = self.slow_stem(video[:, :, ::4]), self.fast_stem(video)
        slow = torch.cat([slow, self.lateral(fast)], dim=1)
        pooled = self.slow_pool(self.slow(slow)), self.fast_pool(self.fast(fast))
        return self.head(torch.cat(pooled, dim=1).flatten(1))


def stream(channels, width=16):
    """The first layers of a ResNet for images of `channels`."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 7, 2, 3),
        nn.BatchNorm2d(width),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(width, width, 3, padding=1),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
    )


class SideBySide(nn.Module):
    """Two streams whose layers are defined in pairs."""

    def __init__(self):
        super().__init__()
        self.conv_color, self.conv_depth = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
        self.pool_color, self.pool_depth = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.conv2_color, self.conv2_depth = nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3)
        self.pool2_color, self.pool2_depth = nn.MaxPool2d(2), nn.MaxPool2d(2)
