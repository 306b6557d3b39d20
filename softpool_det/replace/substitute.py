"""The layer that takes a pooling's place."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

from torch import nn

from softpool_det.layers import build_pooling, options_of, pooling_class, pooling_name
from softpool_det.ops._arguments import Window, output_sizes
from softpool_det.ops.temperatures import single_beta
from softpool_det.replace.global_pool import GlobalSoftPool
from softpool_det.replace.replacements import describe
from softpool_det.replace.windows import (
    adaptive_base,
    why_not,
    window_of,
    windowed_base,
)

_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_OF_SOFT_POOL = ("gradient", "beta", "learn_beta", "num_channels")
# Changes that leave what was learned as it was.
_NEUTRAL = {*_SETTINGS, "gradient", "generator"}


def check_arguments(pool: str, changes: dict[str, Any]) -> str:
    """Check the arguments and return the pooling's name in `softpool_det.layers.POOLINGS`.

    Raises:
        ValueError: no pooling has that name.
        TypeError: the pooling does not take a keyword.
    """
    try:
        kind = pooling_name(pool)
    except KeyError as error:
        raise ValueError(f"pool must name a pooling: {error.args[0]}") from None
    options = options_of(pooling_class(kind, 2))
    known = dict.fromkeys((*_SETTINGS, *options, "num_channels"))
    for name in changes:
        if name not in known:
            raise TypeError(f"{kind} has no argument {name!r}; it has {', '.join(known)}")
    return kind


def make_substitute(name: str, old: nn.Module, kind: str, changes: dict[str, Any]) -> nn.Module:
    """Build a pooling of `kind` with the settings of `old` except for `changes`.

    Returns:
        `old` itself where it is such a pooling already.

    Raises:
        ValueError: none has the same output sizes.
    """
    reason = why_not(old)
    if reason is not None:
        raise ValueError(f"cannot replace {name}: {reason}")
    adaptive = adaptive_base(old)
    if adaptive is not None:
        return _global(name, old, adaptive[1], kind, changes)
    base = windowed_base(old)
    assert base is not None
    dims = base[1]
    settings = {key: getattr(old, key) for key in _SETTINGS if hasattr(old, key)}
    try:
        layer = pooling_class(kind, dims)
    except KeyError as error:
        raise ValueError(f"cannot replace {name}: {error.args[0]}") from error
    own = _own(old) if isinstance(old, layer) else {}
    new = _built(name, partial(build_pooling, kind, dims), {**settings, **own, **changes})
    _check_sizes(name, old, new, dims)
    same_window = window_of(old, dims) == window_of(new, dims)
    return _old_or_new(old, new, same_window, changes)


def _built(name: str, layer: Any, settings: dict[str, Any]) -> nn.Module:
    try:
        return layer(**settings)
    except (TypeError, ValueError) as error:
        hint = ""
        if "num_channels" in str(error) and settings.get("num_channels") is None:
            hint = "; where poolings have different numbers of channels, call once for each number"
        raise type(error)(f"cannot replace {name}: {error}{hint}") from error


def _own(pool: Any) -> dict[str, Any]:
    """Return a pooling's arguments except for the window's."""
    if hasattr(pool, "learn_beta"):
        channels = sum(parameter.numel() for parameter in pool.parameters())
        return {
            "gradient": pool.gradient,
            "beta": single_beta(pool),
            "learn_beta": pool.learn_beta,
            "num_channels": channels if pool.learn_beta == "channel" else None,
        }
    return {n: getattr(pool, n) for n in options_of(type(pool)) if hasattr(pool, n)}


def _old_or_new(
    old: nn.Module, new: nn.Module, same_window: bool, changes: dict[str, Any]
) -> nn.Module:
    """`old` where `new` equals it; else `new`, with what `old` learned unless that changes."""
    if not isinstance(old, type(new)):
        return new
    before, after = _own(old), _own(new)
    if same_window and before == after:
        return old
    state = old.state_dict()
    same_shapes = all(value.shape == state[key].shape for key, value in new.state_dict().items())
    kept = all(after.get(key) == value for key, value in before.items() if key not in _NEUTRAL)
    if kept and same_shapes and not changes.keys() & {"beta"}:
        new.load_state_dict(state)
    return new


def _global(name: str, old: nn.Module, dims: int, kind: str, changes: dict[str, Any]) -> nn.Module:
    size = old.output_size
    sizes = tuple(size) if isinstance(size, (list, tuple)) else (size,)
    if set(sizes) != {1}:
        raise ValueError(
            f"cannot replace {name}: {old} has windows of several sizes for most inputs; only "
            "output size 1 can be replaced"
        )
    if kind != "SoftPool" or set(changes) - set(_OF_SOFT_POOL):
        raise ValueError(
            f"cannot replace {name}: {old} can only become SoftPool over the whole input, "
            f"which takes no argument but {', '.join(_OF_SOFT_POOL)}"
        )
    softness = _own(old) if isinstance(old, GlobalSoftPool) else {}
    new = _built(name, GlobalSoftPool, {"dims": dims, **softness, **changes})
    return _old_or_new(old, new, True, changes)


def _check_sizes(name: str, old: nn.Module, new: nn.Module, dims: int) -> None:
    try:
        difference = _first_difference(old, new, dims)
    except (TypeError, ValueError) as error:
        raise type(error)(f"cannot replace {name}: {error}") from error
    if difference is None:
        return
    size, expected, actual = difference
    raise ValueError(
        f"cannot replace {name}: for inputs of size {size}, {describe(old)} gives {expected} and "
        f"{describe(new)} gives {actual or 'nothing'}; sizes must stay{_hint(old, new, dims)}"
    )


def _hint(old: nn.Module, new: Any, dims: int) -> str:
    other = copy(new)
    other.ceil_mode = not new.ceil_mode
    keeps = _first_difference(old, other, dims) is None
    return f"; ceil_mode={other.ceil_mode} keeps them" if keeps else ""


def _first_difference(
    old: nn.Module, new: nn.Module, dims: int
) -> tuple[int, list[int], list[int] | None] | None:
    """Find an input size for which output sizes differ, and both; None if an input is too small."""
    before, after = window_of(old, dims), window_of(new, dims)
    strides = (*before[1], *after[1])
    # From the windows' extent on, sizes are linear but for remainders modulo the strides.
    largest = max(_extent(before), _extent(after)) + 2 * max(strides) * min(strides)
    for size in range(1, largest + 1):
        expected = _sizes(size, before)
        actual = _sizes(size, after)
        if expected is not None and actual != expected:
            return size, expected, actual
    return None


def _extent(window: Window) -> int:
    return max((k - 1) * d + 1 for k, d in zip(window[0], window[3], strict=True))


def _sizes(size: int, window: Window) -> list[int] | None:
    try:
        return output_sizes([size] * len(window[0]), window)
    except ValueError:
        return None
