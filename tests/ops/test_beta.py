"""The temperature: its limits, its derivatives, and modules that learn it."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import GRADIENTS, MAX_POOLS, MODULES, POOLS, SHAPES, to_layout
from emulation import on_real_devices
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from softpool_det.ops import SoftPool2d, _library, affine_relu_soft_pool2d, soft_pool2d

AVG_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
INF = float("inf")


def value_and_gradients(input, beta, gradient="paper", window=(3, 2, 1), dims=2):
    """Output and gradients of input and of a beta that requires one."""
    output = POOLS[dims](input, *window, gradient=gradient, beta=beta)
    learned = isinstance(beta, torch.Tensor) and beta.requires_grad
    leaves = [input, beta] if learned else [input]
    return output, *torch.autograd.grad(output.square().sum(), leaves)


@pytest.fixture
def input(device, dims, channels_last):
    return to_layout(torch.randn(SHAPES[dims], device=device), channels_last).requires_grad_()


@pytest.fixture(params=["kernel", pytest.param("reference", marks=pytest.mark.slow)])
def either(request, monkeypatch):
    if request.param == "reference":
        monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset())


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0)])
def test_limits_are_average_and_max_pooling(input, dims, gradient, window):
    options = {"count_include_pad": False}
    for beta, pool, keywords in ((0, AVG_POOLS[dims], options), (INF, MAX_POOLS[dims], {})):
        expected = pool(input, *window, **keywords)
        expected = expected, *torch.autograd.grad(expected.square().sum(), input)
        for number in (beta, torch.tensor(float(beta), device=input.device)):
            actual = value_and_gradients(input, number, gradient, window, dims)
            torch.testing.assert_close(actual, expected)
            if beta == INF:
                assert torch.equal(actual[0], expected[0])


def test_one_has_the_bits_of_leaving_it_out(input, dims, gradient):
    output = POOLS[dims](input, 3, 2, 1, gradient=gradient)
    expected = output, *torch.autograd.grad(output.square().sum(), input)
    for beta in (1, 1.0, np.float32(1), np.int64(1), torch.ones((), device=input.device)):
        actual = value_and_gradients(input, beta, gradient, dims=dims)
        assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))


def test_is_a_scale_of_the_input(input, dims, gradient):
    output = POOLS[dims](4 * input, 3, 2, 1, gradient=gradient) / 4
    expected = output, *torch.autograd.grad(output.square().sum(), input)
    actual = value_and_gradients(input, 4.0, gradient, dims=dims)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shapes_and_types_of_a_tensor(device, gradient, dtype):
    """Of which all may be of a lower precision; the gradient has the shape and type of beta."""
    input = torch.randn(2, 3, 9, 11, device=device).to(dtype).requires_grad_()
    expected = value_and_gradients(input, 2.0, gradient)
    for shape in ((), (1,), (3,)):
        for own in (torch.float32, torch.bfloat16, torch.float64):
            beta = torch.full(shape, 2.0, device=device, dtype=own, requires_grad=True)
            *actual, grad_beta = value_and_gradients(input, beta, gradient)
            assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))
            assert (grad_beta.shape, grad_beta.dtype) == (beta.shape, own)
            assert torch.equal(value_and_gradients(input, beta.detach(), gradient)[0], actual[0])
    assert torch.equal(soft_pool2d(input[0], 3, 2, 1, beta=beta), actual[0][0])


def test_gradients_of_either_kind_are_equal(device):
    """Of beta: the weights are no constants to it in both."""
    input = torch.randn(2, 3, 9, 11, device=device, requires_grad=True)
    beta = torch.tensor([0.0, 1.0, 4.0], device=device, requires_grad=True)
    paper, exact = (value_and_gradients(input, beta, gradient)[2] for gradient in GRADIENTS)
    torch.testing.assert_close(paper, exact)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("affine", [False, True])
def test_derivatives(device, gradient, affine):
    torch.manual_seed(0)
    kwargs = {"dtype": torch.float64, "device": device}
    input = torch.randn(1, 2, 3, 4, **kwargs, requires_grad=True)
    beta = torch.tensor([0.7, 3.0], **kwargs, requires_grad=True)
    row = torch.tensor([1.2, -0.8], **kwargs)

    def pool(input, beta):
        if affine:
            arguments = (input, row, -row, 2, 1, 1)
            return affine_relu_soft_pool2d(*arguments, gradient=gradient, beta=beta)
        return soft_pool2d(input, 2, 1, 1, gradient=gradient, beta=beta)

    if gradient == "exact":
        assert gradcheck(pool, (input, beta), check_forward_ad=True)
        assert gradcheck(pool, (input, beta.sum()))
    assert gradcheck(lambda beta: pool(input.detach(), beta), (beta,), check_forward_ad=True)
    assert gradgradcheck(pool, (input, beta), check_fwd_over_rev=True)
    operands = (input.detach(), beta.detach())
    both = (0, 1)
    expected = jacrev(pool, both)(*operands)
    torch.testing.assert_close(jacfwd(pool, both)(*operands), expected)
    second = jacrev(jacrev(pool, both), both)(*operands)
    assert all(block.any() for row in second for block in row)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd)):
        torch.testing.assert_close(outer(inner(pool, both), both)(*operands), second)


@pytest.mark.usefixtures("either")
def test_nested_forward_mode_is_right_or_refused(device, gradient):
    input = torch.randn(1, 2, 3, 3, dtype=torch.float64, device=device)
    beta = torch.tensor([0.7, 3.0], dtype=torch.float64, device=device)

    def pool(input, beta):
        return soft_pool2d(input, 2, 1, gradient=gradient, beta=beta)

    for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
        nested = jacfwd(jacfwd(pool, first), second)
        if gradient == "paper" and (first, second) != (0, 0):
            with pytest.raises(NotImplementedError, match=r"use gradient=\"exact\", reverse mode"):
                nested(input, beta)
        else:
            expected = jacrev(jacrev(pool, first), second)(input, beta)
            torch.testing.assert_close(nested(input, beta), expected)
    # A beta that nobody differentiates, given in several ways.
    twice = jacfwd(jacfwd(pool))
    expected = torch.stack([twice(input, one) for one in (beta, 2 * beta)])
    actual = vmap(lambda one: twice(input, one))(torch.stack([beta, 2 * beta]))
    torch.testing.assert_close(actual, expected)
    learned = beta.clone().requires_grad_()
    torch.testing.assert_close(
        jacfwd(jacfwd(lambda x: pool(x, learned.detach())))(input), expected[0]
    )
    if gradient == "paper":
        with pytest.raises(NotImplementedError, match=r"beta.detach\(\)"):
            jacfwd(jacfwd(lambda x: pool(x, learned)))(input)


def test_directional_derivative_of_beta_alone(device, gradient):
    input = torch.randn(2, 2, 5, 6, dtype=torch.float64, device=device)
    beta = torch.tensor([0.7, 3.0], dtype=torch.float64, device=device)

    def pool(beta):
        return soft_pool2d(input, 3, 2, 1, gradient=gradient, beta=beta)

    product = (jacrev(pool)(beta) * torch.tensor([1.0, -2.0], device=device)).sum(-1)
    tangent = torch.tensor([1.0, -2.0], dtype=torch.float64, device=device)
    torch.testing.assert_close(jvp(pool, (beta,), (tangent,))[1], product)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("in_dims", [(0, 0), (None, 0), (1, None)])
def test_vmap_is_a_loop(device, gradient, in_dims):
    inputs, betas = torch.randn(3, 3, 2, 5, 6, device=device), torch.rand(3, 2, device=device) * 4
    operands = [
        tensor[0] if dim is None else tensor
        for tensor, dim in zip((inputs, betas), in_dims, strict=True)
    ]

    def loss(input, beta):
        output = soft_pool2d(input, 3, 2, 1, gradient=gradient, beta=beta)
        return output.square().sum()

    for function in (loss, grad(loss), grad(loss, 1), jacrev(grad(loss), 1)):
        actual = vmap(function, in_dims)(*operands)
        for index in range(3):
            one = [
                tensor if dim is None else tensor.select(dim, index)
                for tensor, dim in zip(operands, in_dims, strict=True)
            ]
            torch.testing.assert_close(actual[index], function(*one))
    total = grad(lambda beta: vmap(loss, (0, None))(inputs, beta).sum())(betas[0])
    expected = sum(grad(loss, 1)(input, betas[0]) for input in inputs)
    torch.testing.assert_close(total, expected)


def test_runs_and_threads_have_the_same_bits(device, channels_last):
    input = to_layout(torch.randn(4, 40, 65, 67, device=device), channels_last).requires_grad_()
    beta = torch.rand(40, device=device).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 3):
            torch.set_num_threads(count)
            results.append(value_and_gradients(input, beta, "exact"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(result, results[0], strict=True))


LEARNING = [("one", None), ("channel", 3)]


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("learn_beta", "num_channels"), LEARNING)
def test_compiles_into_one_graph(device, dynamic, learn_beta, num_channels):
    settings = {"beta": 2.5, "learn_beta": learn_beta, "num_channels": num_channels}
    pool = SoftPool2d(3, 2, 1, gradient="exact", **settings).to(device)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in ((2, 3, 9, 11), (3, 3, 12, 10)):
        input = torch.randn(shape, device=device, requires_grad=True)
        leaves = [input, *pool.parameters()]
        results = []
        for function in (pool, compiled):
            output = function(input)
            results.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
        torch.testing.assert_close(results[0], results[1])


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
def test_a_number_that_changes_compiles(device):
    compiled = torch.compile(soft_pool2d, fullgraph=True, backend="aot_eager")
    input = torch.randn(2, 3, 9, 11, device=device)
    for beta in (1.0, 2.0, 3.5, 0.0, 4.0):
        torch.testing.assert_close(compiled(input, beta=beta), soft_pool2d(input, beta=beta))


@on_real_devices
@pytest.mark.usefixtures("fresh_compiler")
def test_graphs_without_kernels_have_first_derivatives(device, gradient, monkeypatch):
    pool = SoftPool2d(3, 2, 1, gradient=gradient, beta=2.0, learn_beta="one").to(device)
    input = torch.randn(2, 3, 9, 11, device=device, requires_grad=True)
    expected = value_and_gradients(input, pool.beta, gradient)[:2]
    (grad_log_beta,) = torch.autograd.grad(pool(input).square().sum(), pool.parameters())
    monkeypatch.setattr(_library, "COMPILED_DEVICES", frozenset({"xpu"}))
    output = torch.compile(pool, fullgraph=True, backend="aot_eager")(input)
    leaves = [input, *pool.parameters()]
    actual = torch.autograd.grad(output.square().sum(), leaves)
    torch.testing.assert_close((output, *actual), (*expected, grad_log_beta))


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.parametrize(
    ("learn_beta", "num_channels"),
    [("no", None), ("channel", 3)],
)
@pytest.mark.slow  # modeling/test_export_backbone has a learned one
def test_exports_and_onnx(learn_beta, num_channels):
    onnxruntime = pytest.importorskip("onnxruntime")
    pool = SoftPool2d(3, 2, 1, beta=2.5, learn_beta=learn_beta, num_channels=num_channels)
    input = torch.randn(2, 3, 9, 11)
    sizes = (dict.fromkeys((0, 2, 3), Dim.DYNAMIC),)
    program = torch.export.export(pool, (input,), dynamic_shapes=sizes)
    targets = [node.target for node in program.graph.nodes]
    assert torch.ops.softpool_det.soft_pool.default in targets
    onnx = torch.onnx.export(
        pool.eval(), (input,), dynamo=True, dynamic_shapes=sizes, verbose=False
    )
    session = onnxruntime.InferenceSession(onnx.model_proto.SerializeToString())
    for shape in ((2, 3, 9, 11), (1, 3, 14, 10)):
        input = torch.randn(shape) * 5
        input[0, 0, :3, :3] = -INF
        expected = pool(input).detach()
        torch.testing.assert_close(program.module()(input), expected)
        (actual,) = session.run(None, {session.get_inputs()[0].name: input.numpy()})
        torch.testing.assert_close(torch.from_numpy(actual), expected, rtol=1e-5, atol=1e-5)


@on_real_devices
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize(("learn_beta", "num_channels"), [("no", None), *LEARNING])
def test_torchscript_equals_eager(device, dims, how, learn_beta, num_channels):
    pool = MODULES[dims](3, 2, 1, beta=2.5, learn_beta=learn_beta, num_channels=num_channels)
    pool.to(device)
    input = torch.randn(SHAPES[dims], device=device, requires_grad=True)
    scripted = torch.jit.script(pool) if how == "script" else torch.jit.trace(pool, input)
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    leaves = [input, *pool.parameters()]
    expected = pool(input)
    for module in (scripted, torch.jit.load(file)):
        output = module(input)
        assert torch.equal(output, expected)
        assert [*module.state_dict()] == [*pool.state_dict()]
    actual = torch.autograd.grad(scripted(input).square().sum(), leaves)
    wanted = torch.autograd.grad(expected.square().sum(), leaves)
    assert all(torch.equal(*pair) for pair in zip(actual, wanted, strict=True))


@pytest.mark.parametrize(("learn_beta", "num_channels"), LEARNING)
def test_a_learned_temperature_is_one_parameter(dims, learn_beta, num_channels):
    settings = {"learn_beta": learn_beta, "num_channels": num_channels}
    pool = MODULES[dims](3, 2, 1, beta=2.0, **settings)
    input = torch.randn(SHAPES[dims])
    torch.testing.assert_close(pool(input), MODULES[dims](3, 2, 1, beta=2.0)(input))
    assert pool.beta.shape == (num_channels or 1,)
    optimizer = torch.optim.SGD(pool.parameters(), 1e-3)
    (-pool(input).sum()).backward()  # a larger beta gives larger outputs
    optimizer.step()
    assert (pool.beta > 2.0).all()
    assert [*pool.state_dict()] == ["log_beta"]
    other = MODULES[dims](3, 2, 1, **settings)
    other.load_state_dict(pool.state_dict())
    assert torch.equal(other(input), pool(input))
    torch.testing.assert_close(pool.half().beta.float(), other.beta, rtol=1e-3, atol=0)


def test_the_state_dict_is_empty_without_learning(dims):
    for beta in (0, 1.0, 4.0, INF):
        pool = MODULES[dims](beta=beta)
        assert pool.beta == beta
        assert not pool.state_dict()
        assert not [*pool.parameters()]


def test_modules_show_what_is_not_the_default():
    base = str(SoftPool2d(3))[:-1]
    assert "beta" not in base
    assert str(SoftPool2d(3, beta=4)) == f"{base}, beta=4.0)"
    assert str(SoftPool2d(3, learn_beta="one")) == f"{base}, beta=1.0, learn_beta='one')"
    pool = SoftPool2d(3, beta=0.5, learn_beta="channel", num_channels=8)
    assert str(pool) == f"{base}, beta=0.5, learn_beta='channel', num_channels=8)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"beta": -0.5}, ValueError, "beta must be at least 0 .* got -0.5"),
        ({"beta": torch.tensor(1.0)}, TypeError, "beta must be a number in a module"),
        ({"learn_beta": "yes"}, ValueError, '"no", "one", "channel", got \'yes\''),
        ({"learn_beta": True}, ValueError, '"no", "one", "channel", got True'),
        ({"learn_beta": "channel"}, ValueError, "num_channels must be .* got None"),
        ({"learn_beta": "channel", "num_channels": 0}, ValueError, "num_channels must be .* got 0"),
        ({"learn_beta": "channel", "num_channels": 2.5}, ValueError, "num_channels .* got 2.5"),
        ({"learn_beta": "one", "beta": 0}, ValueError, "from 2e-38 to 6e\\+37 to be .* got 0"),
        ({"learn_beta": "one", "beta": 1e38}, ValueError, "from 2e-38 to 6e\\+37 .* got 1e\\+38"),
        ({"learn_beta": "one", "beta": math.inf}, ValueError, "from 2e-38 .* got inf"),
    ],
)
def test_modules_name_argument_value_and_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        SoftPool2d(2, **arguments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("logarithm", [-1e4, 1e4])
def test_a_learned_one_stays_positive_and_finite(dtype, logarithm):
    pool = SoftPool2d(2, learn_beta="one").to(dtype)
    torch.nn.init.constant_(pool.log_beta, logarithm)
    assert 0 < pool.beta < INF
    output = pool(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]], dtype=dtype))
    assert output.item() == (1.5 if logarithm < 0 else 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("window", "scale"), [((2, 2, 0), 0), ((3, 2, 1), 1), ((3, 1, 1), 1)])
def test_the_gradient_far_from_zero(window, scale, layout, device):
    """As exact as the spread allows in windows of their own; else up to the square of the input."""
    input = (20 + 0.1 * torch.randn(2, 16, 32, 32, device=device)).to(memory_format=layout)
    beta = torch.ones(16, device=device, requires_grad=True)
    output = soft_pool2d(input, *window, beta=beta)
    (actual,) = torch.autograd.grad(output.sum(), beta)
    wide = beta.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(soft_pool2d(input.double(), *window, beta=wide).sum(), wide)
    windows = output[:, 0].numel()
    tolerance = 1e-3 * expected + scale * 1e-7 * 20**2 * windows
    assert ((actual - expected).abs() <= tolerance).all()


def test_a_learned_one_for_other_channels_is_refused():
    pool = SoftPool2d(2, learn_beta="channel", num_channels=4)
    with pytest.raises(ValueError, match=r"beta must have the shape \(\), \(1,\) or \(3,\)"):
        pool(torch.zeros(1, 3, 4, 4))
