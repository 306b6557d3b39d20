"""What emulated CUDA kernels have that no tensor of tests/ops reaches by itself: 64-bit positions,
windows that blocks share, packs and tiles, threads in any order, sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import emulation
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from softpool_det.ops._reference import backward_reference, soft_pool_reference

pytestmark = emulation.needs_compiler

EXAMPLES = int(os.environ.get("SOFTPOOL_EXAMPLES", "100"))
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# (limit of 32-bit positions, taps of one thread): as on a device, with 64-bit positions, with all
# windows but those of kernels of their own large, and both.
LIMITS = [
    (emulation.INDEX_LIMIT, emulation.LARGE_TAPS),
    (1, emulation.LARGE_TAPS),
    (emulation.INDEX_LIMIT, 0),
    (1, 0),
]
# Kernel, stride and padding of k2s2 and k3s2p1, and of generic windows.
SQUARE = [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 1, 1)]


@pytest.fixture(scope="module", autouse=True)
def library():
    emulation.load()


def square(kernel: int, stride: int, padding: int, dims: int = 2) -> tuple[tuple[int, ...], ...]:
    return (kernel,) * dims, (stride,) * dims, (padding,) * dims, (1,) * dims


@dataclass
class Case:
    shape: tuple[int, ...]
    window: tuple[tuple[int, ...], ...]  # kernel, stride, padding, dilation
    ceil_mode: bool = False
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    exact: bool = False
    beta: float | None = 1.0  # None: one for each channel
    affine: bool = False
    offset: int = 0  # elements before the tensors in their storages
    limits: tuple[int, int] = LIMITS[0]
    seed: int = 0

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """In the case's type and layout, `offset` elements into a storage."""
        source = torch.from_numpy(values)
        if self.channels_last:
            source = source.movedim(1, -1)
        flat = torch.zeros(source.numel() + self.offset, dtype=self.dtype)
        result = flat[self.offset :].view(source.shape).copy_(source)
        return result.movedim(-1, 1) if self.channels_last else result

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = np.random.default_rng(self.seed)
        pool = F.max_pool2d if len(self.shape) == 4 else F.max_pool3d
        images = torch.empty(1, 1, *self.shape[2:])
        outputs = pool(images, *self.window, ceil_mode=self.ceil_mode).shape[2:]
        values = generator.uniform(-8, 8, self.shape)
        upstream = generator.standard_normal((*self.shape[:2], *outputs))
        return self.tensor(values), self.tensor(upstream)

    def arguments(self, dtype: torch.dtype | None = None) -> tuple:
        generator = np.random.default_rng(self.seed)
        dtype = dtype or (torch.float64 if self.dtype == torch.float64 else torch.float32)
        numbers = generator.uniform([[0], [-1.5], [-1.5]], [[4], [1.5], [1.5]], (3, self.shape[1]))
        # As the kernels see them.
        betas, scale, bias = torch.from_numpy(numbers).float().to(dtype)
        windows = (*map(list, self.window), self.ceil_mode, self.exact)
        betas = betas if self.beta is None else None
        scale, bias = (scale, bias) if self.affine else (None, None)
        return (*windows, 1.0 if self.beta is None else self.beta, betas, scale, bias)


