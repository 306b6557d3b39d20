"""Programs for elsewhere: torch.export, AOTInductor and ONNX, with every size dynamic."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from cases import MODULES, SHAPES, to_layout
from torch import nn
from torch.export import Dim

from softpool_det.ops import affine_relu_soft_pool2d
from softpool_det.ops._onnx import soft_pool_onnx
from softpool_det.ops._reference import soft_pool_reference

pytestmark = [
    # Of torch about its own serialisation.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
]
SPECIAL = [float("inf"), float("-inf"), float("nan"), 3e38, -3e38]


class Stem(nn.Module):
    """scale * x + bias, ReLU and SoftPool by the fused operator."""

    def __init__(self, gradient="paper"):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.5, -0.5, 2.0]))
        self.register_buffer("bias", torch.tensor([0.5, 0.1, -1.0]))
        self.gradient = gradient

    def forward(self, input):
        arguments = (input, self.scale, self.bias, 3, 2, 1)
        return affine_relu_soft_pool2d(*arguments, gradient=self.gradient)


def dynamic_sizes(input):
    return ({dim: Dim.DYNAMIC for dim in range(input.dim()) if dim != 1},)


def grown(shape, extra):
    return (shape[0] + extra, shape[1], *(size + extra for size in shape[2:]))


def check_exported(module, shape, channels_last=False):
    input = to_layout(torch.randn(shape), channels_last)
    program = torch.export.export(module, (input,), dynamic_shapes=dynamic_sizes(input))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for extra in (0, 1, 2, 7):
        input = to_layout(torch.randn(grown(shape, extra)), channels_last).requires_grad_()
        results = []
        for function in (loaded, module):
            output = function(input)
            results.append((output, *torch.autograd.grad(output.square().sum(), input)))
        torch.testing.assert_close(*results)
        assert results[0][0].stride() == results[1][0].stride()
    return [node.target for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("ceil_mode", [pytest.param(False, marks=pytest.mark.slow), True])
def test_exported_program_is_one_operator(dims, gradient, ceil_mode, channels_last):
    module = MODULES[dims](3, 2, 1, 2, ceil_mode, gradient=gradient)
    targets = check_exported(module, SHAPES[dims], channels_last)
    assert torch.ops.softpool_det.soft_pool.default in targets


def test_exported_stem_is_one_operator(gradient, channels_last):
    targets = check_exported(Stem(gradient), SHAPES[2], channels_last)
    assert targets == [torch.ops.softpool_det.soft_pool.default]


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["2d", "3d", "stem"])
def test_aot_inductor(tmp_path, name):
    module = Stem() if name == "stem" else MODULES[int(name[0])](3, 2, 1, ceil_mode=True)
    shape = SHAPES[3 if name == "3d" else 2]
    model = nn.Sequential(nn.ReLU(), module, nn.Sigmoid()).eval()
    input = torch.randn(shape)
    with torch.no_grad():
        program = torch.export.export(model, (input,), dynamic_shapes=dynamic_sizes(input))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "model.pt2")
        )
        compiled = torch._inductor.aoti_load_package(package)
        for extra in (0, 1, 4):
            input = torch.randn(grown(shape, extra))
            torch.testing.assert_close(compiled(input), model(input))


def to_onnx(model, input):
    """The session, after a look at the operators' domains."""
    program = torch.onnx.export(
        model.eval(), (input,), dynamo=True, dynamic_shapes=dynamic_sizes(input), verbose=False
    )
    assert {node.domain for node in program.model.graph} == {""}
    assert not program.model.functions
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (name,) = (input.name for input in session.get_inputs())
    return lambda input: torch.from_numpy(session.run(None, {name: input.numpy()})[0])


OVERLAPPING, APART = (3, 2, 1, 2, True), (2, 3, 1, 1, False)


@pytest.mark.parametrize(
    ("dims", "window"),
    [
        (2, OVERLAPPING),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in product((1, 2, 3), (OVERLAPPING, APART))
            if values != (2, OVERLAPPING)
        ),
    ],
)
def test_onnx_equals_pytorch(dims, window):
    pool = MODULES[dims](*window)
    session = to_onnx(pool, torch.randn(SHAPES[dims]))
    for extra in (0, 1, 2, 5):
        input = torch.randn(grown(SHAPES[dims], extra)) * 5
        torch.testing.assert_close(session(input), pool(input), rtol=1e-5, atol=1e-5)
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5, 1.0):
        for special in (SPECIAL, SPECIAL[:2], SPECIAL[1:2]):
            input = torch.randn(SHAPES[dims])
            chosen = torch.from_numpy(generator.random(SHAPES[dims]) < share)
            values = torch.from_numpy(generator.choice(special, SHAPES[dims])).float()
            input = torch.where(chosen, values, input)
            torch.testing.assert_close(session(input), pool(input), equal_nan=True)


@pytest.mark.parametrize("beta", [0.0, 1e-40, 0.3, 1e4, float("inf")])
def test_formula_of_onnx(beta):
    """At temperatures near 0, too, padding and -inf have no weight."""
    generator = torch.Generator().manual_seed(0)
    for special in (SPECIAL if beta > 0.1 else SPECIAL[:3], SPECIAL[:2], SPECIAL[1:2]):
        input = torch.randn(2, 3, 8, 9, generator=generator)
        values = torch.tensor(special)
        chosen = torch.randint(len(special), input.shape, generator=generator)
        input = torch.where(input > 0.3, values[chosen], input)
        arguments = input, [3, 2], [2, 1], [1, 1], [1, 1], True, True, beta
        got, want = soft_pool_onnx(*arguments), soft_pool_reference(*arguments)
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-5, atol=1e-5)
        betas = torch.tensor([beta, 1.0, beta])
        got, want = (f(*arguments, betas) for f in (soft_pool_onnx, soft_pool_reference))
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_stem_in_onnx_equals_pytorch():
    stem = Stem()
    session = to_onnx(stem, torch.randn(SHAPES[2]))
    for extra in (0, 1, 5):
        input = torch.randn(grown(SHAPES[2], extra))
        torch.testing.assert_close(session(input), stem(input), rtol=1e-5, atol=1e-5)
