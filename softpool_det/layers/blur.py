"""Anti-aliased max pooling (BlurPool)."""

from __future__ import annotations

from typing import Any

import torch

from softpool_det.layers._windows import WindowPool, dense_maxima, without_autocast
from softpool_det.layers.learning import whole_number
from softpool_det.ops._arguments import output_sizes


class BlurPool2d(WindowPool):
    """Max pooling at stride 1, blurred at the stride by `timm.layers.BlurPool2d`.

    Needs timm, which has this layer in 2-D only.

    Args:
        filter_size: of the binomial filter, at least 2.

    Raises:
        ImportError: timm is not installed.

    Source: Zhang, Making Convolutional Networks Shift-Invariant Again, 2019 ("MaxBlurPool").
    """

    dims = 2

    def __init__(self, *window: Any, filter_size: int = 3, **settings: Any) -> None:
        super().__init__(*window, **settings)
        stride = self.window[1]
        if stride[0] != stride[1] or stride[0] < 2:
            raise ValueError(
                f"stride must be the same in both directions and at least 2, got {tuple(stride)}"
            )
        if whole_number("filter_size", filter_size) < 2:
            raise ValueError(f"filter_size must be at least 2, got {filter_size!r}")
        try:
            from timm.layers import BlurPool2d as Blur
        except ImportError as error:
            raise ImportError("BlurPool2d needs timm: pip install timm") from error
        self.filter_size = filter_size
        self.blur = Blur(filt_size=filter_size, stride=stride[0])

    def pool(self, input: torch.Tensor) -> torch.Tensor:
        """Pool (N, C, H, W)."""
        kernel, stride, padding, dilation, _ = self.window
        sizes = input.shape[2:]
        counts = output_sizes(sizes, self.window)
        # Of windows at stride 1 all that are whole, and those that the last outputs lie on.
        whole = output_sizes(sizes, (kernel, [1, 1], padding, dilation, False))
        rows = [
            max(fits, (count - 1) * s + 1)
            for fits, count, s in zip(whole, counts, stride, strict=True)
        ]
        if min(rows) <= max(self.blur.padding):
            raise ValueError(
                f"input of size {tuple(sizes)} is too small for a blur of filter_size "
                f"{self.filter_size}"
            )
        self.blur.filt = self.blur.filt.to(input.dtype)
        with without_autocast(input):
            blurred = self.blur(dense_maxima(input, self.window, rows))
        return blurred[..., : counts[0], : counts[1]]
