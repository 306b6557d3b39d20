"""SoftPool as modules, with the arguments of `torch.nn.MaxPool1d/2d/3d` that apply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from ._arguments import by_channel, check_beta, check_gradient
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

LEARN_BETA = ("no", "one", "channel")


# Of the logarithm, either way: exp() of it is neither 0 nor infinite in float32.
_FARTHEST = 87.0


# The parametrisation of a learned temperature, here and nowhere else: positive and finite whatever
# a step of the optimiser does, with steps that are relative.
def _beta_of(log_beta: torch.Tensor, farthest: float = _FARTHEST) -> torch.Tensor:
    if log_beta.dtype != torch.float64:
        log_beta = log_beta.float()
    return log_beta.clamp(-farthest, farthest).exp()


def _parameter_of(beta: float, count: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.full((count,), math.log(beta)))


def _scripted(
    input: torch.Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
    exact: bool,
    beta: float,
    learned: torch.Tensor | None,
) -> torch.Tensor:
    """Run what TorchScript calls; the operators check for themselves."""
    flat = len(kernel_size) == 1
    if flat:
        input = input.unsqueeze(-2)
        kernel_size, stride = [1, kernel_size[0]], [1, stride[0]]
        padding, dilation = [0, padding[0]], [1, dilation[0]]
    batched = input.dim() == len(kernel_size) + 2
    if not batched:
        input = input.unsqueeze(0)
    betas = by_channel(learned, input) if learned is not None else None
    output = torch.ops.softpool_det.soft_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode, exact, beta, betas, None, None
    )
    if not batched:
        output = output.squeeze(0)
    return output.squeeze(-2) if flat else output


class _SoftPool(torch.nn.Module):
    __constants__ = ("ceil_mode", "exact", "_beta")
    __jit_unused_properties__: ClassVar = ["beta", "gradient"]

    # What weight decay would harm: see softpool_det.layers.learning.
    undecayed: ClassVar[tuple[str, ...]] = ("log_beta",)
    _function: ClassVar[Callable[..., torch.Tensor]]

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        *,
        gradient: str = "paper",
        beta: float = 1.0,
        learn_beta: str = "no",
        num_channels: int | None = None,
    ) -> None:
        super().__init__()
        check_gradient(gradient)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.exact = gradient == "exact"
        self._beta = _checked_number(beta, learn_beta)
        self.learn_beta = learn_beta
        self.log_beta = None
        if learn_beta != "no":
            self.log_beta = _parameter_of(self._beta, _count(learn_beta, num_channels))

    def _numbers(self, values: Any) -> list[int]:
        """One for each dimension, as TorchScript makes them of an int."""
        raise NotImplementedError

    @property
    def gradient(self) -> str:
        return "exact" if self.exact else "paper"

    @property
    def beta(self) -> float | torch.Tensor:
        """The temperature: a number, or a tensor (1,) or (C,) where it is learned."""
        return self._beta if self.log_beta is None else _beta_of(self.log_beta)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return _scripted(
                input,
                self._numbers(self.kernel_size),
                self._numbers(self.stride),
                self._numbers(self.padding),
                self._numbers(self.dilation),
                self.ceil_mode,
                self.exact,
                self._beta,
                None if self.log_beta is None else _beta_of(self.log_beta),
            )
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            gradient=self.gradient,
            beta=self.beta,
        )

    def extra_repr(self) -> str:
        text = (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}, gradient={self.gradient!r}"
        )
        if self.log_beta is None:
            return text if self._beta == 1.0 else f"{text}, beta={self._beta}"
        text += f", beta={self._beta}, learn_beta={self.learn_beta!r}"
        channels = self.log_beta.numel()
        return text if self.learn_beta == "one" else f"{text}, num_channels={channels}"


def _checked_number(beta: float, learn_beta: str) -> float:
    if learn_beta not in LEARN_BETA:
        names = ", ".join(f'"{name}"' for name in LEARN_BETA)
        raise ValueError(f"learn_beta must be one of {names}, got {learn_beta!r}")
    if isinstance(beta, torch.Tensor):
        raise TypeError(
            "beta must be a number in a module, which learn_beta makes a parameter; got a tensor. "
            "soft_pool1d, soft_pool2d and soft_pool3d take tensors"
        )
    number = check_beta(beta)
    low, high = math.exp(-_FARTHEST), math.exp(_FARTHEST)
    if learn_beta != "no" and not low <= number <= high:
        raise ValueError(f"beta must be from {low:.0e} to {high:.0e} to be learned, got {beta!r}")
    return number


def _count(learn_beta: str, num_channels: int | None) -> int:
    """Return the number of temperatures to learn."""
    if learn_beta == "one":
        return 1
    if not isinstance(num_channels, int) or isinstance(num_channels, bool) or num_channels < 1:
        raise ValueError(
            'num_channels must be the number of channels of the input for learn_beta="channel", '
            f"got {num_channels!r}"
        )
    return num_channels


class SoftPool1d(_SoftPool):
    """`soft_pool1d` as a module; arguments and temperature as in `SoftPool2d`.

    Shape:
        (N, C, L) or (C, L) to (N, C, OL) or (C, OL), of `torch.nn.MaxPool1d`'s size.

    Example:
        >>> SoftPool1d(3, stride=2)(torch.randn(20, 16, 50)).shape
        torch.Size([20, 16, 24])
    """

    _function = staticmethod(soft_pool1d)

    def _numbers(self, values: BroadcastingList1[int]) -> list[int]:  # type: ignore[valid-type]
        return values


class SoftPool2d(_SoftPool):
    """`soft_pool2d` as a module.

    The default gradient is not the derivative, so `torch.autograd.gradcheck` fails: see
    `soft_pool2d`, also for infinities, NaN and the limits of the temperature.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, gradient: as in `soft_pool2d`.
        beta: the temperature, a number of at least 0: 0 is average pooling, infinity max pooling.
        learn_beta: "no", "one" for one temperature that is learned, "channel" for one by channel.
            They start at `beta`, which is from 2e-38 to 6e37 then, and stay in that range.
        num_channels: of the input, for "channel" only.

    Attributes:
        beta: the temperature; a positive tensor (1,) or (C,) where it is learned.
        log_beta: the logarithm of a learned one, its only parameter. Without one there is None, and
            nothing in the state dict. Weight decay would pull the temperature towards 1.

    Shape:
        (N, C, H, W) or (C, H, W) to (N, C, OH, OW) or (C, OH, OW), of `torch.nn.MaxPool2d`'s size.

    Example:
        >>> pool = SoftPool2d(3, stride=2, beta=4.0, learn_beta="channel", num_channels=16)
        >>> pool(torch.randn(20, 16, 50, 32)).shape
        torch.Size([20, 16, 24, 15])
    """

    _function = staticmethod(soft_pool2d)

    def _numbers(self, values: BroadcastingList2[int]) -> list[int]:
        return values


class SoftPool3d(_SoftPool):
    """`soft_pool3d` as a module; arguments and temperature as in `SoftPool2d`.

    Shape:
        (N, C, D, H, W) or (C, D, H, W) to (N, C, OD, OH, OW) or (C, OD, OH, OW), of
        `torch.nn.MaxPool3d`'s size.

    Example:
        >>> SoftPool3d((3, 2, 2), stride=(2, 1, 2))(torch.randn(20, 16, 50, 44, 31)).shape
        torch.Size([20, 16, 24, 43, 15])
    """

    _function = staticmethod(soft_pool3d)

    def _numbers(self, values: BroadcastingList3[int]) -> list[int]:
        return values
