"""What is measured of a stem's windows, against a plain loop in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from softpool_det.comparison.softness import _largest_weight, _measure, _temperature, _windows
from softpool_det.ops import SoftPool2d


class Stem(nn.Module):
    """The features are the image's own channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Identity()


class Model(nn.Module):
    def preprocess_image(self, entries):
        return type("Images", (), {"tensor": entries[0]["image"][None]})


def expected(image, kernel, padding, beta):
    """Means over all windows of stride 2, tap by tap."""
    zeros, weights = [], []
    features = np.maximum(image, 0)
    channels, height, width = features.shape
    for c in range(channels):
        for y in range(0, height + 2 * padding - kernel + 1, 2):
            for x in range(0, width + 2 * padding - kernel + 1, 2):
                rows, columns = (
                    slice(max(0, y - padding), y - padding + kernel),
                    slice(max(0, x - padding), x - padding + kernel),
                )
                window = features[c, rows, columns].ravel()
                zeros.append((window == 0).mean())
                exponents = np.exp(beta * (window - window.max()))
                weights.append((exponents / exponents.sum()).max())
    return np.mean(zeros), np.mean(weights)


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_equals_a_loop_over_windows(kernel, padding, beta):
    image = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(0))
    pool = SoftPool2d(kernel, 2, padding, beta=beta)
    found = _measure(Model(), Stem(), pool, _temperature(pool), [[{"image": image}]])
    zeros, largest = expected(image.numpy(), kernel, padding, beta)
    assert found.zeros == pytest.approx(zeros, rel=1e-6)
    assert found.largest_weight == pytest.approx(largest, rel=1e-6)
    assert found.largest_weight_at_1 == pytest.approx(
        expected(image.numpy(), kernel, padding, 1.0)[1], rel=1e-6
    )
    assert (found.beta, found.beta_low, found.beta_high) == (beta, beta, beta)


def test_pooling_parameters_and_max_pooling():
    pool = SoftPool2d(2, learn_beta="channel", num_channels=3, beta=2.0)
    pool.log_beta.data += torch.tensor([0.0, 1.0, -1.0])
    beta = _temperature(pool)
    assert beta.tolist() == pytest.approx([2.0, 2.0 * np.e, 2.0 / np.e])
    windows = _windows(torch.rand(1, 3, 4, 4), pool)
    each = [_largest_weight(windows[:, c : c + 1], beta[c : c + 1]) for c in range(3)]
    torch.testing.assert_close(_largest_weight(windows, beta), torch.cat(each, dim=1))
    assert _temperature(nn.MaxPool2d(3, 2, 1)).isinf().all()
    assert _largest_weight(windows, torch.tensor([torch.inf])).item() == 1
    assert _temperature(nn.AvgPool2d(2)) is None
