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
