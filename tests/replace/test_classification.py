"""The classification networks of the paper: how many poolings are replaced, and output shapes."""

import re
from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision import models

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")

# Section 4.4: "All ResNet-based models only include a single pooling operation"; DenseNets have
# five, of which "the max pooling operation that follows after the first layer and average pooling
# layers between Dense blocks" (the fifth is global). ResNeXt and Wide-ResNet: "their only pooling
# operation".
TABLE_2 = {
    "resnet18": 1,
    "resnet34": 1,
    "resnet50": 1,
    "resnet101": 1,
    "resnet152": 1,
    "resnext50_32x4d": 1,
    "resnext101_32x8d": 1,
    "wide_resnet50_2": 1,
    "densenet121": 4,
    "densenet161": 4,
    "densenet169": 4,
}
# In InceptionV1 each of nine blocks has a branch that pools, besides four poolings between them.
GOOGLENET = 4 + 9


@torch.no_grad()
def shapes(model, x):
    """Output shapes of all modules, and the model's output."""
    found = {}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: output.shape})
        )
        for name, module in model.named_modules()
    ]
    output = model(x)
    for handle in handles:
        handle.remove()
    return found, output


def inception_v3(**arguments):
    return models.inception_v3(weights=None, init_weights=False, aux_logits=False, **arguments)


@pytest.mark.parametrize("name", TABLE_2)
def test_counts_of_table_2(name):
    # Weights do not matter, and take longest.
    with torch.device("meta"):
        model = getattr(models, name)(weights=None)
    result = replace_pooling(model, "all")
    assert len(result) == TABLE_2[name]
    assert sum(isinstance(module, SoftPool2d) for module in model.modules()) == TABLE_2[name]
    left = [row.name for row in result.left]
    # A DenseNet's global pooling is a function.
    assert left == ([] if "densenet" in name else ["avgpool"])
    assert not any(isinstance(m, (nn.MaxPool2d, nn.AvgPool2d)) for m in model.modules())


@pytest.mark.parametrize("name", TABLE_2)
def test_shapes_of_table_2(name):
    """Of images of 224 x 224: the stem's pooling gives 56 x 56, and nothing changes."""
    with torch.device("meta"):
        model = getattr(models, name)(weights=None).eval()
        x = torch.empty(2, 3, 224, 224)
    before, _ = shapes(model, x)
    replaced = [row.name for row in replace_pooling(model, "all").replaced]
    after, output = shapes(model, x)
    assert {module: after[module] for module in before} == before
    assert output.shape == (2, 1000)
    sizes = [after[module][2:] for module in replaced]
    # Those of a DenseNet follow the stem and its first three dense blocks.
    assert sizes == [(56, 56), (28, 28), (14, 14), (7, 7)][: TABLE_2[name]]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "inception_v3"])
def test_output_shapes_and_keys_stay(name):
    if name == "inception_v3":
        model = inception_v3()
    else:
        arguments = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        model = getattr(models, name)(weights=None, **arguments)
    model.eval()
    x = torch.randn(1, 3, 97, 97)
    keys, (before, logits) = list(model.state_dict()), shapes(model, x)
    replace_pooling(model, "all", gradient="exact")
    after, output = shapes(model, x)
    assert {module: after[module] for module in before} == before
    assert list(model.state_dict()) == keys
    assert not torch.allclose(output, logits)
    model(x).sum().backward()
    assert next(model.parameters()).grad.abs().sum() > 0


def test_googlenet_has_a_pooling_in_every_block():
    with torch.device("meta"):
        model = models.googlenet(weights=None, init_weights=False)
    result = replace_pooling(model, "all")
    assert len(result) == GOOGLENET
    in_blocks = [row.name for row in result.replaced if row.name.startswith("inception")]
    assert len({name.split(".")[0] for name in in_blocks}) == 9
    assert all(row.before.startswith("MaxPool2d") for row in result.replaced)


def test_levels_of_table_6(page):
    """As docs/other-detectors.md defines them: N, then one more row of the table for each level."""
    namespace, _ = page.run("The levels of Table 6")
    levels = namespace["LEVELS"]
    assert list(levels) == ["I", "II", "III", "IV", "V", "VI", "VII"]
    model = inception_v3()
    x = torch.randn(1, 3, 97, 97)
    before, stock = shapes(model.eval(), x)
    counts, outputs = [], [stock]
    for level, names in levels.items():
        result = replace_pooling(model, names)
        counts.append(len(result))
        assert all(re.match(rf"({'|'.join(names)})\b", row.name) for row in result.replaced), level
        after, output = shapes(model, x)
        assert {module: after[module] for module in before} == before
        outputs.append(output)
    # pool_1, pool_2, mixed 5_b-d, 6_a, 6_b-e, 7_a and 7_b-d; torchvision has no 7_d.
    assert counts == [1, 1, 3, 1, 4, 1, 2]
    assert not replace_pooling(model, "all")
    assert not any(torch.equal(one, other) for one, other in pairwise(outputs))
