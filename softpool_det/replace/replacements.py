"""What was replaced, to be printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from softpool_det.layers import changed_options
from softpool_det.ops.temperatures import single_beta
from softpool_det.replace.windows import windowed_base

# Settings and what they are where nobody names them.
_SETTINGS = {
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "count_include_pad": True,
    "gradient": "paper",
    "beta": 1.0,
    "learn_beta": "no",
}


class Replaced(NamedTuple):
    """A pooling that was replaced."""

    name: str  # where its replacement is, as in `model.get_submodule`
    before: str
    after: str


class Left(NamedTuple):
    """A pooling that was left as it is."""

    name: str
    pooling: str
    reason: str


@dataclass(frozen=True)
class PoolingReplacements:
    """The result of :func:`softpool_det.replace_pooling`: print it to see the table.

    Args:
        replaced: the replaced poolings in the model's order.
        left: poolings that were meant, or may be, and left alone.
    """

    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...] = ()

    def __len__(self) -> int:
        """Return the number of replaced poolings."""
        return len(self.replaced)

    def __str__(self) -> str:
        # Here, so that the operator can be imported where there is nothing but torch.
        from tabulate import tabulate

        parts = []
        for rows, headers in (
            (self.replaced, ("replaced", "before", "after")),
            (self.left, ("left alone", "pooling", "because")),
        ):
            if rows:
                parts.append(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
        return "\n\n".join(parts) or "nothing replaced"


def describe(pool: nn.Module, function: str | None = None) -> str:
    """Write a pooling as code, without defaults; `function` is its functional name."""
    if windowed_base(pool) is None:
        return str(pool)
    settings = [str(pool.kernel_size), f"stride={pool.stride}"]
    for name, default in _SETTINGS.items():
        value = single_beta(pool) if name == "beta" else getattr(pool, name, default)
        if value != default:
            settings.append(f"{name}={value!r}")
    settings += [
        f"{name}={value!r}"
        for name, value in changed_options(pool).items()
        if name not in _SETTINGS
    ]
    return f"{function or type(pool).__name__}({', '.join(settings)})"
