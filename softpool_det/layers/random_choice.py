"""Poolings with chance in training: stochastic pooling, S3Pool and its Lite-S3DPP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from softpool_det.layers._windows import (
    WindowPool,
    dense_maxima,
    magnitude,
    means,
    pads_to,
    sums,
)
from softpool_det.layers.detail_preserving import LiteDPPPool1d, LiteDPPPool2d, LiteDPPPool3d
from softpool_det.layers.learning import whole_number
from softpool_det.ops._arguments import output_sizes

_MAX_POOLS_WITH_INDICES: dict[int, Any] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}


def checked_generator(generator: object) -> torch.Generator | None:
    """Return `generator` if it is one or None; else raise TypeError."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {generator!r}")
    return generator


class _StochasticPool(WindowPool):
    def __init__(
        self, *window: Any, generator: torch.Generator | None = None, **settings: Any
    ) -> None:
        super().__init__(*window, **settings)
        self.generator = checked_generator(generator)

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        # Unlike relu(), it has a derivative at 0.
        input = input.clamp_min(0)
        if self.training:
            return self._draw(input)
        scale = magnitude(input)
        x = input / scale
        total, squares = sums(x, self.window), sums(x.square(), self.window)
        return scale * squares / torch.where(total > 0, total, 1.0)

    def _draw(self, input: torch.Tensor) -> torch.Tensor:
        # Of exponential clocks with the rates x_i, that of i rings first with probability
        # x_i / sum x: it has the largest x / E, which max pooling finds without unfolding.
        uniform = torch.empty_like(input.detach()).uniform_(generator=self.generator)
        clocks = uniform.log_().neg_()
        scores, chosen = _MAX_POOLS_WITH_INDICES[self.dims](input.detach() / clocks, *self.window)
        values = input.flatten(2)
        # Of a window in the padding alone, the index means nothing.
        chosen = chosen.flatten(2).clamp(0, values.shape[2] - 1)
        drawn = values.gather(2, chosen).reshape(scores.shape)
        return torch.where(scores <= 0, 0.0, drawn)


