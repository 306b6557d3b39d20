"""Argument checks and the output size, by the rules of `torch.nn.functional.max_pool1d/2d/3d`."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import torch

# kernel_size, stride, padding and dilation, one number for each dimension, and ceil_mode.
Window = tuple[list[int], list[int], list[int], list[int], bool]


class Settings(NamedTuple):
    """What follows the tensors (N, C, ...) in the operators' arguments: see csrc/schemas.h."""

    kernel_size: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    ceil_mode: bool = False
    exact: bool = False
    beta: float = 1.0
    betas: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode


FLOATING_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
GRADIENTS = ("paper", "exact")
_SHAPES = {1: "(C, L)", 2: "(C, H, W)", 3: "(C, D, H, W)"}
_NUMBERS = {1: "an int", 2: "an int or a pair of ints", 3: "an int or three ints"}


def make_window(
    dims: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    ceil_mode: bool,
) -> Window:
    """Check the arguments and return each as a list of `dims` numbers.

    Raises:
        TypeError: an argument is neither an int nor a sequence of one or `dims` ints.
        ValueError: a number is out of its range.
    """
    kernel = _numbers("kernel_size", kernel_size, dims)
    no_stride = stride is None or (isinstance(stride, Sequence) and not stride)
    steps = kernel if no_stride else _numbers("stride", stride, dims)
    padding = _numbers("padding", padding, dims)
    dilation = _numbers("dilation", dilation, dims)
    for name, values in (("kernel_size", kernel), ("stride", steps), ("dilation", dilation)):
        if min(values) < 1:
            raise ValueError(f"{name} must be positive, got {tuple(values)}")
    if any(not 0 <= p <= k // 2 for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(
            "padding must be at least 0 and at most half of kernel_size "
            f"{tuple(kernel)}, got {tuple(padding)}"
        )
    return kernel, steps, padding, dilation, ceil_mode


def _numbers(name: str, value: object, dims: int) -> list[int]:
    values: list = list(value) if isinstance(value, Sequence) else [value]
    if len(values) not in (1, dims) or not all(_is_int(item) for item in values):
        raise TypeError(f"{name} must be {_NUMBERS[dims]}, got {value!r}")
    return values * dims if len(values) == 1 else values


def _is_int(value: object) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def check_input(input: torch.Tensor, dims: int) -> None:
    if input.dtype not in FLOATING_TYPES:
        names = ", ".join(str(dtype) for dtype in FLOATING_TYPES)
        raise TypeError(f"input must have one of the dtypes {names}; got {input.dtype}")
    if input.dim() not in (dims + 1, dims + 2):
        shape = _SHAPES[dims]
        raise ValueError(
            f"input must have the shape {shape} or (N, {shape[1:]}, got {tuple(input.shape)}"
        )
    # Sizes that torch.jit traces are tensors; the operators check them anyway.
    if not torch.jit.is_tracing() and any(size == 0 for size in input.shape[-dims - 1 :]):
        raise ValueError(
            f"input must not be empty but for a batch of 0, got the shape {tuple(input.shape)}"
        )


def check_gradient(gradient: str) -> None:
    if gradient not in GRADIENTS:
        raise ValueError(f'gradient must be "paper" or "exact", got {gradient!r}')


def accumulation_type(input: torch.Tensor) -> torch.dtype:
    """Return the type that the operators compute in; also that of betas, scale and bias."""
    return torch.float64 if input.dtype == torch.float64 else torch.float32


def split_beta(
    beta: float | torch.Tensor, input: torch.Tensor
) -> tuple[float, torch.Tensor | None]:
    """`beta` and `betas` of the operators, for input (N, C, ...).

    Raises:
        TypeError: beta is neither a number nor a floating-point tensor.
        ValueError: it is a negative number or NaN, or a tensor of another shape or device.
    """
    if not isinstance(beta, torch.Tensor):
        return check_beta(beta), None
    if not beta.is_floating_point():
        raise TypeError(f"beta must be a number or a floating-point tensor, got {beta.dtype}")
    channels = input.shape[1]
    sized = torch.jit.is_tracing() or beta.numel() == 1 or beta.numel() == channels
    if beta.dim() > 1 or not sized:
        raise ValueError(
            f"beta must have the shape (), (1,) or ({channels},), one element for all channels of "
            f"input or for each; got {tuple(beta.shape)}"
        )
    if beta.device != input.device:
        raise ValueError(f"beta must be on input's device {input.device}, got {beta.device}")
    return 1.0, by_channel(beta, input)


def check_beta(beta: object) -> float:
    """Check beta and return it as a float."""
    if isinstance(beta, bool) or not isinstance(beta, (Real, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"beta must be a number or a floating-point tensor, got {beta!r}")
    number = float(beta)
    if not number >= 0:
        raise ValueError(f"beta must be at least 0 (infinity is allowed), got {beta!r}")
    return number


def by_channel(beta: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """One element for each channel of input (N, C, ...), in the type that is computed in.

    TorchScript compiles it, too.
    """
    return beta.to(accumulation_type(input)).reshape(-1).expand(input.shape[1])


def check_affine(input: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> None:
    dtype = accumulation_type(input)
    channels = input.shape[-3]
    for name, tensor in (("scale", scale), ("bias", bias)):
        if tensor.dtype != dtype:
            raise TypeError(
                f"{name} must be {dtype} for input of {input.dtype}, got {tensor.dtype}"
            )
        sized = torch.jit.is_tracing() or tensor.numel() == channels
        if tensor.dim() != 1 or not sized:
            raise ValueError(
                f"{name} must have the shape ({channels},), one element for each channel of input; "
                f"got {tuple(tensor.shape)}"
            )
        if tensor.device != input.device:
            raise ValueError(
                f"{name} must be on input's device {input.device}, got {tensor.device}"
            )
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name} requires grad, but only input gets a gradient here. Use {name}.detach() "
                "for a frozen one, or soft_pool2d(relu(input * scale + bias)) to learn it."
            )


def check_fits(input: torch.Tensor, window: Window) -> None:
    """Raise ValueError if not one window fits."""
    if not torch.jit.is_tracing():
        output_sizes(input.shape[-len(window[0]) :], window)


def output_sizes(sizes: Sequence[int], window: Window) -> list[int]:
    """Numbers of windows along the dimensions of `sizes` inputs.

    Raises:
        ValueError: not one window fits.
    """
    kernel_size, stride, padding, dilation, ceil_mode = window
    return [
        _output_size(size, k, s, p, d, ceil_mode)
        for size, k, s, p, d in zip(sizes, kernel_size, stride, padding, dilation, strict=True)
    ]


def _output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    extent = (kernel - 1) * dilation + 1
    if ceil_mode:
        # A last window that is not whole has to start inside the input or the padding before it. No
        # minimum of sizes: it would restrict those for which an exported program holds, and break
        # the graph of a compiled one.
        covered = size + padding + min(padding - extent + stride, 0)
        count = (covered + stride - 1) // stride
    else:
        count = (size + 2 * padding - extent) // stride + 1
    # A window may lie in the padding alone, but not of an input that has no elements.
    is_empty = isinstance(size, int) and size < 1
    if not torch.jit.is_tracing() and (is_empty or count < 1):
        raise ValueError(
            f"input of size {size} is too small for a window of {extent} with padding {padding}"
        )
    return count
