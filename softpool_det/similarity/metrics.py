"""SSIM and PSNR between an image and its pooled version, by each protocol.

The paper does not say how image and pooled image are brought to one size, so that the protocols are
choices of ours; the first two are the default.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional

# What each does to which of the two; a pooled image is enlarged without clipping it.
PROTOCOLS = {
    "nearest": "the pooled image, each pixel repeated, against the original",
    "bilinear": "the pooled image, enlarged bilinearly, against the original",
    "bicubic": "the pooled image, enlarged bicubically, against the original",
    "down": "the original, reduced bicubically with antialiasing, against the pooled image",
}


def enlarged(pooled: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """(N, C, h, w) as (N, C, *size); pixel centres as in `align_corners=False`."""
    corners = {} if mode == "nearest" else {"align_corners": False}
    return functional.interpolate(pooled, size, mode=mode, **corners)


def same_size(
    original: torch.Tensor, pooled: torch.Tensor, protocol: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Original and pooled image, (1, C, H, W) and (1, C, h, w), both in one size.

    Raises:
        KeyError: the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise KeyError(f"no protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    height, width = original.shape[-2:]
    if protocol != "down":
        return original, enlarged(pooled, (height, width), protocol)
    reduced = functional.interpolate(
        original, pooled.shape[-2:], mode="bicubic", align_corners=False, antialias=True
    )
    return reduced, pooled


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of Wang et al. (2004): a Gaussian window of 11 pixels, sigma 1.5, range of values 1.

    Args:
        one, other: (C, H, W), 0 to 1. `other` may leave that range.

    Returns:
        The mean over channels and windows that lie inside, -1 to 1.

    Raises:
        ValueError: a side has fewer than 11 pixels, or the sizes differ.
    """
    value = structural_similarity(
        one,
        other,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
    )
    return float(value)


def psnr(one: np.ndarray, other: np.ndarray) -> float | None:
    """10 log10(1 / MSE) in dB of two arrays in 0 to 1; None where they are equal (infinite)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "divide by zero", RuntimeWarning)
        value = float(peak_signal_noise_ratio(one, other, data_range=1.0))
    return value if np.isfinite(value) else None


def paper_like_ssim(original: torch.Tensor, pooled: torch.Tensor) -> float:
    """Compute the SSIM whose level is nearest to the paper's Table 1: a guess, not theirs.

    The pooled image is enlarged bicubically and rounded to 8 bits; pixels are 0 to 255, and SSIM's
    constants those of a range of 1, as much public code has them (0.01**2 and 0.03**2).
    """
    size = (original.shape[-2], original.shape[-1])
    wide = enlarged(pooled, size, "bicubic").clamp(0, 1)
    # With a range of 1, `ssim` has just those constants.
    return ssim((original * 255).numpy()[0], (wide * 255).round().numpy()[0])
