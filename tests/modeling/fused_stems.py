"""Stems whose norm, ReLU and pooling may be one operator, and which operators they call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.resnet import BasicStem
from torch.utils._python_dispatch import TorchDispatchMode

from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d


class Operators(TorchDispatchMode):
    """The names of this package's operators that are called inside; "fused" ones have a norm."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.namespace == "softpool_det":
            names = (argument.name for argument in operator._schema.arguments)
            given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
            fused = "fused " if given.get("scale") is not None else ""
            self.names.append(fused + operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


def operators(function, *args):
    with Operators() as calls:
        function(*args)
    return calls.names


def make_stem(norm="FrozenBN", pool=None, **window):
    """With statistics that do something, negative scales among them."""
    stem = PooledStem(BasicStem(norm=norm), pool or SoftPool2d(**({"kernel_size": 2} | window)))
    generator = torch.Generator().manual_seed(0)
    for name, values in stem.conv1.norm.state_dict().items():
        if values.is_floating_point():
            values.copy_(torch.randn(values.shape, generator=generator))
            if name == "running_var":
                values.square_().add_(0.5)
    return stem.eval()


def soft_pool(beta, learn_beta="no", **window):
    """A learned temperature of each channel is another one."""
    arguments = {"kernel_size": 2} | window
    pool = SoftPool2d(**arguments, beta=beta, learn_beta=learn_beta, num_channels=64)
    generator = torch.Generator().manual_seed(2)
    for parameter in pool.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) / 4
    return pool


def unfused(stem, images):
    return stem.pool(F.relu_(stem.conv1(images)))


def images(channels_last=False, seed=1):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 3, 33, 46, generator=generator)
    return values.to(memory_format=torch.channels_last) if channels_last else values
