"""Pooling layers by name, all built with one signature."""

from __future__ import annotations

from fvcore.common.registry import Registry
from torch import nn

from softpool_det.ops import SoftPool2d

POOLING_REGISTRY = Registry("POOLING")
POOLING_REGISTRY.__doc__ = """
2-D pooling layers by class name, the name that `MODEL.STEM_POOL.NAME` takes.

Each is called as `layer(kernel_size, stride, padding, ceil_mode=..., gradient=...)` and gives a
module that maps (N, C, H, W) to (N, C, H', W'). A layer whose gradient leaves no choice ignores
`gradient`.
"""

POOLING_REGISTRY.register(SoftPool2d)


@POOLING_REGISTRY.register()
class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d` with the signature that all poolings share."""

    def __init__(
        self, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, gradient="paper"
    ):
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


def build_pooling(
    name: str,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
    gradient: str = "paper",
) -> nn.Module:
    """Build the pooling layer that is registered as `name`.

    Args:
        name: a key of `POOLING_REGISTRY`, such as "SoftPool2d" or "MaxPool2d".
        kernel_size, stride, padding, ceil_mode: as in `torch.nn.MaxPool2d`.
        gradient: "paper" or "exact", see :func:`softpool_det.ops.soft_pool2d`.

    Raises:
        KeyError: no pooling has that name.
    """
    if name not in POOLING_REGISTRY:
        known = ", ".join(sorted(key for key, _ in POOLING_REGISTRY))
        raise KeyError(
            f"no pooling is registered as {name!r}; there are: {known}. Import the module that "
            "registers yours (softpool_det.modeling.POOLING_REGISTRY.register) before the model "
            "is built."
        )
    layer = POOLING_REGISTRY.get(name)
    return layer(kernel_size, stride, padding, ceil_mode=ceil_mode, gradient=gradient)
