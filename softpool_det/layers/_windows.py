"""What the layers of this room share: arguments, and sums, means and maxima over windows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from softpool_det.ops._arguments import (
    Window,
    accumulation_type,
    check_fits,
    check_input,
    make_window,
    output_sizes,
)
from softpool_det.ops.functional import soft_pool1d, soft_pool2d, soft_pool3d

WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
SOFT_POOLS = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}
CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class WindowPool(nn.Module):
    """A pooling with the window of `torch.nn.MaxPool1d`, `2d` or `3d`.

    A subclass sets `dims` and writes `pool`. Arithmetic is in float32, or float64 for float64.

    Raises:
        TypeError, ValueError: from the constructor for the window's arguments, from a call for an
            input of another shape or dtype, or too small for one window.
    """

    dims: ClassVar[int]
    # Learned numbers that weight decay would pull towards a value that means nothing.
    undecayed: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        make_window(self.dims, kernel_size, stride, padding, dilation, ceil_mode)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    @property
    def window(self) -> Window:
        """Kernel size, stride, padding and dilation as lists of `dims` numbers, and ceil_mode."""
        return make_window(
            self.dims, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        """Pool (N, C, ...) in float32 or float64."""
        raise NotImplementedError

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        check_input(input, self.dims)
        check_fits(input, self.window)
        batch = input if input.dim() == self.dims + 2 else input.unsqueeze(0)
        output = self.pool(_with_gradient_of_its_layout(batch).to(accumulation_type(batch)))
        output = output.to(input.dtype, memory_format=layout_of(batch))
        return output if input.dim() == self.dims + 2 else output.squeeze(0)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        text += f", dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        for name in options_of(type(self)):
            if name != "generator":
                text += f", {name}={getattr(self, name)!r}"
        return text


def options_of(layer: type[nn.Module]) -> list[str]:
    """Names of the arguments that a pooling has beside those of the window."""
    import inspect

    parameters = inspect.signature(layer).parameters
    if layer.__module__.startswith("torch.nn"):  # keyword or not, as torch has them
        return [name for name in parameters if name not in (*WINDOW, "return_indices")]
    return [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]


def layout_of(input: torch.Tensor) -> torch.memory_format:
    """channels_last where (N, C, ...) has that layout and no other."""
    last = _LAYOUTS.get(input.dim())
    if last is None or input.is_contiguous() or not input.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def _with_gradient_of_its_layout(batch: torch.Tensor) -> torch.Tensor:
    """Return the batch with a hook that gives its gradient the batch's memory format."""
    layout = layout_of(batch)
    plain = layout == torch.contiguous_format or not batch.requires_grad
    if plain or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return batch
    view = batch.view_as(batch)
    view.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))
    return view