class StochasticPool1d(_StochasticPool):
    """`StochasticPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class StochasticPool2d(_StochasticPool):
    """In training, one element of each window, drawn with probability x_i / sum x.

    In evaluation, its expectation, sum x_i^2 / sum x_i. Negative elements count as 0,
    and so does a window without positive ones. The gradient reaches the drawn element alone.
    Overlapping windows share random numbers: each has the right distribution, together they are
    not independent.

    Args:
        generator: for the draws, on the input's device; None for PyTorch's own.

    Source: Zeiler and Fergus, Stochastic Pooling, 2013; SoftPool paper, Tables 1, 3 and 5.
    """

    dims = 2


class StochasticPool3d(_StochasticPool):
    """`StochasticPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _S3Sampling(WindowPool):
    """Random rows and columns of a pooling at stride 1."""

    def __init__(
        self,
        *window: Any,
        grid_size: int | None = None,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*window, **settings)
        for stride in self.window[1]:
            grid = stride if grid_size is None else whole_number("grid_size", grid_size)
            if grid < stride or grid % stride:
                raise ValueError(
                    f"grid_size must be a multiple of the stride {stride}, got {grid_size!r}"
                )
        self.grid_size = grid_size
        self.generator = checked_generator(generator)

    def dense(self, input: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Pool at stride 1, with as many windows along each dimension as `rows` says."""
        raise NotImplementedError

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        stride, sizes = self.window[1], input.shape[2:]
        counts = output_sizes(sizes, self.window)
        # Of the last cell, as many rows as there are; at least its first.
        rows = [
            min(count * s, max(size, (count - 1) * s + 1))
            for size, count, s in zip(sizes, counts, stride, strict=True)
        ]
        dense = self.dense(input, rows)
        if not self.training:
            return means(dense, (stride, stride, [0] * self.dims, [1] * self.dims, True))
        for axis in range(self.dims):
            chosen = self._choose(rows[axis], counts[axis], stride[axis], input.device)
            dense = dense.index_select(2 + axis, chosen)
        return dense

    def _choose(self, rows: int, count: int, stride: int, device: torch.device) -> torch.Tensor:
        """Sorted random rows, grid / stride of each grid cell, `count` in all."""
        grid = stride if self.grid_size is None else self.grid_size
        cells = -(-rows // grid)
        keys = torch.rand(cells, grid, device=device, generator=self.generator)
        indices = torch.arange(cells * grid, device=device).view(cells, grid)
        # Rows beyond the edge are not drawn; of the last cell no more are than are needed.
        order = torch.where(indices < rows, keys, 2.0).argsort(1)[:, : grid // stride]
        places = torch.arange(cells * (grid // stride), device=device).view(order.shape)
        picked = torch.where(places < count, order, grid).sort(1).values
        return (picked + indices[:, :1]).flatten()[:count]


class _S3Pool(_S3Sampling):
    def dense(self, input: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        return dense_maxima(input, self.window, rows)


class S3Pool1d(_S3Pool):
    """`S3Pool2d` for (N, C, L) or (C, L)."""

    dims = 1


class S3Pool2d(_S3Pool):
    """Max pooling at stride 1, of which training keeps random rows and columns.

    Rows are cut into cells of `grid_size`, of each of which grid_size / stride rows are drawn
    without repetition; columns likewise. All images and channels share the draw. In evaluation the
    output is the mean of each cell of stride x stride, which is the expectation for
    grid_size = stride.

    The output has max pooling's size; the published one is smaller by a row for odd heights.

    Args:
        grid_size: a multiple of the stride; None for the stride. Larger ones distort more.
        generator: for the draws, on the input's device; None for PyTorch's own.

    Source: Zhai et al., S3Pool, 2017; SoftPool paper, Tables 1, 3 and 5.
    """

    dims = 2


class S3Pool3d(_S3Pool):
    """`S3Pool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3


class _LiteS3DPPPool(_S3Sampling):
    def __init__(
        self,
        *window: Any,
        num_channels: int,
        symmetric: bool = True,
        grid_size: int | None = None,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*window, grid_size=grid_size, generator=generator, **settings)
        self.symmetric = symmetric
        lite = {1: LiteDPPPool1d, 2: LiteDPPPool2d, 3: LiteDPPPool3d}[self.dims]
        settings = {"num_channels": num_channels, "symmetric": symmetric}
        self.detail = lite(self.kernel_size, 1, 0, self.dilation, **settings)

    @property
    def num_channels(self) -> int:
        return self.detail.num_channels

    def dense(self, input: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        return self.detail.pool(F.pad(input, pads_to(rows, input, self.window), mode="replicate"))


class LiteS3DPPPool1d(_LiteS3DPPPool):
    """`LiteS3DPPPool2d` for (N, C, L) or (C, L)."""

    dims = 1


class LiteS3DPPPool2d(_LiteS3DPPPool):
    """`LiteDPPPool2d` at stride 1, of which training keeps random rows and columns.

    They are drawn as by `S3Pool2d`, in evaluation each cell has its mean. Windows that reach over
    the edge repeat the input's outermost elements, as the published code does; this is the one
    pooling in which padding is not left out.

    Args:
        num_channels, symmetric: as in `LiteDPPPool2d`.
        grid_size, generator: as in `S3Pool2d`.

    Attributes:
        detail: the `LiteDPPPool2d`, with alpha and lambda_.

    Source: Saeedan et al., Detail-Preserving Pooling, 2018 ("S3DPP"); SoftPool paper, Table 1
    ("Lite-S3DPP"). The published one has 2x2 windows with stride 2 and a `grid_size` of H / 2.
    """

    dims = 2


class LiteS3DPPPool3d(_LiteS3DPPPool):
    """`LiteS3DPPPool2d` for (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3
