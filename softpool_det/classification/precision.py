"""Mixed precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How a forward runs.

    Args:
        device: a device type, "cuda" or "cpu".
        dtype: what autocast casts to; None for float32 throughout.
    """

    device: str
    dtype: torch.dtype | None = None

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None)

    def grad_scaler(self) -> torch.amp.GradScaler:
        # float16 alone has too few exponents for gradients as they are.
        return torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)
