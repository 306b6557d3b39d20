"""SoftPool as modules, with the arguments of `torch.nn.MaxPool1d/2d/3d` that apply."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._arguments import check_gradient
from .functional import soft_pool1d, soft_pool2d, soft_pool3d

try:  # private: another torch may have moved them
    from torch._jit_internal import (  # type: ignore[attr-defined]
        BroadcastingList1,
        BroadcastingList2,
        BroadcastingList3,
    )
except ImportError:
    # TorchScript then takes sequences, but no int for one.
    BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = list  # type: ignore


def _list1(first: int, values: BroadcastingList1[int]) -> list[int]:  # type: ignore[valid-type]
    return [first, values[0]]  # type: ignore[index]


def _list2(values: BroadcastingList2[int]) -> list[int]:
    return values


def _list3(values: BroadcastingList3[int]) -> list[int]:
    return values


def _scripted(
    input: torch.Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
    exact: bool,
) -> torch.Tensor:
    """What TorchScript calls; the operators check for themselves."""
    batched = input.dim() == len(kernel_size) + 2
    if not batched:
        input = input.unsqueeze(0)
    if exact:
        output = torch.ops.softpool_det.soft_pool_exact(
            input, kernel_size, stride, padding, dilation, ceil_mode
        )
    else:
        output = torch.ops.softpool_det.soft_pool(
            input, kernel_size, stride, padding, dilation, ceil_mode
        )
    return output if batched else output.squeeze(0)


class _SoftPool(torch.nn.Module):
    __constants__ = ("ceil_mode", "exact")

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        *,
        gradient: str = "paper",
    ) -> None:
        super().__init__()
        check_gradient(gradient)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.exact = gradient == "exact"

    @property
    def gradient(self) -> str:
        return "exact" if self.exact else "paper"

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}, gradient={self.gradient!r}"
        )


class SoftPool1d(_SoftPool):
    """`soft_pool1d` as a module."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return _scripted(
                input.unsqueeze(-2),
                _list1(1, self.kernel_size),
                _list1(1, self.stride),
                _list1(0, self.padding),
                _list1(1, self.dilation),
                self.ceil_mode,
                self.exact,
            ).squeeze(-2)
        return soft_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            gradient=self.gradient,
        )


class SoftPool2d(_SoftPool):
    """`soft_pool2d` as a module."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return _scripted(
                input,
                _list2(self.kernel_size),
                _list2(self.stride),
                _list2(self.padding),
                _list2(self.dilation),
                self.ceil_mode,
                self.exact,
            )
        return soft_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            gradient=self.gradient,
        )


class SoftPool3d(_SoftPool):
    """`soft_pool3d` as a module."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return _scripted(
                input,
                _list3(self.kernel_size),
                _list3(self.stride),
                _list3(self.padding),
                _list3(self.dilation),
                self.ceil_mode,
                self.exact,
            )
        return soft_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            gradient=self.gradient,
        )
