"""Poolings of a stem by name: those of `softpool_det.layers`, and those that users register."""

from __future__ import annotations

import inspect
from typing import Any

from fvcore.common.registry import Registry
from torch import nn

from softpool_det import layers

POOLING_REGISTRY = Registry("POOLING")
POOLING_REGISTRY.__doc__ = """
2-D pooling layers of one's own by class name, beside those of `softpool_det.layers`; both can be
the `MODEL.STEM_POOL.NAME`.

Each is called as `layer(kernel_size, stride, padding, ceil_mode=..., **options)` and gives a module
that maps (N, C, H, W) to (N, C, H', W'). It also gets `num_channels` where it takes that, and
`gradient`, which one with a single gradient may lack.
"""


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
    **options: Any,
) -> nn.Module:
    """Build the 2-D pooling layer that is called `name`.

    Args:
        name: of `softpool_det.layers` ("SoftPool2d", "lip", ...) or of `POOLING_REGISTRY`.
        kernel_size, stride, padding, ceil_mode: as in `torch.nn.MaxPool2d`.
        gradient, beta, learn_beta: SoftPool's, see :class:`softpool_det.ops.SoftPool2d`. Others
            ignore `gradient`, for it does not change their outputs.
        num_channels: of the input; ignored where nothing is learned by channel.
        options: the pooling's own.

    Raises:
        KeyError: no pooling has that name.
        TypeError: the pooling has no such option.
        ValueError: a temperature is asked of a pooling that has none, or a value cannot be.
    """
    if name not in POOLING_REGISTRY:
        known = set(layers.options_of(_layer(name)))
        options |= _softness(name, known, gradient, beta, learn_beta)
        window = (kernel_size, stride, padding, 1, ceil_mode)
        return layers.build_pooling(name, 2, *window, num_channels=num_channels, **options)
    layer: Any = POOLING_REGISTRY.get(name)
    parameters = inspect.signature(layer).parameters
    known = set(parameters)
    # Those of this package's style take the window's arguments so, and no others.
    own_style = isinstance(layer, type) and issubclass(layer, layers.WindowPool)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_all and not own_style:
        known |= {"gradient", "beta", "learn_beta"}
    options |= _softness(name, known, gradient, beta, learn_beta)
    if "beta" in options or "num_channels" in parameters:
        options["num_channels"] = num_channels
    return layer(kernel_size, stride, padding, ceil_mode=ceil_mode, **options)


def _softness(
    name: str, known: set[str], gradient: str, beta: float, learn_beta: str
) -> dict[str, Any]:
    """SoftPool's arguments for a pooling with the arguments `known`: see `build_pooling`."""
    taken: dict[str, Any] = {"gradient": gradient} if "gradient" in known else {}
    if (beta, learn_beta) == (1.0, "no"):
        return taken
    # Refused rather than ignored: unlike the gradient, it changes the output.
    if not {"beta", "learn_beta"} <= known:
        raise ValueError(
            f"{name} has no temperature: beta must be 1.0 and learn_beta 'no', got {beta!r} and "
            f"{learn_beta!r}"
        )
    return {**taken, "beta": beta, "learn_beta": learn_beta}


def _layer(name: str) -> type[nn.Module]:
    try:
        return layers.pooling_class(name, 2)
    except KeyError as error:
        own = ", ".join(sorted(key for key, _ in POOLING_REGISTRY)) or "nothing yet"
        raise KeyError(
            f"{error.args[0]}. softpool_det.modeling.POOLING_REGISTRY has {own}: import the "
            "module that registers yours before the model is built."
        ) from None
