"""The ResNet stem with a pooling of one's choice."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem, CNNBlockBase
from torch import nn

from softpool_det.ops import SoftPool2d, affine_relu_soft_pool2d

# To torch.fx one call, on buffers rather than on what is computed from them while tracing.
torch.fx.wrap("_norm_relu_pool")

_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class PooledStem(CNNBlockBase):
    """Detectron2's `BasicStem` with its 3x3 max pooling replaced by `pool`.

    The convolution and norm are those of `stem` itself, under their old names: state-dict keys
    (`conv1.*`, `conv1.norm.*`), initial values and what is frozen all stay, so that stock
    checkpoints load. `FREEZE_AT` freezes these two; what `pool` learns is asked for apart from that
    and keeps learning.

    After the convolution, norm, ReLU and pooling are one operator,
    :func:`softpool_det.ops.affine_relu_soft_pool2d`, where the norm is frozen (`FrozenBatchNorm2d`,
    or a batch norm in eval mode that gets no gradient), `pool` is a `SoftPool2d` and nobody hooked
    in between; in TorchScript they stay apart. The numbers are the same but for rounding: in half
    precision the separate modules round to it between the steps (a `FrozenBatchNorm2d` whose input
    requires grad its scale and bias as well), the one operator only at its end.

    Args:
        stem: the stem to take over; it shares `conv1` with the new one.
        pool: maps (N, C, H, W) to (N, C, H', W') with stride 2.

    Raises:
        TypeError: `stem` is not a `BasicStem`, so where its pooling happens is unknown.
        ValueError: `pool` has a stride other than 2; ResNet reports stride 4 for a stem
            (to FPN, the anchors), whatever it does. Or it does not halve 16 x 16 inputs
            exactly (a 3x3 window with padding 1 and ceil_mode gives 9 x 9): FPN's levels would not
            fit onto each other.
    """

    def __init__(self, stem: BasicStem, pool: nn.Module) -> None:
        if not isinstance(stem, BasicStem):
            raise TypeError(f"stem must be a detectron2 BasicStem, got {type(stem).__name__}")
        stride = getattr(pool, "stride", 2)
        if stride not in (2, (2, 2)):
            raise ValueError(
                f"stride of the stem's pooling must be 2, got {stride}: the convolution before it "
                "has stride 2 and Detectron2's ResNet counts on 4 in all"
            )
        _check_halving(pool, stem.out_channels)
        super().__init__(stem.in_channels, stem.out_channels, stem.stride)
        self.conv1 = stem.conv1
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image batch (N, in_channels, H, W) to (N, out_channels, ~H/4, ~W/4)."""
        if torch.jit.is_scripting():
            return self.pool(F.relu_(self.conv1(x)))
        if not self._is_fusable():
            return self.pool(F.relu_(self.conv1(x)))
        conv, norm = self.conv1, self.conv1.norm
        pool: Any = self.pool
        x = F.conv2d(
            x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
        window = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
        return _norm_relu_pool(x, statistics, window, pool.gradient, pool.beta)

    def freeze(self) -> PooledStem:
        """Freeze the convolution and its norm, not what the pooling learns."""
        self.conv1.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self.conv1)
        return self

    def _is_fusable(self) -> bool:
        """Whether one operator does all that the modules would. Subclasses may do anything."""
        conv, pool = self.conv1, self.pool
        if type(conv) is not Conv2d or type(pool) is not SoftPool2d or conv.activation is not None:
            return False
        return _is_constant(conv.norm) and not any(map(_has_hooks, (conv, conv.norm, pool)))


def _is_constant(norm: Any) -> bool:
    """Whether `norm` multiplies and adds by channel numbers that get no gradient."""
    if type(norm) is FrozenBatchNorm2d:
        return True
    if type(norm) not in _BATCH_NORMS or norm.training or norm.running_var is None:
        return False
    learned = (norm.weight, norm.bias)
    return not (torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in learned))


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in _HOOKS)


def _norm_relu_pool(
    x: torch.Tensor,
    statistics: tuple,
    window: tuple,
    gradient: str,
    beta: float | torch.Tensor,
) -> torch.Tensor:
    """SoftPool of relu(batch_norm(x)), by running statistics.

    Scale and bias are computed in every call, in float32 or wider: these few numbers are right
    then whatever was loaded, moved or cast.
    """
    mean, variance, weight, norm_bias, eps = statistics
    dtype = torch.float64 if torch.float64 in (variance.dtype, x.dtype) else torch.float32
    scale = (variance.to(dtype) + eps).rsqrt()
    scale = scale if weight is None else weight.to(dtype) * scale
    bias = -mean.to(dtype) * scale
    bias = bias if norm_bias is None else norm_bias.to(dtype) + bias
    if x.dtype != torch.float64:
        scale, bias = scale.float(), bias.float()
    return affine_relu_soft_pool2d(x, scale, bias, *window, gradient=gradient, beta=beta)


@torch.no_grad()
def _check_halving(pool: nn.Module, channels: int) -> None:
    # Behind a detector's own padding, sizes are multiples of 32 before the stem.
    like, training = next(pool.parameters(), torch.empty(0)), pool.training
    pool.eval()  # some draw in training, from the numbers that the next layers start with
    try:
        height, width = pool(torch.zeros(1, channels, 16, 16, device=like.device)).shape[-2:]
    finally:
        pool.train(training)
    if (height, width) != (8, 8):
        raise ValueError(
            f"the stem's pooling must halve 16 x 16 inputs, {pool} gives {height} x {width}: use "
            "kernel_size 2, padding 0, or kernel_size 3, padding 1, ceil_mode False"
        )
