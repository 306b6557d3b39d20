"""Windows whose taps the threads of a block share."""

from __future__ import annotations

import emulated
import numpy as np
import pytest
import torch
from emulated_case import Case, assert_equals_oracle, run, run_emulated

pytestmark = pytest.mark.skipif(not emulated.can_build(), reason="no C++ compiler here")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [((44, 37), 1, 1), ((60, 50), 50, 1), ((33, 40), 5, 1), ((1, 1100), 9, 1), ((34, 33), 7, 2)],
)
def test_windows_that_blocks_share(dtype, channels_last, kernel, stride, dilation):
    sizes = (9, 1300) if kernel[0] == 1 else (80, 74)
    window = (kernel, (stride,) * 2, tuple(k // 2 for k in kernel), (dilation,) * 2)
    if kernel == (44, 37):  # global pooling
        sizes, window = kernel, (kernel, kernel, (0, 0), (1, 1))
    case = Case((2, 4, *sizes), window, False, dtype, channels_last, channels_last)
    case.affine = channels_last
    assert_equals_oracle(case)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_window_as_large_as_the_image_is_read_once_forward_and_once_backward(channels_last):
    """Not by every one of the tiles that it touches."""
    window = ((60, 60), (60, 60), (0, 0), (1, 1))
    case = Case((2, 4, 60, 60), window, channels_last=channels_last)
    count = torch.ops.softpool_emulation.count_shared_windows
    before = count(torch.empty(0))
    run_emulated(case, *case.tensors())
    assert count(torch.empty(0)) - before == 2 * 8
    case.device = (emulated.INDEX_LIMIT, emulated.SHARED_BYTES, 60 * 60)
    run_emulated(case, *case.tensors())
    assert count(torch.empty(0)) - before == 2 * 8


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("special", [[np.inf], [-np.inf], [np.nan], [np.inf, -np.inf, 3e38, -3e38]])
def test_shared_windows_with_values_that_are_not_finite_as_on_the_cpu(channels_last, special):
    values = np.random.default_rng(0).uniform(-8, 8, (2, 4, 40, 36))
    case = Case(values.shape, ((40, 36), (40, 36), (0, 0), (1, 1)), channels_last=channels_last)
    for image, count in ((0, 5), (1, values[0].size)):
        places = np.random.default_rng(1).choice(values[0].size, count, replace=False)
        values[image].flat[places] = np.resize(special, count)
    input, grad_output = case.tensor(values), case.tensors()[1]
    actual = run_emulated(case, input, grad_output)
    expected = run(torch.ops.softpool_det, case, input, grad_output)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
