"""The CUDA kernels' bodies, run on the host, against the oracle and the CPU operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import emulated
import numpy as np
import pytest
import torch
from emulated_case import (
    DEVICES,
    DTYPES,
    Case,
    assert_equals_oracle,
    cube,
    run,
    run_emulated,
    square,
)
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(not emulated.can_build(), reason="no C++ compiler here")

EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "100"))
# Kernel, stride and padding of windows that have kernels of their own, and of one that has not.
SQUARE = [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 1, 1)]


@st.composite
def cases(draw) -> Case:
    dims = draw(st.sampled_from([2, 2, 3]))
    sizes = draw(st.tuples(*[st.integers(1, 20 if dims == 2 else 8)] * dims))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4, 8, 12, 20])), *sizes)
    kernel = draw(st.tuples(*[st.integers(1, 5 if dims == 2 else 3)] * dims))
    dilation = draw(st.just((1,) * dims) | st.tuples(*[st.integers(1, 3)] * dims))
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.tuples(*[st.integers(1, 6)] * dims))
    window = draw(st.just((kernel, stride, padding, dilation)) | st.none())
    if window is None:
        flat = tuple((1,) * (dims - 2) + pair for pair in square(*draw(st.sampled_from(SQUARE))))
        window = (*flat[:2], (0,) * (dims - 2) + flat[2][-2:], flat[3])
        extent, padding = window[0], window[2]
    assume(all(n + 2 * p >= e for n, p, e in zip(sizes, padding, extent, strict=True)))
    return Case(
        shape,
        window,
        draw(st.booleans()),
        draw(st.sampled_from(DTYPES)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1, 2, 4])),
        draw(st.sampled_from(DEVICES)),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(case=cases())
def test_random_cases_equal_the_oracle(case):
    assert_equals_oracle(case)


@st.composite
def videos(draw) -> Case:
    """channels_last_3d where channels and columns take most of a tile."""
    channels = draw(st.sampled_from([17, 18, 20, 32, 33, 36, 64, 68]))
    sizes = draw(st.tuples(st.integers(3, 8), st.integers(3, 6), st.integers(5, 16)))
    window = draw(st.sampled_from([(3, 2, 1), (3, 1, 1), (2, 1, 0), (2, 1, 1), (3, 2, 0)]))
    return Case(
        (1, channels, *sizes),
        cube(*window),
        draw(st.booleans()),
        draw(st.sampled_from(DTYPES)),
        True,
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1])),
        draw(st.sampled_from(DEVICES[:3])),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=max(1, EXAMPLES // 3), deadline=None)
@given(case=videos())
@example(Case((1, 64, 8, 16, 16), cube(3, 2, 1), dtype=torch.bfloat16, channels_last=True))
@example(Case((1, 18, 8, 16, 16), cube(3, 2, 1), channels_last=True))
@example(Case((1, 32, 8, 16, 16), cube(3, 1, 1), dtype=torch.bfloat16, channels_last=True))
def test_videos_with_the_channels_last_equal_the_oracle(case):
    assert_equals_oracle(case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", SQUARE)
@pytest.mark.parametrize("affine", [False, True])
def test_sizes_around_packs_and_tiles(dtype, window, affine):
    for width in (1, 7, 8, 9, 15, 16, 31, 33, 64, 126, 127, 128, 129, 257):
        for height in (1, 2, 16, 33, 66):
            if min(width, height) + 2 * window[2] < window[0] or width * height > 1000 * window[1]:
                continue
            for ceil_mode in (False, True):
                case = Case((1, 3, height, width), square(*window), ceil_mode, dtype)
                case.exact, case.affine = ceil_mode, affine
                assert_equals_oracle(case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("window", SQUARE)
def test_channels_around_packs_and_tiles(dtype, window):
    for channels in (1, 3, 4, 5, 8, 31, 32, 33, 64, 68, 130):
        for affine in (False, True):
            case = Case((2, channels, 9, 11), square(*window), True, dtype, channels_last=True)
            case.exact, case.affine = not affine, affine
            assert_equals_oracle(case)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(13, 1, 1), (31, 31, 1), (3, 1, 13), (1, 3, 1), (2, 5, 3)]
)
def test_windows_far_from_the_usual(channels_last, kernel, stride, dilation):
    window = ((kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2, (dilation,) * 2)
    for device in DEVICES:
        case = Case((1, 4, 35, 37), window, True, channels_last=channels_last, device=device)
        assert_equals_oracle(case)


@pytest.mark.parametrize("channels_last", [False, True])
def test_many_small_images(channels_last):
    for window in SQUARE:
        for shape in ((1100, 1, 2, 3), (7, 300, 1, 1), (40, 30, 3, 2)):
            if min(shape[2:]) + 2 * window[2] >= window[0]:
                assert_equals_oracle(Case(shape, square(*window), channels_last=channels_last))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", SQUARE)
def test_values_that_are_not_finite_as_on_the_cpu(dtype, channels_last, window):
    finfo = torch.finfo(dtype)
    special = [0.0, 1.0, finfo.max, -finfo.max, np.inf, -np.inf, np.nan]
    for seed in range(6):
        # No NaN, which most windows would have, in the first half.
        generator = np.random.default_rng(seed)
        values = generator.choice(special[: 6 + seed // 3], (2, 4, 14, 22))
        case = Case(values.shape, square(*window), True, dtype, channels_last, seed % 2 == 1)
        case.affine = seed % 3 == 2
        input, grad_output = case.tensor(values), case.tensors()[1]
        actual = run_emulated(case, input, grad_output)
        expected = run(torch.ops.softpool_det, case, input, grad_output)
        tolerance = {"rtol": 4 * finfo.eps, "atol": 16 * finfo.eps, "equal_nan": True}
        torch.testing.assert_close(actual, expected, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_finite_input_stays_finite(dtype, channels_last, exact):
    largest = torch.finfo(dtype).max
    for window in SQUARE:
        case = Case((1, 4, 12, 16), square(*window), True, dtype, channels_last, exact)
        values = np.random.default_rng(0).choice([largest, -largest, 0.5], case.shape)
        upstream = np.random.default_rng(1).choice([1.0, largest / 8], case.tensors()[1].shape)
        output, grad_input = run_emulated(case, case.tensor(values), case.tensor(upstream))
        assert output.isfinite().all()
        assert grad_input.isfinite().all()


def test_any_order_of_threads_gives_the_same_bits():
    # The emulator runs threads in another random order every time.
    for window in SQUARE:
        case = Case((2, 8, 33, 40), square(*window), exact=True)
        input, grad_output = case.tensors()
        first, second = (run_emulated(case, input, grad_output) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("channels_last", [False, True])
def test_empty_batch(channels_last):
    case = Case((0, 4, 8, 6), square(3, 2, 1), channels_last=channels_last)
    output, grad_input = run_emulated(case, *case.tensors())
    assert output.shape == (0, 4, 4, 3)
    assert grad_input.shape == case.shape


@pytest.mark.slow
@pytest.mark.skipif(emulated.SANITIZE, reason="this is the run with sanitizers")
def test_no_access_out_of_bounds_and_no_undefined_behaviour():
    def runtime(name: str) -> str:
        command = ["c++", f"-print-file-name={name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    runtimes = [runtime(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")]
    if not all(os.path.isabs(path) for path in runtimes):
        pytest.skip("the compiler has no sanitizers")
    environment = {
        # The user's options of pytest are for the tests outside.
        **{key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"},
        "LD_PRELOAD": " ".join(runtimes),
        # Leaks: Python and torch leave thousands of objects to the end of the process.
        "ASAN_OPTIONS": "detect_leaks=0",
        "SOFTPOOL_EMULATION_SANITIZE": "1",
        "SOFTPOOL_EXAMPLES": "60",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__).parent],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
