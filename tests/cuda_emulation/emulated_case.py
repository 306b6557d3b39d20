"""One call of the emulated operators, and what it should give."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import emulated
import numpy as np
import torch
import torch.nn.functional as F

import softpool_det.ops  # noqa: F401  registers the CPU operator

sys.path.append(str(Path(__file__).resolve().parents[1] / "ops"))
from oracle import soft_pool_gradient_oracle, soft_pool_oracle

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# (limit of 32-bit positions, bytes of shared memory, taps of one thread): as on a device, with
# 64-bit positions, with windows in several steps, and with all windows but square ones large.
DEVICES = [
    (emulated.INDEX_LIMIT, emulated.SHARED_BYTES, emulated.LARGE_TAPS),
    (1, emulated.SHARED_BYTES, emulated.LARGE_TAPS),
    (emulated.INDEX_LIMIT, 7000, emulated.LARGE_TAPS),
    (emulated.INDEX_LIMIT, emulated.SHARED_BYTES, 0),
    (1, 7000, 0),
]


@dataclass
class Case:
    shape: tuple[int, ...]
    window: tuple[tuple[int, ...], ...]  # kernel, stride, padding, dilation
    ceil_mode: bool = False
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    exact: bool = False
    affine: bool = False
    offset: int = 0  # elements before the tensor in its storage
    device: tuple[int, int, int] = DEVICES[0]
    seed: int = 0

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """In the case's type and layout, `offset` elements into a storage."""
        source = torch.from_numpy(values)
        if self.channels_last:
            source = source.movedim(1, -1)
        flat = torch.zeros(source.numel() + self.offset, dtype=self.dtype)
        result = flat[self.offset :].view(source.shape).copy_(source)
        return result.movedim(-1, 1) if self.channels_last else result

    def out_shape(self) -> tuple[int, ...]:
        pool = F.max_pool2d if len(self.shape) == 4 else F.max_pool3d
        images = torch.empty(1, 1, *self.shape[2:])
        return tuple(pool(images, *self.window, ceil_mode=self.ceil_mode).shape[2:])

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = np.random.default_rng(self.seed)
        outputs = (*self.shape[:2], *self.out_shape())
        values = generator.uniform(-8, 8, self.shape)
        return self.tensor(values), self.tensor(generator.standard_normal(outputs))

    def affine_tensors(self) -> list[torch.Tensor]:
        if not self.affine:
            return []
        generator = np.random.default_rng(self.seed)
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        numbers = generator.uniform(-1.5, 1.5, (2, self.shape[1]))
        return [torch.from_numpy(row).to(dtype) for row in numbers]


def run(library, case: Case, input, grad_output):
    """(output, gradient of the input) by the operators of a library."""
    affine = case.affine_tensors()
    windows = (*map(list, case.window), case.ceil_mode)
    prefix = "affine_relu_" if case.affine else ""
    forward = getattr(library, f"{prefix}soft_pool")
    backward = getattr(library, f"{prefix}soft_pool_backward")
    return (
        forward(input, *affine, *windows),
        backward(grad_output, input, *affine, *windows, case.exact),
    )


def run_emulated(case: Case, input, grad_output):
    with emulated.limits(*case.device):
        return run(torch.ops.softpool_emulation, case, input, grad_output)


def assert_equals_oracle(case: Case) -> None:
    input, grad_output = case.tensors()
    output, grad_input = run_emulated(case, input, grad_output)

    values = input.double().numpy()
    if case.affine:
        scale, shift = (row.double().numpy() for row in case.affine_tensors())
        shape = (-1,) + (1,) * (values.ndim - 2)
        scale, shift = scale.reshape(shape), shift.reshape(shape)
        values = np.maximum(values * scale + shift, 0)
    upstream = grad_output.double().numpy()
    expected = soft_pool_oracle(values, case.out_shape(), case.window)
    gradient = "exact" if case.exact else "paper"
    expected_grad = soft_pool_gradient_oracle(upstream, values, case.window, gradient)
    if case.affine:
        expected_grad = np.where(values > 0, expected_grad * scale, 0)

    rounding = torch.finfo(case.dtype).eps
    computing = max(min(rounding, torch.finfo(torch.float32).eps), 1e-14)
    for actual, wanted, magnitude in (
        (output, expected, np.abs(values).max(initial=0)),
        (grad_input, expected_grad, 4 * np.abs(upstream).max(initial=0)),
    ):
        torch.testing.assert_close(
            actual.double(),
            torch.from_numpy(wanted),
            rtol=rounding,
            atol=16 * computing * (1 + magnitude),
        )
        assert actual.dtype == case.dtype
    assert grad_input.stride() == input.stride()


def square(kernel: int, stride: int, padding: int) -> tuple[tuple[int, ...], ...]:
    return ((kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1))


def cube(kernel: int, stride: int, padding: int) -> tuple[tuple[int, ...], ...]:
    return ((kernel,) * 3, (stride,) * 3, (padding,) * 3, (1, 1, 1))
