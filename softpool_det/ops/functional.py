"""SoftPool (Stergiou, Poppe, Kalliatakis: Refining activation downsampling with SoftPool, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd import forward_ad

from ._arguments import (
    Window,
    check_affine,
    check_fits,
    check_gradient,
    check_input,
    make_window,
)
from ._functions import SoftPoolFunction, forward_reference
from ._library import COMPILED_DEVICES, has_kernel
from ._registration import register_operators

try:  # private: another torch may have moved them
    from torch._C._functorch import TransformType, get_interpreter_stack
except ImportError:
    get_interpreter_stack = None  # type: ignore[assignment]

if COMPILED_DEVICES:
    register_operators()


def soft_pool1d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """`soft_pool2d` for (N, C, L) or (C, L), with the arguments of `max_pool1d` that apply.

    Numbers may be given as an int or a sequence of one. (N, C, L) that is a transposed (N, L, C)
    gives an output of that layout.
    """
    window = make_window(1, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 1)
    check_fits(input, window)
    kernel, steps, pads, gaps, _ = window
    flat = ([1, *kernel], [1, *steps], [0, *pads], [1, *gaps], ceil_mode)
    return _soft_pool(input.unsqueeze(-2), flat, gradient).squeeze(-2)


def soft_pool2d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """Sum of each window weighted by the softmax over the window (Eq. (1)-(2)).

    Padding never enters a window. -inf has weight 0, a window of nothing else (or of nothing but
    padding) gives -inf, one with +inf gives +inf and one with NaN gives NaN.

    The output has the dtype of input; arithmetic is in float32, or float64 for float64. So
    autocast leaves the operator alone: it pools whatever dtype the layer before it hands on.

    `torch.onnx.export(..., dynamo=True)` of a module that pools makes standard ONNX operators of
    it, for any N, H and W; ONNX Runtime gives the values above for infinities and NaN too, but
    holds the elements of all windows in memory. An `ExportedProgram` keeps the operator, which the
    ONNX exporter does not know: give it the module.

    Both gradients have derivatives of any order, by backward and forward mode; those of "paper" are
    the derivatives of its formula. Higher ones and forward mode are in plain PyTorch, and need
    memory for the elements of all windows.

    Args:
        input: (N, C, H, W) or (C, H, W); float64, float32, bfloat16 or float16; contiguous or
            channels_last (other strides are copied first). N may be 0.
        kernel_size: size of the window, an int or (vertical, horizontal).
        stride: distance between windows; None or empty for kernel_size.
        padding: on each side, at most half of kernel_size.
        dilation: distance between the elements of a window.
        ceil_mode: let the last window reach over the edge instead of leaving the rest out.
        gradient: "paper" for the output's gradient times the weight (section 3.2), "exact" for the
            derivative, the output's gradient times weight * (1 + input - output).

    Returns:
        (N, C, OH, OW) or (C, OH, OW), of max_pool2d's size, in input's dtype and memory format.

    Raises:
        TypeError: input's dtype, or an argument's type, is none of those above.
        ValueError: a shape or a value outside what is said above, or no window fits.
    """
    window = make_window(2, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 2)
    return _soft_pool(input, window, gradient)


def soft_pool3d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """`soft_pool2d` for (N, C, D, H, W) or (C, D, H, W), contiguous or channels_last_3d.

    Numbers may be given as an int or as (depth, vertical, horizontal).
    """
    window = make_window(3, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 3)
    return _soft_pool(input, window, gradient)


def affine_relu_soft_pool2d(
    input: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """soft_pool2d(relu(input * scale + shift)) in one pass, as after a frozen batch norm.

    Nothing is rounded to input's dtype on the way. Where input * scale + shift <= 0 the gradient is
    0; NaN stays NaN. Derivatives and autocast are as in `soft_pool2d`, for input alone; vmap goes
    over input alone too.

    Args:
        input: (N, C, H, W) or (C, H, W), as in `soft_pool2d`.
        scale, shift: (C,), on input's device, without gradient; float32, or float64 for float64.
        kernel_size, stride, padding, dilation, ceil_mode, gradient: as in `soft_pool2d`.

    Returns:
        (N, C, OH, OW) or (C, OH, OW), in input's dtype and memory format.

    Raises:
        TypeError: a dtype, or an argument's type, is none of those above.
        ValueError: a shape, value or device outside what is said above, no window fits, or scale
            or shift requires grad.
    """
    window = make_window(2, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 2)
    check_affine(input, scale, shift)
    return _soft_pool(input, window, gradient, scale, shift)


def _soft_pool(
    input: torch.Tensor,
    window: Window,
    gradient: str,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add the batch dimension where it is missing, and choose who computes."""
    check_gradient(gradient)
    dims = len(window[0])
    check_fits(input, window)
    exact = gradient == "exact"
    batch = input if input.dim() == dims + 2 else input.unsqueeze(0)
    # Compiler and tracer know operators, not autograd.Functions with forward mode and vmap.
    graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not graph and not _in_nested_forward_mode(batch):
        output = SoftPoolFunction.apply(batch, scale, shift, window, exact)
    elif graph and has_kernel(input.device) and not _is_plain_pytorch_needed():
        output = _operator_output(batch, scale, shift, window, exact)
    else:
        # An ONNX graph has no gradient: take the shorter formula.
        exact = exact or torch.onnx.is_in_onnx_export()
        output = forward_reference(batch, scale, shift, window, exact)
    return output if input.dim() == dims + 2 else output.squeeze(0)


def _is_plain_pytorch_needed() -> bool:
    """Whether a graph is made for something that does not know the operators."""
    return torch._C._are_functorch_transforms_active() or torch.onnx.is_in_onnx_export()


def _in_nested_forward_mode(input: torch.Tensor) -> bool:
    """There a custom jvp loses the outer tangents, without a word from PyTorch."""
    if get_interpreter_stack is None:  # any forward mode, to be on the safe side
        return forward_ad.unpack_dual(input).tangent is not None
    levels = get_interpreter_stack()
    return levels is not None and sum(level.key() == TransformType.Jvp for level in levels) > 1


def _operator_output(
    input: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    window: Window,
    exact: bool,
) -> torch.Tensor:
    operators = torch.ops.softpool_det
    # A graph without gradients needs no operator that only Python defines. torch.jit.trace checks
    # its graph without them.
    exact = exact and (torch.is_grad_enabled() or torch.jit.is_tracing())
    if scale is None:
        soft_pool = operators.soft_pool_exact if exact else operators.soft_pool
        return soft_pool(input, *window)
    fused = operators.affine_relu_soft_pool_exact if exact else operators.affine_relu_soft_pool
    return fused(input, scale, shift, *window)
