"""Which tensors have tangents, and where a custom jvp would lose them."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

try:  # private: another torch may have moved them
    from torch._C._functorch import (
        TransformType,
        get_interpreter_stack,
        get_unwrapped,
        maybe_get_level,
    )
    from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
except ImportError:
    get_interpreter_stack = None  # type: ignore[assignment]


def has_tangent(value: object) -> bool:
    return isinstance(value, torch.Tensor) and forward_ad.unpack_dual(value).tangent is not None


def in_nested_forward_mode(*operands: object) -> bool:
    """There a custom jvp loses the outer tangents, without a word from PyTorch."""
    if get_interpreter_stack is None:  # any forward mode, to be on the safe side
        return any(has_tangent(operand) for operand in operands)
    levels = get_interpreter_stack()
    return levels is not None and sum(level.key() == TransformType.Jvp for level in levels) > 1


def is_differentiated(tensor: torch.Tensor) -> bool:
    """Whether any level of torch.func, or autograd around them, takes a derivative for `tensor`."""
    levels = [] if get_interpreter_stack is None else get_interpreter_stack() or []
    if not levels:
        return has_tangent(tensor) or (tensor.requires_grad and torch.is_grad_enabled())
    level = levels[-1]
    # vmap has no rule for unpack_dual(), and no derivatives either.
    if level.key() != TransformType.Vmap and (tensor.requires_grad or has_tangent(tensor)):
        return True
    if maybe_get_level(tensor) == level.level():
        tensor = get_unwrapped(tensor)
    with temporarily_pop_interpreter_stack():
        return is_differentiated(tensor)