def run(case: Case, input: torch.Tensor, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(output, gradient of the input, gradient of the temperatures)."""
    operators = torch.ops.softpool_emulation
    arguments = case.arguments()
    with emulation.limits(*case.limits):
        output = operators.soft_pool(input, *arguments)
        return output, *operators.soft_pool_backward(grad_output, input, *arguments)


def expected_of(input: torch.Tensor, grad_output: torch.Tensor, arguments: tuple):
    values_only = (*arguments[:5], True, *arguments[6:])
    output = soft_pool_reference(input, *values_only)
    return output, *backward_reference(grad_output, input, *arguments)


def assert_right(case: Case) -> None:
    input, grad_output = case.tensors()
    results = run(case, input, grad_output)
    double = case.arguments(torch.float64)
    expected = expected_of(input.double(), grad_output.double(), double)
    rounding = torch.finfo(case.dtype).eps
    computing = max(min(rounding, torch.finfo(torch.float32).eps), 1e-14)
    hottest = 4 if case.beta is None else min(case.beta, 4)
    steepest = 4 * grad_output.abs().max().item() * (1 + 4 * hottest * case.exact)
    total = 64 * grad_output.double().abs().sum((0, *range(2, input.dim()))).max().item()
    for actual, wanted, rtol, magnitude in zip(
        results, expected, (rounding, rounding, computing), (8, steepest, total), strict=True
    ):
        torch.testing.assert_close(
            actual.double(), wanted, rtol=rtol, atol=16 * computing * (1 + magnitude)
        )
    assert results[0].dtype == results[1].dtype == case.dtype
    assert results[1].stride() == input.stride()
    assert results[2].dtype == (torch.float64 if case.dtype == torch.float64 else torch.float32)


@st.composite
def cases(draw) -> Case:
    dims = draw(st.sampled_from([2, 2, 3]))
    sizes = draw(st.tuples(*[st.integers(1, 20 if dims == 2 else 8)] * dims))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4, 8, 12, 20])), *sizes)
    if draw(st.booleans()):
        flat = tuple((1,) * (dims - 2) + pair for pair in square(*draw(st.sampled_from(SQUARE))))
        window = (*flat[:2], (0,) * (dims - 2) + flat[2][-2:], flat[3])
    else:
        kernel = draw(st.tuples(*[st.integers(1, 5 if dims == 2 else 3)] * dims))
        stride = draw(st.tuples(*[st.integers(1, 6)] * dims))
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        dilation = draw(st.just((1,) * dims) | st.tuples(*[st.integers(1, 3)] * dims))
        window = (kernel, stride, padding, dilation)
    zipped = zip(sizes, window[0], window[2], window[3], strict=True)
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, k, p, d in zipped))
    return Case(
        shape,
        window,
        draw(st.booleans()),
        draw(st.sampled_from(DTYPES)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([1.0, None, None, 0.0, 0.3, 4.0, np.inf])),
        draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1, 2, 4])),
        draw(st.sampled_from(LIMITS)),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_random_cases_are_right(case):
    assert_right(case)


@st.composite
def videos(draw) -> Case:
    """channels_last_3d where channels and columns take most of a tile."""
    channels = draw(st.sampled_from([17, 18, 20, 32, 33, 36, 64, 68]))
    sizes = draw(st.tuples(st.integers(3, 8), st.integers(3, 6), st.integers(5, 16)))
    window = draw(st.sampled_from([(3, 2, 1), (3, 1, 1), (2, 1, 0), (2, 1, 1), (3, 2, 0)]))
    return Case(
        (1, channels, *sizes),
        square(*window, dims=3),
        draw(st.booleans()),
        draw(st.sampled_from(DTYPES)),
        True,
        draw(st.booleans()),
        draw(st.sampled_from([1.0, None])),
        draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1])),
        draw(st.sampled_from(LIMITS[:2])),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=max(1, EXAMPLES // 5), deadline=None)
@given(case=videos())
@example(Case((1, 64, 8, 16, 16), square(3, 2, 1, 3), dtype=torch.bfloat16, channels_last=True))
@example(Case((1, 18, 8, 16, 16), square(3, 2, 1, 3), channels_last=True, beta=None))
@example(Case((1, 32, 8, 16, 16), square(3, 1, 1, 3), dtype=torch.bfloat16, channels_last=True))
def test_videos_with_the_channels_last_are_right(case):
    assert_right(case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", SQUARE)
def test_sizes_around_packs_and_tiles(dtype, window):
    for width in (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 129, 260):
        for height, ceil_mode in ((9, False), (18, True)):
            case = Case((1, 2, height, width), square(*window), ceil_mode, dtype)
            assert_right(replace(case, exact=not ceil_mode, beta=None if ceil_mode else 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", SQUARE)
def test_channels_around_packs_and_tiles(dtype, window):
    for channels in (1, 3, 4, 5, 8, 31, 32, 33, 64, 68, 130, 260):
        case = Case((2, channels, 9, 11), square(*window), True, dtype, channels_last=True)
        assert_right(replace(case, exact=True, beta=None))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(13, 1, 1), (31, 31, 1), (3, 1, 13), (1, 3, 1), (2, 5, 3)]
)
def test_windows_far_from_the_usual(channels_last, kernel, stride, dilation):
    window = ((kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2, (dilation,) * 2)
    for limits in LIMITS[:3]:
        case = Case((1, 4, 23, 25), window, True, channels_last=channels_last, limits=limits)
        if 23 + 2 * (kernel // 2) >= (kernel - 1) * dilation + 1:
            assert_right(case)


@pytest.mark.parametrize("channels_last", [False, True])
def test_many_small_images(channels_last):
    for window in SQUARE:
        for shape in ((1100, 1, 2, 3), (7, 300, 1, 1), (40, 30, 3, 2)):
            if min(shape[2:]) + 2 * window[2] >= window[0]:
                case = Case(shape, square(*window), channels_last=channels_last, beta=None)
                assert_right(case)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [((44, 37), 1, 1), ((60, 50), 50, 1), ((33, 40), 20, 1), ((1, 1100), 9, 1), ((34, 33), 13, 2)],
)
def test_windows_that_blocks_share(dtype, channels_last, kernel, stride, dilation):
    sizes = (3, 1300) if kernel[0] == 1 else (80, 74)
    window = (kernel, (stride,) * 2, tuple(k // 2 for k in kernel), (dilation,) * 2)
    if kernel == (44, 37):  # global pooling
        sizes, window = kernel, (kernel, kernel, (0, 0), (1, 1))
    case = Case((2, 4, *sizes), window, False, dtype, channels_last, channels_last)
    assert_right(replace(case, affine=channels_last, beta=None if channels_last else 0.1))


@pytest.mark.parametrize("taps", [60 * 60, 60 * 60 - 1])
def test_blocks_of_a_window_as_large_as_the_image(taps):
    """One for each window both ways, and those of the gather; or a thread for each window."""
    case = Case((2, 4, 60, 60), ((60, 60), (60, 60), (0, 0), (1, 1)))
    count = torch.ops.softpool_emulation.count_blocks
    before = count(torch.empty(0))
    run(replace(case, limits=(emulation.INDEX_LIMIT, taps)), *case.tensors())
    # 60 x 60 inputs are 15 tiles of 256 or a few more.
    blocks = count(torch.empty(0)) - before
    gathering = blocks - (2 if taps == 60 * 60 else 2 * 8)
    assert 8 * 15 <= gathering <= 8 * 20


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", SQUARE)
def test_values_that_are_not_finite(dtype, channels_last, window):
    finfo = torch.finfo(dtype)
    special = [0.0, 1.0, finfo.max, -finfo.max, np.inf, -np.inf, np.nan]
    for seed in range(6):
        # No NaN, which most windows would have, in the first half.
        generator = np.random.default_rng(seed)
        values = generator.choice(special[: 6 + seed // 3], (2, 4, 14, 16))
        case = Case(values.shape, square(*window), True, dtype, channels_last, seed % 2 == 1)
        assert_as_the_reference(replace(case, affine=seed == 2), values)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("special", [[np.inf], [-np.inf], [np.nan], [np.inf, -np.inf, 3e38, -3e38]])
def test_shared_windows_with_values_that_are_not_finite(channels_last, special):
    values = np.random.default_rng(0).uniform(-8, 8, (2, 4, 40, 36))
    for image, count in ((0, 5), (1, values[0].size)):
        places = np.random.default_rng(1).choice(values[0].size, count, replace=False)
        values[image].flat[places] = np.resize(special, count)
    window = ((40, 36), (40, 36), (0, 0), (1, 1))
    assert_as_the_reference(Case(values.shape, window, channels_last=channels_last), values)


def assert_as_the_reference(case: Case, values: np.ndarray) -> None:
    """To the types' rounding; for values whose weights are 0 or equal."""
    input, grad_output = case.tensor(values), case.tensors()[1]
    eps = torch.finfo(case.dtype).eps
    actual = run(case, input, grad_output)
    expected = expected_of(input, grad_output, case.arguments())
    tolerance = {"rtol": max(4 * eps, 1e-5), "atol": 16 * eps, "equal_nan": True}
    torch.testing.assert_close(actual, expected, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("beta", [1.0, np.inf])
def test_finite_input_stays_finite(dtype, channels_last, beta):
    largest = torch.finfo(dtype).max
    for window in SQUARE:
        case = Case((1, 4, 12, 16), square(*window), True, dtype, channels_last, True, beta)
        values = np.random.default_rng(0).choice([largest, -largest, 0.5], case.shape)
        upstream = np.random.default_rng(1).choice([1.0, largest / 8], case.tensors()[1].shape)
        output, grad_input, _ = run(case, case.tensor(values), case.tensor(upstream))
        assert output.isfinite().all()
        assert grad_input.isfinite().all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_any_order_of_threads_gives_the_same_bits(channels_last):
    # The emulator runs threads in another random order every time.
    for window in [*SQUARE, (33, 7, 0)]:
        case = Case((2, 8, 33, 40), square(*window), exact=True, beta=None)
        case.channels_last = channels_last
        input, grad_output = case.tensors()
        for first, second in zip(*(run(case, input, grad_output) for _ in range(2)), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("channels_last", [False, True])
def test_empty_batch(channels_last):
    case = Case((0, 4, 8, 6), square(3, 2, 1), channels_last=channels_last, beta=None)
    output, grad_input, grad_betas = run(case, *case.tensors())
    assert output.shape == (0, 4, 4, 3)
    assert grad_input.shape == case.shape
    assert torch.equal(grad_betas, torch.zeros(4))


def test_shared_memory_is_what_every_device_gives():
    for shape in ((300, 1, 1, 1), (300, 4, 1, 1), (3, 520, 2, 2), (1, 2, 64, 64)):
        for dtype in DTYPES:
            for channels_last in (False, True):
                case = Case(shape, square(3, 2, 1), True, dtype, channels_last, beta=None)
                run(case, *case.tensors())
    assert torch.ops.softpool_emulation.most_shared_bytes(torch.empty(0)) <= 48 << 10


@pytest.mark.slow
@pytest.mark.skipif(emulation.SANITIZE, reason="this is the run with sanitizers")
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
    files = [Path(__file__), Path(__file__).with_name("test_cuda_geometry.py")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
