"""Temperatures of a model's poolings, in what is not the poolings' own business."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def learned_temperatures(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of poolings with `learn_beta` "one" or "channel", by name."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, module in model.named_modules()
        if getattr(module, "learn_beta", "no") != "no"
        for key, parameter in module.named_parameters(recurse=False)
    }


def temperature_overrides(model: nn.Module) -> dict[str, dict[str, float]]:
    """Weight decay 0 for learned temperatures, as `get_default_optimizer_params` takes it.

    Decay would pull all of them towards 1, whatever helps.
    """
    names = {name.rpartition(".")[2] for name in learned_temperatures(model)}
    return {name: {"weight_decay": 0.0} for name in sorted(names)}


def single_beta(pool: Any) -> float:
    """The temperature of a pooling, 1 where it has none; of a learned one the mean.

    That is rounded to six digits: the start comes back, which the parameter holds rounded.
    """
    beta = getattr(pool, "beta", 1.0)
    if not isinstance(beta, torch.Tensor):
        return float(beta)
    return float(f"{beta.detach().double().mean().item():.6g}")
