"""What the operator accepts and refuses, and how it fits into PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from softpool_det import ops
from softpool_det.ops import SoftPool2d, _library, soft_pool2d


def assert_agrees_with_max_pool2d(shape, kernel_size, stride, padding, ceil_mode):
    """Both give the same shape, or both refuse."""
    input = torch.zeros(shape)
    try:
        expected = F.max_pool2d(input, kernel_size, stride, padding, ceil_mode=ceil_mode).shape
    except (RuntimeError, TypeError):
        with pytest.raises((TypeError, ValueError)):
            soft_pool2d(input, kernel_size, stride, padding, ceil_mode)
    else:
        assert soft_pool2d(input, kernel_size, stride, padding, ceil_mode).shape == expected


@settings(max_examples=400, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=3, max_size=4),
    kernel_size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.none() | st.integers(1, 7) | st.tuples(st.integers(1, 7), st.integers(1, 7)),
    padding=st.integers(0, 1) | st.tuples(st.integers(0, 2), st.integers(0, 2)),
    ceil_mode=st.booleans(),
)
def test_shapes_are_those_of_max_pool2d(shape, kernel_size, stride, padding, ceil_mode):
    assert_agrees_with_max_pool2d(shape, kernel_size, stride, padding, ceil_mode)


window_argument = st.one_of(
    st.integers(-1, 7),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([None, 1.5, (2.0, 2.0), "2"]),
)


@settings(max_examples=400, deadline=None)
@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=5)
    | st.lists(st.integers(1, 9), min_size=3, max_size=4),
    kernel_size=st.just(2) | window_argument,
    stride=st.just(2) | window_argument,
    padding=st.just(0) | window_argument,
    ceil_mode=st.booleans(),
)
def test_refuses_what_max_pool2d_refuses(shape, kernel_size, stride, padding, ceil_mode):
    assert_agrees_with_max_pool2d(shape, kernel_size, stride, padding, ceil_mode)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, r"kernel_size must be positive, got \(0, 0\)"),
        ({"stride": (1, 0)}, ValueError, r"stride must be positive, got \(1, 0\)"),
        ({"padding": 2}, ValueError, r"padding .* half of kernel_size \(2, 2\), got \(2, 2\)"),
        ({"kernel_size": 9}, ValueError, "size 4 is too small for a window of 9"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an int or a pair of ints, got '3'"),
        ({"gradient": "true"}, ValueError, '"paper" or "exact", got \'true\''),
    ],
)
def test_errors_name_argument_value_and_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        soft_pool2d(torch.zeros(1, 1, 4, 4), **arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_refuses_what_is_not_floating_point(device, dtype):
    with pytest.raises(TypeError, match="float32"):
        soft_pool2d(torch.zeros(1, 1, 4, 4, dtype=dtype, device=device))


@pytest.mark.parametrize(
    ("shape", "windows", "message"),
    [
        ((1, 4, 4), ([2, 2], [2, 2], [0, 0]), "4 dimensions"),
        ((1, 0, 4, 4), ([2, 2], [2, 2], [0, 0]), "channel"),
        ((1, 1, 4, 4), ([2, 2], [2, 0], [0, 0]), "stride width must be positive"),
        ((1, 1, 4, 4), ([2, 2**40], [2, 2], [0, 0]), "kernel width"),
        ((1, 1, 4, 4), ([2, 2], [2, 2], [2, 0]), "padding height"),
        ((1, 1, 4, 4), ([5, 2], [2, 2], [0, 0]), "input height 4 is too small"),
    ],
)
def test_kernels_check_for_themselves(device, shape, windows, message):
    input = torch.zeros(shape, device=device)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.softpool_det.soft_pool2d(input, *windows, False)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.softpool_det.soft_pool2d_backward(input, input, *windows, False, True)


def test_backward_kernel_refuses_a_gradient_of_another_shape_or_type(device):
    input = torch.zeros(1, 1, 4, 4, device=device)
    windows = ([2, 2], [2, 2], [0, 0], False, True)
    backward = torch.ops.softpool_det.soft_pool2d_backward
    with pytest.raises(RuntimeError, match=r"\(1, 1, 2, 2\)"):
        backward(torch.zeros(1, 1, 2, 3, device=device), input, *windows)
    with pytest.raises(RuntimeError, match="dtype"):
        backward(torch.zeros(1, 1, 2, 2, device=device).double(), input, *windows)


@pytest.mark.parametrize("channels_last", [False, True])
def test_output_has_the_memory_format_of_max_pool2d(device, channels_last):
    for shape in ((2, 3, 8, 8), (2, 1, 8, 8), (1, 3, 1, 1), (1, 3, 8, 1)):
        input = torch.randn(shape, device=device)
        if channels_last:
            input = input.contiguous(memory_format=torch.channels_last)
        expected = F.max_pool2d(input, 1, 1)
        assert soft_pool2d(input, 1, 1).stride() == expected.stride()


def test_any_strides(device):
    input = torch.randn(2, 9, 8, 6, device=device)
    for view in (input.transpose(2, 3), input[:, ::2], input[..., ::2], input.permute(1, 0, 3, 2)):
        torch.testing.assert_close(soft_pool2d(view, 2), soft_pool2d(view.clone(), 2))
    upstream = torch.ones(1, 1, 1, 1, device=device).expand(2, 9, 4, 3)
    input.requires_grad_()
    (actual,) = torch.autograd.grad(soft_pool2d(input, 2), input, upstream)
    (expected,) = torch.autograd.grad(soft_pool2d(input, 2), input, upstream.contiguous())
    assert torch.equal(actual, expected)


def test_image_without_batch_dimension(device):
    input = torch.randn(3, 8, 6, device=device, requires_grad=True)
    output = soft_pool2d(input, 3, 2, 1)
    assert output.shape == (3, 4, 3)
    assert torch.equal(output, soft_pool2d(input[None], 3, 2, 1)[0])
    output.sum().backward()
    assert input.grad.shape == input.shape


def test_empty_batch(device):
    input = torch.zeros(0, 3, 8, 6, device=device, requires_grad=True)
    output = soft_pool2d(input, 2)
    assert output.shape == (0, 3, 4, 3)
    output.sum().backward()
    assert input.grad.shape == input.shape


def test_operators_pass_opcheck(device, memory_format):
    input = torch.randn(2, 3, 9, 7, device=device).contiguous(memory_format=memory_format)
    windows = ([3, 2], [2, 2], [1, 0], True)
    output = torch.ops.softpool_det.soft_pool2d(input, *windows)
    torch.library.opcheck(torch.ops.softpool_det.soft_pool2d.default, (input, *windows))
    torch.library.opcheck(
        torch.ops.softpool_det.soft_pool2d_backward.default,
        (torch.randn_like(output), input, *windows, True),
    )


@pytest.fixture
def fresh_compiler():
    """Without the graphs of other tests, which count towards the limit on recompilations."""
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("gradient", ["paper", "exact"])
def test_compiles_into_one_graph(device, memory_format, gradient):
    pool = SoftPool2d(3, 2, 1, gradient=gradient)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((2, 3, 9, 11), (1, 3, 12, 10)):
        input = torch.randn(shape, device=device).contiguous(memory_format=memory_format)
        results = []
        for function in (pool, compiled):
            input = input.detach().requires_grad_()
            output = function(input)
            output.square().sum().backward()
            results.append((output, input.grad))
        torch.testing.assert_close(results[0], results[1])


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_with_inductor(device):
    pool = SoftPool2d(2, ceil_mode=True)
    input = torch.randn(2, 3, 9, 11, device=device, requires_grad=True)
    output = torch.compile(lambda x: pool(x.relu()) * 2, fullgraph=True)(input)
    output.sum().backward()
    torch.testing.assert_close(output, pool(input.relu()) * 2)


def test_refuses_derivatives_that_it_does_not_have():
    input = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = soft_pool2d(input).square().sum()
    (grad_input,) = torch.autograd.grad(loss, input, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad_input.sum().backward()
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(soft_pool2d, (input.detach(),), (input.detach(),))


def test_module_shows_its_arguments_and_takes_those_of_max_pool2d():
    pool = SoftPool2d((3, 2), padding=(1, 0), ceil_mode=True)
    assert repr(pool) == (
        "SoftPool2d(kernel_size=(3, 2), stride=(3, 2), padding=(1, 0), ceil_mode=True, "
        "gradient='paper')"
    )
    assert not list(pool.state_dict())


@pytest.mark.usefixtures("fresh_compiler")
def test_device_without_kernel_compiles_into_one_graph(monkeypatch):
    monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset({"xpu"}))
    pool = SoftPool2d(3, 2, 1)
    input = torch.randn(2, 3, 9, 11)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")(input)
    monkeypatch.undo()
    torch.testing.assert_close(compiled, pool(input))


def test_device_without_kernel_is_said_once():
    _library._warn_of_missing_kernel.cache_clear()
    with pytest.warns(RuntimeWarning, match="no compiled kernel for 'xpu'"):
        assert not _library.has_kernel(torch.device("xpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not _library.has_kernel(torch.device("xpu"))


def test_runs_and_warns_once_without_the_compiled_operator(tmp_path):
    package = tmp_path / "softpool_det"
    shutil.copytree(Path(ops.__file__).parent, package / "ops")
    (package / "__init__.py").touch()
    program = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    before = len(caught)
    from softpool_det.ops import soft_pool2d
    for gradient in ("paper", "exact"):
        input = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
        output = soft_pool2d(input, gradient=gradient)
        output.sum().backward()
        assert output.shape == (1, 1, 2, 2) and input.grad.sum() > 3.9
for warning in caught[before:]:
    print(warning.message)
"""
    # -S: no .pth file of an editable install may lead back to the built package.
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (message,) = result.stdout.splitlines()
    assert "slower" in message
    assert "memory" in message
    assert "C++ compiler" in message
