"""Pooling layers by name, all built with one signature."""

from __future__ import annotations

import inspect
from typing import Any

from fvcore.common.registry import Registry
from torch import nn

from softpool_det.ops import SoftPool2d

POOLING_REGISTRY = Registry("POOLING")
POOLING_REGISTRY.__doc__ = """
2-D pooling layers by class name, the name that `MODEL.STEM_POOL.NAME` takes.

Each is called as `layer(kernel_size, stride, padding, ceil_mode=..., gradient=...)` and gives a
module that maps (N, C, H, W) to (N, C, H', W'). A layer whose gradient leaves no choice ignores
`gradient`. One with a temperature also takes `beta`, `learn_beta` and `num_channels`, which are
given only where they differ from 1.0 and "no".
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
    beta: float = 1.0,
    learn_beta: str = "no",
    num_channels: int | None = None,
) -> nn.Module:
    """Build the pooling layer that is registered as `name`.

    Args:
        name: a key of `POOLING_REGISTRY`, such as "SoftPool2d" or "MaxPool2d".
        kernel_size, stride, padding, ceil_mode: as in `torch.nn.MaxPool2d`.
        gradient: "paper" or "exact", see :func:`softpool_det.ops.soft_pool2d`.
        beta, learn_beta: the temperature and whether it is learned ("no", "one" or "channel"), see
            :class:`softpool_det.ops.SoftPool2d`.
        num_channels: of the input; needed for `learn_beta` "channel" only.

    Raises:
        KeyError: no pooling has that name.
        ValueError: a temperature is asked of a pooling that has none, or one that cannot be.
    """
    if name not in POOLING_REGISTRY:
        known = ", ".join(sorted(key for key, _ in POOLING_REGISTRY))
        raise KeyError(
            f"no pooling is registered as {name!r}; there are: {known}. Import the module that "
            "registers yours (softpool_det.modeling.POOLING_REGISTRY.register) before the model "
            "is built."
        )
    layer = POOLING_REGISTRY.get(name)
    temperature: dict[str, Any] = {}
    if (beta, learn_beta) != (1.0, "no"):
        temperature = {"beta": beta, "learn_beta": learn_beta, "num_channels": num_channels}
        _check_takes(name, layer, temperature)
    return layer(
        kernel_size, stride, padding, ceil_mode=ceil_mode, gradient=gradient, **temperature
    )


def _check_takes(name: str, layer: Any, temperature: dict[str, Any]) -> None:
    """Refuse a temperature rather than ignore it: unlike `gradient`, it changes the output."""
    parameters = inspect.signature(layer).parameters.values()
    taken = {parameter.name for parameter in parameters}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if not takes_all and not temperature.keys() <= taken:
        raise ValueError(
            f"{name} has no temperature: beta must be 1.0 and learn_beta 'no', got "
            f"{temperature['beta']!r} and {temperature['learn_beta']!r}"
        )