def by_channel(parameter: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """(1,) or (C,) to (C or 1, 1, ...), which broadcasts with (N, C, ...)."""
    if parameter.numel() not in (1, input.shape[1]):
        raise ValueError(
            f"input must have num_channels={parameter.numel()} channels, got {input.shape[1]}"
        )
    return parameter.to(input.dtype).reshape(-1, *[1] * (input.dim() - 2))


def without_autocast(input: torch.Tensor) -> AbstractContextManager:
    """Keep a convolution in float32."""
    device = input.device.type
    # Tensors without values have no autocast.
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def magnitude(input: torch.Tensor) -> torch.Tensor:
    """Largest |x| of each map (N, C, 1, ...), without gradient; 1 where that is 0 or not finite.

    What is homogeneous can be computed of input / magnitude, whose powers do not overflow.
    """
    axes = tuple(range(2, input.dim()))
    values = input.detach()
    largest = torch.maximum(values.amax(axes, keepdim=True), -values.amin(axes, keepdim=True))
    return torch.where((largest > 0) & (largest < torch.inf), largest, 1)


def maxima(input: torch.Tensor, window: Window) -> torch.Tensor:
    """Largest element of each window."""
    return _MAX_POOLS[len(window[0])](input, *window)


def sums(input: torch.Tensor, window: Window) -> torch.Tensor:
    """Sum of the elements of each window."""
    return _averages(input, window, divisor=1)


def means(input: torch.Tensor, window: Window) -> torch.Tensor:
    """Mean of the elements of each window that are inside the input."""
    return _averages(input, window, divisor=None)


def _averages(input: torch.Tensor, window: Window, divisor: int | None) -> torch.Tensor:
    kernel, stride, padding, dilation, ceil_mode = window
    # Average pooling has no dilation, and 3-D a smallest input that counts no padding.
    if max(dilation) > 1 or any(n < k for n, k in zip(input.shape[2:], kernel, strict=True)):
        total = sum(elements(input, window, 0.0))
        return total if divisor else total / counts(input, window)
    if len(kernel) == 3:
        return F.avg_pool3d(input, kernel, stride, padding, ceil_mode, False, divisor)
    if len(kernel) == 2:
        return F.avg_pool2d(input, kernel, stride, padding, ceil_mode, False, divisor)
    # The one for 1-D has no divisor.
    flat = ([1, *kernel], [1, *stride], [0, *padding], ceil_mode, False, divisor)
    return F.avg_pool2d(input.unsqueeze(-2), *flat).squeeze(-2)


def padded(input: torch.Tensor, window: Window, fill: float) -> torch.Tensor:
    """Pad the input with all that windows reach over, so that every window lies inside."""
    spatial = input.shape[2:]
    pads: list[int] = []
    axes = zip(spatial, output_sizes(spatial, window), *window[:4], strict=True)
    for size, count, k, s, p, d in axes:
        reach = (count - 1) * s + (k - 1) * d + 1 - p
        pads = [p, max(reach - size, 0), *pads]
    return F.pad(input, pads, value=fill) if any(pads) else input


def elements(input: torch.Tensor, window: Window, fill: float) -> list[torch.Tensor]:
    """Return the first, second, ... element of each window: tensors of the output's size.

    Outside the input an element is `fill`.
    """
    kernel, stride, _, dilation, _ = window
    whole = padded(input, window, fill)
    counts = output_sizes(input.shape[2:], window)
    # What is read several times is read faster without gaps; channels_last has none.
    rearrange = layout_of(input) == torch.contiguous_format
    found = []
    for offsets in itertools.product(*map(range, kernel)):
        part = whole
        for axis, offset in enumerate(offsets):
            first = offset * dilation[axis]
            last = first + (counts[axis] - 1) * stride[axis]
            part = part[(slice(None),) * (2 + axis) + (slice(first, last + 1, stride[axis]),)]
        found.append(part.contiguous() if rearrange else part)
    return found


def counts(input: torch.Tensor, window: Window) -> torch.Tensor:
    """Count each window's elements that are inside the input, (1, 1, ...)."""
    return sum(inside(input, window))  # type: ignore[return-value]


def inside(input: torch.Tensor, window: Window) -> list[torch.Tensor]:
    """1 where the element of `elements` is inside the input, else 0; (1, 1, ...) each."""
    return elements(input.new_ones(1, 1, *input.shape[2:]), window, 0.0)


def is_padded(input: torch.Tensor, window: Window) -> bool:
    """Whether a window reaches over the edge of the input."""
    spatial = input.shape[2:]
    axes = zip(spatial, output_sizes(spatial, window), *window[:4], strict=True)
    return any(p > 0 or (o - 1) * s + (k - 1) * d + 1 > n for n, o, k, s, p, d in axes)


def pads_to(counts: Sequence[int], input: torch.Tensor, window: Window) -> list[int]:
    """Return `F.pad`'s argument for an input with `counts` windows at stride 1 per dimension.

    Window number stride * i of these is the pooling's window i.
    """
    kernel, _, padding, dilation, _ = window
    pads: list[int] = []
    for size, count, k, p, d in zip(
        input.shape[2:], counts, kernel, padding, dilation, strict=True
    ):
        pads = [p, count + (k - 1) * d - p - size, *pads]
    return pads


def dense_maxima(input: torch.Tensor, window: Window, counts: Sequence[int]) -> torch.Tensor:
    """Maxima of the `counts` windows of `pads_to`."""
    kernel, _, _, dilation, _ = window
    pads = pads_to(counts, input, window)
    whole = F.pad(input, pads, value=-torch.inf) if any(pads) else input
    return _MAX_POOLS[len(kernel)](whole, kernel, 1, 0, dilation)
