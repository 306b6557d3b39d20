import pytest
import torch

from softpool_det.classification import paper
from softpool_det.classification.networks import build_network, complexity, logits_of
from softpool_det.classification.tables import Arm
from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", paper.TABLE_2)
def test_parameters_and_gflop_of_table_2(name):
    """All equal the paper's as printed, but for one: its GFLOP are near ResNet101's."""
    parameters, gflop = complexity(f"torchvision/{name}")
    told = paper.TABLE_2[name]
    assert f"{parameters:.1f}" == f"{told.parameters:.1f}"
    expected = 16.54 if name == "resnext101_32x8d" else told.gflop
    assert f"{gflop:.2f}" == f"{expected:.2f}"


@pytest.mark.parametrize("pool", paper.TABLE_5)
def test_poolings_of_table_5(pool):
    for name in ("resnet18", "densenet121"):
        arm = Arm(f"torchvision/{name}", pool)
        with torch.device("meta"):
            network = build_network(arm.network, 10, {}, arm.replacements())
            assert network(torch.empty(2, 3, 64, 64)).shape == (2, 10)
        stem = network.maxpool if name == "resnet18" else network.features.pool0
        named = "MaxPool" if pool == paper.ORIGINAL else pool
        assert type(stem).__name__ == f"{named}2d"
        assert stem.kernel_size == (3 if pool == paper.ORIGINAL else 2)
    norms = [m for m in network.modules() if type(m).__name__ == f"{pool}2d"]
    assert len(norms) == (0 if pool == paper.ORIGINAL else 4)


def test_levels_of_table_6():
    counts = []
    for level in paper.TABLE_6:
        arm = Arm("torchvision/inception_v3", paper.ORIGINAL if level == "N" else level)
        with torch.device("meta"):
            network = build_network(arm.network, 10, {"init_weights": False}, arm.replacements())
        counts.append(sum(isinstance(module, SoftPool2d) for module in network.modules()))
    assert counts == [0, 1, 2, 5, 6, 10, 11, 13]


def test_the_other_libraries():
    replace = [{"where": "stem", "pool": "lip"}]
    for name in ("timm/resnet18", "detectron2/resnet18"):
        network = build_network(name, 7, {}, replace).eval()
        (pool,) = [m for m in network.modules() if type(m).__name__ == "LIPPool2d"]
        assert any(parameter.shape[0] == 64 for parameter in pool.parameters())
        assert logits_of(network(torch.zeros(1, 3, 32, 32))).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "replace", "message"),
    [
        ("resnet18", [], "network must begin with one of torchvision/, timm/, detectron2/"),
        ("torchvision/resnet19", [], "torchvision has no network 'resnet19'; the nearest are resn"),
        ("timm/resnet19", [], "timm has no network 'resnet19'; the nearest are"),
        ("detectron2/resnet19", [], "'resnet19' is no ResNet that Detectron2 builds"),
        ("torchvision/resnet18", [{"where": "stem", "pool": "soft", "size": 2}], "no argument 'si"),
        ("torchvision/resnet18", [{"where": ["layer9"]}], "there is no module 'layer9'"),
    ],
)
def test_what_cannot_be_built(name, replace, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_network(name, 10, {}, replace)


def test_seeded_networks_begin_alike():
    """With one seed the arms' weights are the same but for what a pooling learns."""
    networks = []
    for pool in (paper.ORIGINAL, "LIPPool"):
        torch.manual_seed(3)
        arm = Arm("torchvision/resnet18", pool)
        networks.append(build_network(arm.network, 10, {}, arm.replacements()).state_dict())
    stock, other = networks
    assert stock.keys() < other.keys()
    assert all(torch.equal(value, other[name]) for name, value in stock.items())
