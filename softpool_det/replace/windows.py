"""Which modules are poolings, and what windows they have."""

from __future__ import annotations

from typing import Any

from torch import nn

from softpool_det.layers import WindowPool
from softpool_det.ops import SoftPool1d, SoftPool2d, SoftPool3d
from softpool_det.ops._arguments import Window, make_window
from softpool_det.replace.global_pool import GlobalSoftPool

SOFT_POOLS = {1: SoftPool1d, 2: SoftPool2d, 3: SoftPool3d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE_POOLS = {
    1: (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    3: (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}


def windowed_base(pool: nn.Module) -> tuple[type[nn.Module], int] | None:
    """Return the class above that `pool` is an instance of, with its number of dimensions."""
    for classes in (SOFT_POOLS, MAX_POOLS, AVG_POOLS):
        for dims, base in classes.items():
            if isinstance(pool, base):
                return base, dims
    return (WindowPool, pool.dims) if isinstance(pool, WindowPool) else None


def adaptive_base(pool: nn.Module) -> tuple[type[nn.Module], int] | None:
    """As `windowed_base`, for the poolings whose windows depend on the input."""
    if isinstance(pool, GlobalSoftPool):
        return GlobalSoftPool, pool.dims
    for dims, classes in ADAPTIVE_POOLS.items():
        for base in classes:
            if isinstance(pool, base):
                return base, dims
    return None


def is_pooling(module: nn.Module) -> bool:
    """Whether a module is a pooling with windows, or an adaptive one."""
    return windowed_base(module) is not None or adaptive_base(module) is not None


def window_of(pool: Any, dims: int) -> Window:
    """Kernel size, stride, padding and dilation of a pooling with a window, and its ceil_mode."""
    # Average pooling has no dilation.
    dilation = getattr(pool, "dilation", 1)
    return make_window(
        dims, pool.kernel_size, pool.stride, pool.padding, dilation, bool(pool.ceil_mode)
    )


def has_window_of_one(pool: nn.Module) -> bool:
    """Whether `pool` only leaves elements out, as the last level of many FPNs does."""
    base = windowed_base(pool)
    return base is not None and set(window_of(pool, base[1])[0]) == {1}


def why_not(pool: nn.Module) -> str | None:
    """Why SoftPool cannot stand in for `pool`, or None."""
    base = windowed_base(pool) or adaptive_base(pool)
    assert base is not None
    if type(pool).forward is not base[0].forward:
        return f"{type(pool).__name__} is a {base[0].__name__} with a forward of its own"
    if "forward" in vars(pool):
        return "its forward was replaced on the object"
    if getattr(pool, "return_indices", False):
        return (
            "return_indices=True: its positions are used (by unpooling), other poolings have none"
        )
    if getattr(pool, "divisor_override", None) is not None:
        return f"divisor_override={pool.divisor_override}: its result is not an average"
    return None
