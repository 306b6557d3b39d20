"""SoftPool (Stergiou, Poppe, Kalliatakis: Refining activation downsampling with SoftPool, 2021).

Sections and equations that are named here are that paper's; the temperature is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._arguments import (
    Window,
    check_affine,
    check_fits,
    check_gradient,
    check_input,
    make_window,
    split_beta,
)
from ._forward_mode import in_nested_forward_mode, is_differentiated
from ._functions import SoftPoolFunction
from ._library import COMPILED_DEVICES, has_kernel
from ._onnx import soft_pool_onnx
from ._reference import soft_pool_reference
from ._registration import register_operators

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
    beta: float | torch.Tensor = 1.0,
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
    return _soft_pool(input.unsqueeze(-2), flat, gradient, beta).squeeze(-2)


def soft_pool2d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
    beta: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """Sum of each window, weighted by the softmax of beta * input over the window (Eq. (1)-(2)).

    The default gradient is not the derivative, so `torch.autograd.gradcheck` fails: the paper takes
    the weights for constants (section 3.2). `gradient="exact"` is the derivative.

    With the temperature `beta` 0 it is average pooling (of the elements inside the input, as with
    `count_include_pad=False`), with infinity max pooling, whose ties share the gradient.

    Padding never enters a window. -inf has weight 0, a window of nothing else (or of nothing but
    padding) gives -inf, one with +inf gives +inf and one with NaN gives NaN.

    The output has the dtype of input; arithmetic is in float32, or float64 for float64. So
    autocast leaves the operator alone: it pools whatever dtype the layer before it hands on. On the
    CPU, overlapping windows are slower where |beta * input| is above 44.

    `torch.onnx.export(..., dynamo=True)` of a module that pools makes standard ONNX operators of
    it, for any N, H and W; ONNX Runtime gives the values above for infinities and NaN too, but
    holds the elements of all windows in memory. An `ExportedProgram` keeps the operator, which the
    ONNX exporter does not know: give it the module.

    Both gradients have derivatives of any order, by backward and forward mode; those of "paper" are
    the derivatives of its formula. Higher ones and forward mode are in plain PyTorch, and need
    memory for the elements of all windows. With "paper", a `beta` that gets a gradient cannot be in
    two nested forward modes; and of torch.func's transforms inside torch.compile, mixed second
    derivatives of input and `beta` come out as 0.

    Args:
        input: (N, C, H, W) or (C, H, W); float64, float32, bfloat16 or float16; contiguous or
            channels_last (other strides are copied first). N may be 0.
        kernel_size: size of the window, an int or (vertical, horizontal).
        stride: distance between windows; None or empty for kernel_size.
        padding: on each side, at most half of kernel_size.
        dilation: distance between the elements of a window.
        ceil_mode: let the last window reach over the edge instead of leaving the rest out.
        gradient: "paper" for the output's gradient times the weight (section 3.2), "exact" for the
            derivative, the output's gradient times weight * (1 + beta * (input - output)).
        beta: the temperature, a number of at least 0; or a floating-point tensor of such numbers on
            input's device, () or (1,) for all channels or (C,) for each. A tensor may require grad:
            its gradient is the derivative, whatever `gradient` says. NaN in it gives NaN.

    Returns:
        (N, C, OH, OW) or (C, OH, OW), of max_pool2d's size, in input's dtype and memory format.

    Raises:
        TypeError: input's dtype, or an argument's type, is not one of those above.
        ValueError: a shape or a value outside what is said above, or no window fits.
        RuntimeError: an element of a tensor `beta` is negative; checked on the CPU only.
        NotImplementedError: nested forward modes, see above.

    Example:
        >>> input = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
        >>> [round(soft_pool2d(input, 2, beta=beta).item(), 3) for beta in (0, 1, 4, torch.inf)]
        [1.5, 2.493, 2.981, 3.0]
    """
    window = make_window(2, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 2)
    return _soft_pool(input, window, gradient, beta)


def soft_pool3d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
    beta: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """`soft_pool2d` for (N, C, D, H, W) or (C, D, H, W), contiguous or channels_last_3d.

    Numbers may be given as an int or as (depth, vertical, horizontal).
    """
    window = make_window(3, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 3)
    return _soft_pool(input, window, gradient, beta)


def affine_relu_soft_pool2d(
    input: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
    beta: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """soft_pool2d(relu(input * scale + bias)) in one pass, as after a frozen batch norm.

    Nothing is rounded to input's dtype on the way. Where input * scale + bias <= 0 the gradient is
    0; NaN stays NaN. Derivatives and autocast are as in `soft_pool2d`, for input and beta.

    Args:
        input: (N, C, H, W) or (C, H, W), as in `soft_pool2d`.
        scale, bias: (C,), on input's device, without gradient; float32, or float64 for float64.
        kernel_size, stride, padding, dilation, ceil_mode, gradient, beta: as in `soft_pool2d`.

    Returns:
        (N, C, OH, OW) or (C, OH, OW), in input's dtype and memory format.

    Raises:
        TypeError: a dtype, or an argument's type, is not one of those above.
        ValueError: a shape, value or device outside what is said above, no window fits, or scale
            or bias requires grad.
    """
    window = make_window(2, kernel_size, stride, padding, dilation, ceil_mode)
    check_input(input, 2)
    check_affine(input, scale, bias)
    return _soft_pool(input, window, gradient, beta, scale, bias)


def _soft_pool(
    input: torch.Tensor,
    window: Window,
    gradient: str,
    beta: float | torch.Tensor,
    scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add the batch dimension where it is missing, and choose who computes."""
    check_gradient(gradient)
    dims = len(window[0])
    check_fits(input, window)
    exact = gradient == "exact"
    batch = input if input.dim() == dims + 2 else input.unsqueeze(0)
    number, betas = split_beta(beta, batch)
    # Compiler and tracer know operators, not autograd.Functions with forward mode and vmap.
    graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    nested = not graph and in_nested_forward_mode(batch, beta)
    if not graph and not nested:
        output = SoftPoolFunction.apply(batch, *window, exact, number, betas, scale, bias)
    elif graph and has_kernel(input.device) and not _is_plain_pytorch_needed():
        output = torch.ops.softpool_det.soft_pool(batch, *window, exact, number, betas, scale, bias)
    else:
        if nested and not exact and isinstance(beta, torch.Tensor) and is_differentiated(beta):
            raise NotImplementedError(
                'nested forward mode has no derivatives for beta with gradient="paper": use '
                'gradient="exact", reverse mode (torch.func.jacrev) for one of the two, or '
                "beta.detach()"
            )
        plain = soft_pool_onnx if torch.onnx.is_in_onnx_export() else soft_pool_reference
        output = plain(batch, *window, exact, number, betas, scale, bias)
    return output if input.dim() == dims + 2 else output.squeeze(0)


def _is_plain_pytorch_needed() -> bool:
    """Whether a graph is made for something that does not know the operators."""
    return torch._C._are_functorch_transforms_active() or torch.onnx.is_in_onnx_export()
