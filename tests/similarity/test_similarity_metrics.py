"""The figures: against Wang's definition in float64, and by what must hold for them."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from softpool_det.similarity.measure import pool
from softpool_det.similarity.metrics import PROTOCOLS, paper_like_ssim, psnr, same_size, ssim
from softpool_det.similarity.poolings import POOLINGS, select_poolings

NORMALISED = ("avg", "max", "stochastic", "s3", "softpool-imagenet", "softpool-bytes", "ada")


@pytest.fixture(scope="module")
def image(pictures):
    """(1, 3, 60, 60), 0 to 1."""
    pixels = np.asarray(pictures["astronaut.png"], np.float64)[:60, :60]
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 255)[None]


def wang_ssim(one, other, constants):
    """Equation 13 of Wang et al. (2004), with the window of their section III C."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    first, second = constants
    maps = []
    for x, y in zip(one, other, strict=True):
        mean_x, mean_y, xx, yy, xy = (
            convolve2d(values, window, mode="valid") for values in (x, y, x * x, y * y, x * y)
        )
        xx, yy, xy = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + first) / (mean_x**2 + mean_y**2 + first)
        maps.append(luminance * (2 * xy + second) / (xx + yy + second))
    return float(np.mean(maps))


@pytest.mark.parametrize("key", ["avg", "max", "sum"])
def test_ssim_is_wangs(image, key):
    one, other = same_size(image, pool(key, image, 3, 0, None, "a"), "bilinear")
    one, other = one.numpy()[0], other.numpy()[0]
    assert ssim(one, other) == pytest.approx(wang_ssim(one, other, (0.01**2, 0.03**2)), abs=1e-6)


def test_paper_like_ssim_has_constants_of_another_range(image):
    pooled = pool("avg", image, 2, 0, None, "a")
    wide = same_size(image, pooled, "bicubic")[1].clamp(0, 1).mul(255).round()
    expected = wang_ssim(255 * image.numpy()[0], wide.numpy()[0], (0.01**2, 0.03**2))
    assert paper_like_ssim(image, pooled) == pytest.approx(expected, abs=1e-6)
    assert paper_like_ssim(image, pooled) < ssim(image.numpy()[0], wide.numpy()[0] / 255)


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: pooling.key)
def test_repeated_pixels_split_the_error_at_the_average(image, pooling, kernel):
    """MSE(y) = MSE(average) + mean((y - average)**2): no pooling has a better PSNR."""
    pooled = pool(pooling.key, image, kernel, 7, None, "a")
    average = pool("avg", image, kernel, 7, None, "a")
    assert pooled.shape == average.shape
    errors = [
        float((wide - original).square().mean())
        for original, wide in (same_size(image, each, "nearest") for each in (pooled, average))
    ]
    between = float((pooled - average).square().mean())
    assert errors[0] == pytest.approx(errors[1] + between, abs=1e-12, rel=1e-12)


def test_psnr(image):
    one = image.numpy()[0]
    assert psnr(one, one) is None
    assert psnr(one, one + 0.1) == pytest.approx(20)
    other = 0.5 * one
    expected = -10 * math.log10(np.mean((one - other) ** 2))
    assert psnr(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocols_give_one_size(image, protocol):
    one, other = same_size(image, image[..., ::3, ::3], protocol)
    assert one.shape == other.shape
    assert one.shape[-1] == (20 if protocol == "down" else 60)


@pytest.mark.parametrize("key", NORMALISED)
def test_a_flat_image_stays_as_it_is_in_every_range_of_values(key):
    flat = torch.full((1, 3, 30, 30), 0.3, dtype=torch.float64)
    assert torch.allclose(pool(key, flat, 3, 0, None, "a"), flat[..., :10, :10], atol=1e-9)


def test_ranges_of_values_lie_between_average_and_maximum(image):
    keys = ["avg", "softpool-unit", "softpool-imagenet", "softpool-bytes", "max"]
    means = [float(pool(key, image, 3, 0, None, "a").mean()) for key in keys]
    assert means == sorted(means)
    assert len(set(means)) == len(means)


def test_draws_depend_on_seed_and_name_alone(image):
    for key in ("stochastic", "s3"):
        first, again, seed, name = (
            pool(key, image, 2, *rest)
            for rest in ((1, None, "a"), (1, None, "a"), (2, None, "a"), (1, None, "b"))
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, seed)
        assert not torch.equal(first, name)


def test_names_of_poolings():
    assert select_poolings(None) == POOLINGS
    names = ["SoftPool", "MaxPool2d", "avg", "avgpool"]
    keys = [pooling.key for pooling in select_poolings(names)]
    assert keys == ["avg", "max", "softpool-unit", "softpool-imagenet", "softpool-bytes"]
    with pytest.raises(KeyError, match=r"no pooling 'mean'; there are: avg, max, .*softpool"):
        select_poolings(["mean"])
