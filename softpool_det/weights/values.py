"""The numbers in a file of weights: those that no model can compute with are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from softpool_det.weights.names import Tensors

# torch's, and those of Detectron (1).
_VARIANCE = re.compile(r"running_var$|_riv$")
_OVERFLOWS = {
    torch.float16: " (float16 ends at 65504: save it as float32)",
    torch.float64: " (float32, in which models compute, ends at 3.4e38)",
}
_REMEDY = "take an earlier checkpoint, or another file"


def as_tensors(values: Mapping[str, torch.Tensor | np.ndarray]) -> Tensors:
    """Take the tensors and numeric arrays among `values`, as tensors."""
    found = {}
    for key, value in values.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            found[key] = torch.as_tensor(value.astype(value.dtype.newbyteorder("="), copy=False))
        elif isinstance(value, torch.Tensor):
            found[key] = value
    return found


def check_values(tensors: Mapping[str, torch.Tensor], file: str | Path, prefix: str = "") -> None:
    """Refuse NaN, infinite numbers and negative variances.

    A variance of 0 is right: that of a channel which is always the same. Integers are not looked
    at. Numbers that float32, in which models compute, cannot hold are infinite.

    Args:
        tensors: under the names of a state dict.
        file: that they come from, for the error.
        prefix: of the names in that file, for the error.

    Raises:
        ValueError: one line: the file, the first parameter at fault, how many of its values are
            bad, how many other parameters are, and what to do.
    """
    faults = {key: fault for key, value in tensors.items() if (fault := _fault(key, value))}
    if faults:
        key = next(iter(faults))
        others = len(faults) - 1
        more = f"; {others} other parameter{'s' * (others > 1)}, too" if others else ""
        raise ValueError(f"{file}: {prefix}{key} {faults[key]}{more}; {_REMEDY}")


def _fault(key: str, value: torch.Tensor) -> str:
    if value.layout is not torch.strided or value.is_quantized:
        return "is sparse or quantized, not a plain tensor"
    # A few bytes can claim any shape, each value the same one in memory.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has the shape {tuple(value.shape)}, of which the file does not hold all values"
    if not value.is_floating_point() and not value.is_complex():
        return ""
    numbers = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    numbers = numbers.to(torch.float32)
    lowest = 0 if _VARIANCE.search(key) else -math.inf
    finite = numbers.isfinite()
    if (finite & (numbers >= lowest)).all():
        return ""
    counts = {
        "NaN": numbers.isnan(),
        "infinite": numbers.isinf(),
        "negative": finite & (numbers < lowest),
    }
    found = [f"{int(bad.sum())} {name}" for name, bad in counts.items() if bad.any()]
    noun = "values" if lowest else "variances"
    hint = _OVERFLOWS.get(value.dtype, "") if counts["infinite"].any() else ""
    return f"has {', '.join(found)} among its {value.numel()} {noun}{hint}"
