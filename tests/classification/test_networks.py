import pytest
import torch
from torch import nn
from torchvision import models

from softpool_det.classification import networks, paper
from softpool_det.classification.networks import build_network, complexity, logits_of
from softpool_det.classification.paper import Arm
from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", paper.TABLE_2)
def test_parameters_and_gflop_of_table_2(name):
    """All equal the paper's as printed, but for one: its GFLOP are near ResNet101's."""
    parameters, gflop = complexity(f"torchvision/{name}")
    expected_parameters, expected = paper.SIZES[name, paper.ORIGINAL]
    assert f"{parameters:.1f}" == f"{expected_parameters:.1f}"
    if name == "resnext101_32x8d":
        expected = 16.54
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


def test_poolings_that_no_image_reaches(monkeypatch):
    """Their channels cannot be found; they are not left out in silence."""

    def built(*_args, **_options):
        network = models.resnet18()
        network.layer1[0].unused = nn.MaxPool2d(2)
        return network

    monkeypatch.setitem(networks._LIBRARIES, "torchvision", built)
    with pytest.raises(ValueError, match=r"no image reaches layer1\.0\.unused"):
        build_network("torchvision/resnet18", 10, {}, [{"where": "all", "pool": "lip"}])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("googlenet", "googlenet-1378be20.pth"),
        pytest.param("inception_v3", "inception_v3_google-0cc3c7bd.pth", marks=pytest.mark.slow),
    ],
)
def test_torchvisions_weights_of_inceptions(name, file, monkeypatch, tmp_path):
    """Its files hold the heads that only help in training; the networks here do not."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trained = models.get_model(name, aux_logits=True, init_weights=False, transform_input=True)
    path = tmp_path / "hub" / "checkpoints" / file
    path.parent.mkdir(parents=True)
    torch.save(trained.state_dict(), path)
    network = build_network(f"torchvision/{name}", 1000, {"weights": "IMAGENET1K_V1"})
    state = network.state_dict()
    assert not [key for key in state if key.startswith(("aux", "Aux"))]
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in state.items())
    images = torch.rand(2, 3, 96, 96)
    assert torch.equal(network.eval()(images), trained.eval()(images))
    assert network.train()(images).shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "replace", "message"),
    [
        ("resnet18", [], "network must begin with one of torchvision/, timm/, detectron2/"),
        ("torchvision/resnet19", [], "torchvision has no network 'resnet19'; the nearest are resn"),
        ("timm/resnet19", [], "timm has no network 'resnet19'; the nearest are"),
        ("detectron2/resnet19", [], "'resnet19' is not a ResNet that Detectron2 builds"),
        ("torchvision/resnet18", [{"where": "stem", "pool": "soft", "size": 2}], "no argument 'si"),
        ("torchvision/resnet18", [{"where": ["layer9"]}], "'layer9' in where is not a module"),
    ],
)
def test_what_cannot_be_built(name, replace, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_network(name, 10, {}, replace)


@pytest.mark.parametrize("library", ["torchvision", "timm", "detectron2", "video"])
def test_options_that_a_network_does_not_take(library):
    name = f"{library}/{'r3d_10' if library == 'video' else 'resnet18'}"
    with torch.device("meta"), pytest.raises(ValueError, match=f"^network_options: {name}: .*'no'"):
        build_network(name, 10, {"no": 1})


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
