"""What only a GPU can show of the CUDA operators: graphs, streams, memory, large tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from softpool_det.ops import soft_pool2d

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

pytestmark = pytest.mark.cuda

WINDOWS = [(2, 2, 0), (3, 2, 1), (5, 3, 2)]
KINDS = ["plain", "betas", "affine"]
GIB = 1 << 30


def forward_and_backward(
    input: torch.Tensor, window: tuple[int, int, int], **settings
) -> tuple[torch.Tensor, ...]:
    """(output, gradients of the input and of betas) by the raw operators, for upstreams of 1."""
    windows = (*([number] * 2 for number in window), [1, 1])
    library = torch.ops.softpool_det
    output = library.soft_pool(input, *windows, **settings)
    upstream = torch.ones_like(output)
    return output, *library.soft_pool_backward(upstream, input, *windows, **settings)


def channel_numbers(channels: int, kind: str, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """Settings of a kind, with numbers that differ from channel to channel."""
    row = torch.linspace(-1, 1, channels, device="cuda", dtype=dtype)
    names = {"plain": [], "betas": ["betas"], "affine": ["scale", "bias"]}[kind]
    numbers = {"betas": row + 2, "scale": row, "bias": row.flip(0)}
    return {name: numbers[name] for name in names}


def images(channels_last: bool, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    result = torch.randn(2, 16, 66, 136, device="cuda", generator=generator)
    return result.to(
        dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_replay_in_a_cuda_graph(window, channels_last, kind):
    input = images(channels_last)
    settings = channel_numbers(16, kind)
    forward_and_backward(input, window, **settings)  # loads the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_and_backward(input, window, **settings)
    for seed in (1, 2):
        input.copy_(images(channels_last, seed))
        graph.replay()
        expected = forward_and_backward(input, window, **settings)
        assert all(map(torch.equal, captured, expected))


@pytest.mark.parametrize("window", WINDOWS)
def test_autograd_replays_in_a_cuda_graph(window):
    input = images(False).requires_grad_()
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        soft_pool2d(input, *window).sum().backward()
    torch.cuda.synchronize()
    input.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        soft_pool2d(input, *window).sum().backward()
    graph.replay()
    expected = forward_and_backward(input.detach(), window)[1]
    assert torch.equal(input.grad, expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_work_is_on_the_current_stream(window):
    # Without ordering between the streams the operator would read before the copy is done.
    values = images(False)
    expected = forward_and_backward(values, window)
    stream = torch.cuda.Stream()
    input = torch.full_like(values, 7.0)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        input.copy_(values)
        actual = forward_and_backward(input, window)
    # The default stream is free meanwhile: an operator on it would have finished already.
    assert not stream.query()
    stream.synchronize()
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize(
    ("shape", "dtype", "window"),
    [
        ((1, 64, 8, 16, 16), torch.bfloat16, ([3] * 3, [2] * 3, [1] * 3)),
        ((1, 18, 8, 16, 16), torch.float32, ([3] * 3, [2] * 3, [1] * 3)),
        ((1, 32, 8, 16, 16), torch.bfloat16, ([3] * 3, [1] * 3, [1] * 3)),
        ((2, 8, 60, 50), torch.float32, ([60, 50], [1, 1], [0, 0])),
        ((2, 8, 60, 50), torch.float32, ([40, 30], [9, 9], [20, 15])),
    ],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_videos_and_large_windows_are_as_on_the_cpu(shape, dtype, window, channels_last):
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(shape, generator=generator).to(dtype)
    if channels_last:
        input = input.movedim(1, -1).contiguous().movedim(-1, 1)
    windows = (*window, [1] * len(window[0]))
    library = torch.ops.softpool_det
    expected = library.soft_pool(input, *windows)
    upstream = torch.randn(expected.shape, generator=generator).to(dtype)
    tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 16 * torch.finfo(dtype).eps}
    actual = library.soft_pool(input.cuda(), *windows)
    torch.testing.assert_close(actual.cpu(), expected, **tolerance)
    settings = {"exact": True, "betas": torch.linspace(0, 4, shape[1])}
    expected, expected_betas = library.soft_pool_backward(upstream, input, *windows, **settings)
    settings["betas"] = settings["betas"].cuda()
    actual, actual_betas = library.soft_pool_backward(
        upstream.cuda(), input.cuda(), *windows, **settings
    )
    torch.testing.assert_close(actual.cpu(), expected, **tolerance)
    torch.testing.assert_close(actual_betas.cpu(), expected_betas, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_of_memory_is_below_max_pool2d(window, channels_last, dtype):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    input = torch.randn(2, 64, 200, 336, device="cuda", dtype=dtype)
    input = input.contiguous(memory_format=memory_format).requires_grad_()

    def peak(pool) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        output = pool(input, *window)
        torch.autograd.grad(output, input, torch.ones_like(output))
        return torch.cuda.max_memory_allocated() - before

    assert peak(soft_pool2d) < peak(F.max_pool2d)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_runs_have_the_same_bits(window, channels_last, dtype, kind):
    input = images(channels_last, dtype=dtype)
    settings = channel_numbers(16, kind, torch.float64 if dtype == torch.float64 else torch.float32)
    first = forward_and_backward(input, window, **settings)
    for _ in range(3):
        assert all(map(torch.equal, first, forward_and_backward(input, window, **settings)))


def free_memory(wanted: int) -> bool:
    return torch.cuda.mem_get_info()[0] > wanted


@pytest.mark.slow
@pytest.mark.skipif(not free_memory(24 * GIB), reason="needs 24 GiB of free GPU memory")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("count", [1, 70])
def test_more_than_2_to_the_31_elements(channels_last, window, count):
    """In one image, of which even a channel of a contiguous one is that large, and in many."""
    one = (1, 16, 11600, 11600) if channels_last else (1, 1, 46400, 46400)
    shape = one if count == 1 else (count, 64, 691, 700)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    input = torch.empty(shape, dtype=torch.float16, device="cuda", memory_format=memory_format)
    assert input.numel() > 2**31
    input.normal_()
    output, grad_input, _ = forward_and_backward(input, window)
    # Corners and centre, each from a part that is small by itself.
    part = 60
    for place in (0, shape[2] // 2 // 30 * 30, shape[2] // 30 * 30 - part - 30):
        size = slice(place, place + part)
        piece = input[-1:, -1:, size, size].contiguous()
        expected, expected_grad, _ = forward_and_backward(piece, window)
        start = place // window[1]
        inner = slice(2, part // window[1] - 3)
        found = output[-1:, -1:, start:, start:][:, :, inner, inner]
        torch.testing.assert_close(found, expected[:, :, inner, inner], rtol=2e-3, atol=2e-3)
        inner = slice(10, part - 10)
        found = grad_input[-1:, -1:, size, size][:, :, inner, inner]
        torch.testing.assert_close(found, expected_grad[:, :, inner, inner], rtol=2e-3, atol=2e-3)
