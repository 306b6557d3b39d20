"""What the tests of all dimensions share: the functions, types, layouts and random cases."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st

from softpool_det.ops import (
    SoftPool1d,
    SoftPool2d,
    SoftPool3d,
    soft_pool1d,
    soft_pool2d,
    soft_pool3d,
)

DIMS = [1, 2, 3]
POOLS = {1: soft_pool1d, 2: soft_pool2d, 3: soft_pool3d}
MODULES = {1: SoftPool1d, 2: SoftPool2d, 3: SoftPool3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
GRADIENTS = ["paper", "exact"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# tools/gpu_check.sh lowers it where every case is slow.
EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "150"))
BETAS = [0.0, 0.3, 1.0, 4.0, 30.0, float("inf")]
# A shape (N, C, ...) for each number of dimensions, none of whose sizes divides evenly.
SHAPES = {1: (2, 3, 13), 2: (2, 3, 9, 11), 3: (2, 3, 5, 7, 6)}


def to_layout(input: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Contiguous or with the channels last in memory, for any number of dimensions."""
    if not channels_last:
        return input.contiguous()
    return input.movedim(1, -1).contiguous().movedim(-1, 1)


@dataclass
class Case:
    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    gradient: str
    dtype: torch.dtype
    channels_last: bool
    scale: float
    whole_numbers: bool  # makes ties
    beta: float | None  # None: one of each channel
    seed: int

    @property
    def dims(self) -> int:
        return len(self.kernel)

    @property
    def window(self) -> tuple[tuple[int, ...], ...]:
        return self.kernel, self.stride, self.padding, self.dilation

    def tensors(self, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Input that requires a gradient, and the gradient of the output."""
        generator = np.random.default_rng(self.seed)
        values = generator.uniform(-self.scale, self.scale, self.shape)
        if self.whole_numbers:
            values = values.round()
        input = to_layout(torch.from_numpy(values).to(device, self.dtype), self.channels_last)
        grad_output = generator.standard_normal((*self.shape[:2], *self.out_shape()))
        return input.requires_grad_(), torch.from_numpy(grad_output).to(device, self.dtype)

    def betas(self) -> np.ndarray:
        """The temperatures of the channels."""
        generator = np.random.default_rng(self.seed)
        return generator.choice(BETAS if self.beta is None else [self.beta], self.shape[1])

    def out_shape(self) -> torch.Size:
        input = torch.empty(1, 1, *self.shape[2:])
        return MAX_POOLS[self.dims](input, *self.window, ceil_mode=self.ceil_mode).shape[2:]


# (kernel, stride, padding) of the authors' and the stock stem, which have kernels of their own.
STEM_WINDOWS = [(2, 2, 0), (3, 2, 1)]


@st.composite
def windows(draw, dims: int) -> list[tuple[int, ...]]:
    """Kernel, stride, padding and dilation."""
    if draw(st.integers(0, 2)) == 0:
        # Flat ones, too: 2-D windows on 3-D tensors.
        flat = [(1, 1, 0), draw(st.sampled_from(STEM_WINDOWS))]
        axes = [draw(st.sampled_from(flat)) if axis < dims - 2 else flat[1] for axis in range(dims)]
        return [*zip(*axes, strict=True), (1,) * dims]
    kernel = draw(st.tuples(*[st.integers(1, 5 if dims < 3 else 3)] * dims))
    stride = draw(st.tuples(*[st.integers(1, 7)] * dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return [
        kernel,
        stride,
        padding,
        draw(st.just((1,) * dims) | st.tuples(*[st.integers(1, 3)] * dims)),
    ]


@st.composite
def cases(draw, dims: int) -> Case:
    largest = {1: 40, 2: 20, 3: 9}[dims]
    sizes = draw(st.tuples(*[st.integers(1, largest)] * dims))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 20)), *sizes)
    # Longer than what the CPU kernel takes in one go, as columns or as channels.
    long = (1, 2, *(size % 3 + 1 for size in sizes[:-1]), 280)
    shape = draw(st.sampled_from([shape, shape, shape, long]))
    shape = draw(st.sampled_from([shape, shape, shape, shape, shape, (1, 150, *shape[2:])]))
    kernel, stride, padding, dilation = draw(windows(dims))
    zipped = zip(shape[2:], kernel, padding, dilation, strict=True)
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, k, p, d in zipped))
    return Case(
        shape,
        kernel,
        stride,
        padding,
        dilation,
        draw(st.booleans()),
        draw(st.sampled_from(GRADIENTS)),
        draw(st.sampled_from(DTYPES)),
        draw(st.booleans()),
        draw(st.sampled_from([1.0, 8.0, 80.0])),
        draw(st.booleans()),
        draw(st.sampled_from([*BETAS, 1.0, None, None, None])),
        draw(st.integers(0, 2**32 - 1)),
    )
