"""Poolings by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from softpool_det.layers import detail_preserving as dpp
from softpool_det.layers import lip, mixtures, random_choice
from softpool_det.layers import sums as summing
from softpool_det.layers._windows import WINDOW, WindowPool, options_of
from softpool_det.layers.blur import BlurPool2d
from softpool_det.ops import modules as soft

_ROOMS = {
    "SoftPool": soft,
    "MaxPool": nn,
    "AvgPool": nn,
    "SumPool": summing,
    "PowerAvgPool": summing,
    "LPPool": summing,
    "MixedPool": mixtures,
    "GatedPool": mixtures,
    "LiteDPPPool": dpp,
    "DPPPool": dpp,
    "LIPPool": lip,
    "StochasticPool": random_choice,
    "S3Pool": random_choice,
    "LiteS3DPPPool": random_choice,
    "EDSCWPool": mixtures,
    "AdaPool": mixtures,
}
_CLASSES: dict[tuple[str, int], type[nn.Module]] = {
    (name, dims): getattr(room, f"{name}{dims}d")
    for name, room in _ROOMS.items()
    for dims in (1, 2, 3)
}
_CLASSES["BlurPool", 2] = BlurPool2d

POOLINGS = (*_ROOMS, "BlurPool")
"""Names of all poolings; their classes have 1d, 2d and 3d behind them."""


def pooling_name(name: str) -> str:
    """Return the name in `POOLINGS`, of "LIPPool2d", "LIPPool", "lip", ...

    Raises:
        KeyError: no pooling is called so; the message lists the names.
    """
    key = _short(name)
    for known in POOLINGS:
        if _short(known) == key:
            return known
    raise KeyError(
        f"no pooling is called {name!r}; the names are {', '.join(POOLINGS)}, in any case and with "
        "or without Pool and 1d, 2d or 3d"
    )


def _short(name: object) -> str:
    return re.sub(r"[123]d$", "", str(name).lower().replace("_", "")).removesuffix("pool")


def pooling_class(name: str, dims: int) -> type[nn.Module]:
    """Return the class of a pooling for inputs of `dims` spatial dimensions, 1 to 3.

    Raises:
        KeyError: no pooling is called so, or it is not defined for so many dimensions.
    """
    known = pooling_name(name)
    if (known, dims) not in _CLASSES:
        raise KeyError(f"{known} is not defined in {dims} dimensions")
    return _CLASSES[known, dims]


def build_pooling(
    name: str,
    dims: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    num_channels: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build the pooling that is called `name`.

    Args:
        name: as in `pooling_class`.
        dims: number of spatial dimensions, 1 to 3.
        kernel_size, stride, padding, dilation, ceil_mode: as in `torch.nn.MaxPool2d`.
        num_channels: of the input, for those that have numbers by channel; others ignore it.
        options: the pooling's own, see its class.

    Raises:
        KeyError: as in `pooling_class`.
        TypeError: it has no such option; the message names those it has.
        ValueError: a value is outside its range.
    """
    layer: Any = pooling_class(name, dims)
    settings: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
    if "dilation" in inspect.signature(layer).parameters or issubclass(layer, WindowPool):
        settings["dilation"] = dilation
    elif dilation not in (1, (1,) * dims, [1] * dims):
        raise ValueError(f"{layer.__name__} has no dilation, got {dilation!r}")
    known = options_of(layer)
    for option in options:
        if option not in known:
            names = ", ".join(known) or "none"
            raise TypeError(f"{layer.__name__} has no option {option!r}; its options: {names}")
    if "num_channels" in known:
        settings["num_channels"] = num_channels
    return layer(kernel_size, stride, **settings, **options)


def changed_options(pool: nn.Module) -> dict[str, Any]:
    """Return a pooling's own options that differ from their defaults, except SoftPool's beta."""
    defaults = inspect.signature(type(pool)).parameters
    return {
        name: getattr(pool, name)
        for name in options_of(type(pool))
        if name not in (*WINDOW, "num_channels", "generator", "gradient", "beta", "learn_beta")
        and hasattr(pool, name)
        and getattr(pool, name) != defaults[name].default
    }
