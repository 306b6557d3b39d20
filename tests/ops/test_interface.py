"""How the operator fits into PyTorch: layouts, compiler, script, autocast, no kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
import warnings
from itertools import product
from pathlib import Path

import pytest
import torch
from cases import MAX_POOLS, MODULES, POOLS, SHAPES, to_layout
from emulation import on_real_devices
from torch import nn
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from softpool_det import ops
from softpool_det.ops import SoftPool2d, _library, soft_pool1d, soft_pool2d


def test_output_has_the_memory_format_of_max_pool(device, dims, channels_last):
    for shape in ((2, 3, 8, 8, 8), (2, 1, 8, 8, 8), (1, 3, 1, 1, 1), (1, 3, 8, 1, 1)):
        input = to_layout(torch.randn(shape[: dims + 2], device=device), channels_last)
        output = POOLS[dims](input, 1, 1)
        if dims > 1:
            assert output.stride() == MAX_POOLS[dims](input, 1, 1).stride()
        torch.testing.assert_close(output, input, rtol=1e-6, atol=0)


def test_transposed_sequence_keeps_its_layout(device):
    input = torch.randn(2, 9, 5, device=device).transpose(1, 2).requires_grad_()
    output = soft_pool1d(input, 3, 2, 1)
    assert output.transpose(1, 2).is_contiguous()
    (grad_input,) = torch.autograd.grad(output.sum(), input)
    assert grad_input.transpose(1, 2).is_contiguous()


def test_any_strides(device):
    input = torch.randn(2, 9, 8, 6, device=device)
    for view in (input.transpose(2, 3), input[:, ::2], input[..., ::2], input.permute(1, 0, 3, 2)):
        torch.testing.assert_close(soft_pool2d(view, 2), soft_pool2d(view.clone(), 2))
    upstream = torch.ones(1, 1, 1, 1, device=device).expand(2, 9, 4, 3)
    input.requires_grad_()
    (actual,) = torch.autograd.grad(soft_pool2d(input, 2), input, upstream)
    (expected,) = torch.autograd.grad(soft_pool2d(input, 2), input, upstream.contiguous())
    assert torch.equal(actual, expected)


def test_input_without_batch_dimension(device, dims):
    batch = torch.randn(SHAPES[dims], device=device)
    input = batch[0].clone().requires_grad_()
    output = POOLS[dims](input, 3, 2, 1)
    assert torch.equal(output, POOLS[dims](batch, 3, 2, 1)[0])
    output.sum().backward()
    assert input.grad.shape == input.shape


def test_empty_batch(device, dims):
    input = torch.zeros((0, *SHAPES[dims][1:]), device=device, requires_grad=True)
    output = POOLS[dims](input, 2)
    assert output.shape == (0, *POOLS[dims](torch.zeros(SHAPES[dims]), 2).shape[1:])
    output.sum().backward()
    assert input.grad.shape == input.shape


@on_real_devices
@pytest.mark.parametrize(
    ("dims", "channels_last", "affine"),
    [
        (2, True, True),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in product([2, 3], *[[False, True]] * 2)
            if values != (2, True, True)
        ),
    ],
    indirect=["dims", "channels_last"],
)
def test_operators_pass_opcheck(device, dims, channels_last, affine):
    input = to_layout(torch.randn(SHAPES[dims], device=device), channels_last).requires_grad_()
    windows = ([3, 2, 2][:dims], [2] * dims, [1, 0, 1][:dims], [1, 2, 1][:dims], True)
    row = torch.rand(3, device=device)
    scales = (row, -row) if affine else (None, None)
    forward = torch.ops.softpool_det.soft_pool.default
    backward = torch.ops.softpool_det.soft_pool_backward.default
    for settings in ((False, 2.0, None), (True, 1.0, row.clone().requires_grad_())):
        arguments = (input, *windows, *settings, *scales)
        torch.library.opcheck(forward, arguments)
        upstream = torch.randn_like(forward(*arguments)).requires_grad_()
        torch.library.opcheck(backward, (upstream, *arguments))


@on_real_devices
def test_operators_themselves_have_gradients(device, gradient):
    input = torch.randn(2, 3, 9, 7, device=device, requires_grad=True)
    beta = torch.tensor([0.5, 1.0, 4.0], device=device, requires_grad=True)
    operator = torch.ops.softpool_det.soft_pool
    window = ([3, 3], [2, 2], [1, 1], [1, 1], False, gradient == "exact")
    for leaves, settings in (([input], ()), ([input, beta], (1.0, beta))):
        derivatives = []
        for output in (
            operator(input, *window, *settings),
            soft_pool2d(input, 3, 2, 1, gradient=gradient, beta=beta if settings else 1.0),
        ):
            first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
            loss = sum(one.square().sum() for one in first)
            derivatives.append((*first, *torch.autograd.grad(loss, leaves)))
        torch.testing.assert_close(derivatives[0], derivatives[1])


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("ceil_mode", "dynamic"),
    [
        (True, True),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in ((False, False), (False, True), (True, False))
        ),
    ],
)
def test_compiles_into_one_graph(device, dims, channels_last, gradient, ceil_mode, dynamic):
    pool = MODULES[dims](3, 2, 1, ceil_mode=ceil_mode, gradient=gradient)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for extra in (0, 1):
        shape = [size + extra for size in SHAPES[dims]]
        input = to_layout(torch.randn(shape, device=device), channels_last).requires_grad_()
        results = []
        for function in (pool, compiled):
            output = function(input)
            results.append((output, *torch.autograd.grad(output.square().sum(), input)))
        torch.testing.assert_close(results[0], results[1])
        assert results[0][0].stride() == results[1][0].stride()


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp", "second", "forward"])
def test_transforms_are_right_inside_of_a_compiled_function(device, gradient, transform):
    pool = SoftPool2d(2, 1, gradient=gradient)
    function = {
        "grad": grad(lambda x: pool(x).square().sum()),
        "vmap": vmap(pool),
        "jvp": lambda x: jvp(pool, (x,), (x,)),
        "second": jacrev(jacrev(pool)),
        "forward": jacfwd(pool),
    }[transform]
    input = torch.randn(2, 1, 3, 3, device=device)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(input), function(input))


@on_real_devices
@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_with_inductor(device):
    pool = SoftPool2d(2, ceil_mode=True)
    input = torch.randn(2, 3, 9, 11, device=device, requires_grad=True)
    output = torch.compile(lambda x: pool(x.relu()) * 2, fullgraph=True)(input)
    output.sum().backward()
    torch.testing.assert_close(output, pool(input.relu()) * 2)


@on_real_devices
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_equals_eager(device, dims, gradient, how):
    batch = torch.randn(SHAPES[dims], device=device, requires_grad=True)
    kernel = 3 if dims == 2 else (3,) * dims
    pool = MODULES[dims](kernel, 2, 1, gradient=gradient)
    scripted = torch.jit.script(pool) if how == "script" else torch.jit.trace(pool, batch)
    for input in (batch, batch[0]) if how == "script" else (batch, batch[:, :, 1:]):
        expected = torch.autograd.grad(pool(input).square().sum(), batch)
        for _ in range(3):  # as the profiling executor optimises
            output = scripted(input)
            assert torch.equal(output, pool(input))
            assert torch.equal(torch.autograd.grad(output.square().sum(), batch)[0], expected[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_dtype_alone(device, dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SoftPool2d(3, 2, 1)).to(device)
    input = torch.randn(1, 3, 9, 11, device=device)
    with torch.autocast(device, dtype):
        assert soft_pool2d(input).dtype == torch.float32
        features = model[0](input)
        output = model(input)
    assert output.dtype == features.dtype == dtype
    assert torch.equal(output, soft_pool2d(features, 3, 2, 1))
    output.float().sum().backward()
    assert model[0].weight.grad.dtype == torch.float32


@pytest.mark.usefixtures("fresh_compiler")
def test_device_without_kernel_compiles_into_one_graph(monkeypatch, dims):
    monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset({"xpu"}))
    pool = MODULES[dims](3, 2, 1)
    input = torch.randn(SHAPES[dims])
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


@pytest.mark.usefixtures("fresh_compiler")
def test_a_gpu_that_the_kernel_was_not_compiled_for_is_said_once(monkeypatch):
    # In place of the library and of such a GPU.
    library = types.SimpleNamespace(runs_on=lambda index: index != 5)
    monkeypatch.setitem(sys.modules, "softpool_det._C_cuda", library)
    monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset({"cpu", "cuda"}))
    _library._has_code_for_gpu.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="was not compiled for GPU 5, .* plain PyTorch"):
            assert not _library.has_kernel(torch.device("cuda", 5))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not _library.has_kernel(torch.device("cuda", 5))
            assert _library.has_kernel(torch.device("cuda", 4))
            assert _library.has_kernel(torch.device("cpu"))
        _library._has_code_for_gpu.cache_clear()

        def pools(input, index):
            return input + _library.has_kernel(torch.device("cuda", index))

        compiled = torch.compile(pools, fullgraph=True, backend="aot_eager", dynamic=False)
        with pytest.warns(RuntimeWarning, match="was not compiled for GPU 5"):
            assert compiled(torch.zeros(1), 5) == 0
        assert compiled(torch.zeros(1), 4) == 1
    finally:
        _library._has_code_for_gpu.cache_clear()


def test_imports_and_pools_with_a_torch_that_has_renamed_what_is_private():
    program = """
import torch
import torch._jit_internal as scripting
private = [(scripting, f"BroadcastingList{number}") for number in (1, 2, 3)]
private.append((torch._C._functorch, "TransformType"))
renamed = [(place, name, getattr(place, name)) for place, name in private]
for place, name, _ in renamed:
    delattr(place, name)
from softpool_det.ops import SoftPool2d
for place, name, value in renamed:  # torch itself uses them
    setattr(place, name, value)
from torch.func import jacfwd, jacrev

pool = SoftPool2d(2, 1, gradient="exact")
input = torch.arange(9.0, dtype=torch.float64).reshape(1, 1, 3, 3).cos().requires_grad_()
torch.autograd.gradcheck(pool, input)
expected = jacrev(jacrev(pool))(input)
for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacfwd, jacfwd)):
    torch.testing.assert_close(outer(inner(pool))(input), expected)
compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(input), pool(input))
scripted = torch.jit.script(SoftPool2d((3, 2), (1, 2), (0, 0), (1, 1)))
assert scripted(input).shape == (1, 1, 1, 1)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


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
