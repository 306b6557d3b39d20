"""Layers as programs: torch.export, torch.func, and tensors without values."""

from __future__ import annotations

import pytest
import torch
from layer_cases import ALL, CHANNELS, DRAWN, SHAPES, build, dims_of, random_input
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vmap

from softpool_det.layers import build_pooling

# Of torch about its own serialisation.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")


def smallest(name):
    """Of two elements in few dimensions: programs are as long as windows."""
    dims = dims_of(name)[0]
    return dims, (2, CHANNELS, *[6] * dims)


@pytest.mark.parametrize("name", ALL)
def test_exported_programs_give_the_same_outputs(name):
    dims, shape = smallest(name)
    layer = build(name, dims, 2, 2, 1).float()
    input = random_input(name, shape).float()
    program = torch.export.export(layer, (input,), strict=False).module()
    for values in (input, input.flip(-1)):
        torch.testing.assert_close(program(values), layer(values))


@pytest.mark.parametrize("name", ALL)
def test_the_compiler_takes_them_whole(name):
    dims, shape = smallest(name)
    layer = build(name, dims, 2, 2, 1).float().eval()
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    input = random_input(name, shape).float()
    torch.testing.assert_close(compiled(input), layer(input))


# Only those that draw do other things in training.
MODES = [(name, False) for name in ALL] + [(name, True) for name in DRAWN]


@pytest.mark.parametrize(("name", "train"), MODES)
def test_nothing_reads_a_value(name, train):
    """On a GPU that would wait for all that was started before; fake tensors have none."""
    dims, shape = smallest(name)
    with FakeTensorMode():
        layer = build_pooling(name, dims, 2, 2, 1, num_channels=CHANNELS).train(train)
        input = torch.empty(shape, requires_grad=True)
        output = layer(input)
        assert output.shape == (2, CHANNELS, *[4] * dims)
        output.sum().backward()
        assert input.grad.shape == input.shape
        assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("name", ALL)
def test_tensors_without_values_have_the_right_shapes(name):
    dims = dims_of(name)[-1]
    with torch.device("meta"):
        layer = build_pooling(name, dims, 2, 2, 1, num_channels=CHANNELS)
        for train in (False, True):
            output = layer.train(train)(torch.empty(SHAPES[dims]))
            assert output.device.type == "meta"
            assert output.shape[2:] == tuple(size // 2 + 1 for size in SHAPES[dims][2:])


@pytest.mark.parametrize("name", ["MixedPool", "LPPool", "LiteDPPPool", "EDSCWPool", "AdaPool"])
def test_vmap_is_a_loop(name):
    layer = build(name, 2, 3, 2, 1)
    images = random_input(name, (3, *SHAPES[2]))
    expected = torch.stack([layer(image) for image in images])
    torch.testing.assert_close(vmap(layer)(images), expected)
