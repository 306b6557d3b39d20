"""SoftPool (Stergiou, Poppe, Kalliatakis: Refining activation downsampling with SoftPool, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd.function import once_differentiable

from ._arguments import check_gradient, check_input, check_windows, output_size, pair
from ._library import has_kernel
from ._reference import soft_pool2d_reference


class _SoftPool2d(torch.autograd.Function):
    """The compiled operator; backward computes the weights anew from the input alone."""

    @staticmethod
    def forward(input, kernel_size, stride, padding, ceil_mode, exact):
        return torch.ops.softpool_det.soft_pool2d(input, kernel_size, stride, padding, ceil_mode)

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, *ctx.arguments = inputs
        ctx.save_for_backward(input)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = torch.ops.softpool_det.soft_pool2d_backward(grad_output, input, *ctx.arguments)
        return grad_input, None, None, None, None, None


def soft_pool2d(
    input: torch.Tensor,
    kernel_size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    *,
    gradient: str = "paper",
) -> torch.Tensor:
    """Sum of each window weighted by the softmax over the window (Eq. (1)-(2)).

    Padding never enters a window. -inf has weight 0, a window of nothing else gives -inf, one with
    +inf gives +inf and one with NaN gives NaN. Arithmetic is in float32, or float64 for float64.

    Args:
        input: (N, C, H, W) or (C, H, W); float64, float32, bfloat16 or float16; contiguous or
            channels_last (other strides are copied first). N may be 0.
        kernel_size: size of the window, an int or (vertical, horizontal).
        stride: distance between windows; None or empty for kernel_size.
        padding: on each side, at most half of kernel_size.
        ceil_mode: let the last window reach over the edge instead of leaving the rest out.
        gradient: "paper" for the output's gradient times the weight (section 3.2), "exact" for the
            derivative, the output's gradient times weight * (1 + input - output).

    Returns:
        (N, C, OH, OW) or (C, OH, OW), of max_pool2d's size, in input's dtype and memory format.

    Raises:
        TypeError: input's dtype, or an argument's type, is none of those above.
        ValueError: a shape or a value outside what is said above, or no window fits.
    """
    kernel_size = pair("kernel_size", kernel_size)
    no_stride = stride is None or (isinstance(stride, Sequence) and not stride)
    stride = kernel_size if no_stride else pair("stride", stride)  # type: ignore[arg-type]
    padding = pair("padding", padding)
    check_input(input)
    check_windows(kernel_size, stride, padding)
    for axis in (0, 1):
        output_size(
            input.shape[axis - 2], kernel_size[axis], stride[axis], padding[axis], ceil_mode
        )
    check_gradient(gradient)

    batch = input if input.dim() == 4 else input.unsqueeze(0)
    if has_kernel(input.device):
        exact = gradient == "exact"
        output = _SoftPool2d.apply(batch, kernel_size, stride, padding, ceil_mode, exact)
    else:
        output = soft_pool2d_reference(
            batch, kernel_size, stride, padding, ceil_mode, gradient=gradient
        )
    return output if input.dim() == 4 else output.squeeze(0)


class SoftPool2d(torch.nn.Module):
    """`soft_pool2d` as a module, with the arguments of `torch.nn.MaxPool2d` that apply."""

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        *,
        gradient: str = "paper",
    ) -> None:
        super().__init__()
        check_gradient(gradient)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.gradient = gradient

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return soft_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            gradient=self.gradient,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}, gradient={self.gradient!r}"
        )
