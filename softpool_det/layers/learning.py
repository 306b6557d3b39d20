"""Numbers that poolings learn, one for all channels or one for each."""

from __future__ import annotations

import torch
from torch import nn

from softpool_det.ops.modules import LEARN_BETA as LEARN


def learned(option: str, learn: str, start: float, num_channels: int | None) -> nn.Parameter | None:
    """Create a parameter (1,) or (num_channels,) that starts at `start`, or None for "no".

    Raises:
        ValueError: `learn`, the option's value, is another word, or `num_channels` is missing.
    """
    if learn not in LEARN:
        names = ", ".join(f'"{name}"' for name in LEARN)
        raise ValueError(f"{option} must be one of {names}, got {learn!r}")
    if learn == "no":
        return None
    count = 1
    if learn == "channel":
        count = checked_channels(num_channels, f'for {option}="channel"')
    return nn.Parameter(torch.full((count,), float(start)))


def number(name: str, value: object) -> float:
    """Refuse what cannot be compared with a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return value


def whole_number(name: str, value: object) -> int:
    """Return `value` if it is an int; else raise TypeError with the argument's `name`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return value


def checked_channels(num_channels: int | None, why: str = "") -> int:
    """Return `num_channels` if it is an int from 1; else raise ValueError."""
    if not isinstance(num_channels, int) or isinstance(num_channels, bool) or num_channels < 1:
        raise ValueError(
            f"num_channels must be the number of channels of the input {why}".rstrip()
            + f", got {num_channels!r}"
        )
    return num_channels


def pooling_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what the poolings of a model learn, by name; stock checkpoints lack it.

    This package's poolings are known by their `undecayed`.
    """
    return {
        f"{name}.{key}" if name else key: parameter
        for name, module in model.named_modules()
        if hasattr(module, "undecayed")
        for key, parameter in module.named_parameters()
    }


def weight_decay_overrides(model: nn.Module) -> dict[str, dict[str, float]]:
    """Weight decay 0 where it would hurt, as `get_default_optimizer_params` takes it.

    It would pull a temperature to 1 and an exponent to 1.7, whatever helps. Detectron2 goes by the
    last part of a name ("alpha"), in whatever module that is.
    """
    names = {
        name
        for module in model.modules()
        for name in getattr(module, "undecayed", ())
        if getattr(module, name, None) is not None
    }
    return {name: {"weight_decay": 0.0} for name in sorted(names)}
