"""The temperature of a pooling, for reports."""

from __future__ import annotations

from typing import Any

import torch


def single_beta(pool: Any) -> float:
    """Return the temperature of a pooling: 1 if it has none, the mean if it learned several.

    That is rounded to six digits: the start comes back, which the parameter holds rounded.
    """
    beta = getattr(pool, "beta", 1.0)
    if not isinstance(beta, torch.Tensor):
        return float(beta)
    return float(f"{beta.detach().double().mean().item():.6g}")
