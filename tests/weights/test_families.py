"""Converted weights give the logits of the model that they come from, family by family."""

import pytest
import timm
import torch
import torchvision
from converted import assert_same_logits, randomize
from safetensors.torch import load_file, save_file
from torch import nn

from softpool_det.ops import SoftPool2d
from softpool_det.weights.convert import read_weights, write_weights
from softpool_det.weights.metadata import MAX_POOL, SOFT_POOL, read_metadata

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ["resnet18", "resnet50"]
LARGE = [
    "resnet34",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "resnet101",
    "resnet152",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet101_2",
]


def slow(names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def folder(tmp_path):
    """A folder whose files do not outlive the test: they are hundreds of megabytes."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


def torchvision_model(name, seed=0):
    return randomize(lambda: torchvision.models.get_model(name, weights=None), seed)


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key
        assert value.dtype == right[key].dtype


@pytest.mark.parametrize("name", [*SMALL, *slow(LARGE)])
def test_torchvision(name, folder):
    """To Detectron2 with the same logits, and back with the same bits."""
    model = torchvision_model(name)
    path = folder / "source.pth"
    torch.save(model.state_dict(), path)
    weights = read_weights(str(path))
    assert weights.metadata.architecture == name
    assert weights.metadata.stem_pool == MAX_POOL
    assert_same_logits(model, weights)

    converted = folder / "converted.safetensors"
    write_weights(converted, weights)
    path.unlink()
    back = read_weights(str(converted))
    assert back.metadata.source_format == "detectron2"
    write_weights(folder / "back.pth", back, "torchvision")
    assert_equal(torch.load(folder / "back.pth", weights_only=True), dict(model.state_dict()))


@pytest.mark.parametrize("name", [*SMALL, *slow(LARGE)])
def test_timm(name, folder):
    model = randomize(lambda: timm.create_model(name), seed=1)
    path = folder / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    weights = read_weights(str(path))
    assert (weights.metadata.architecture, weights.metadata.source_format) == (name, "timm")
    assert_same_logits(model, weights)


@pytest.mark.parametrize("wrapper", ["state_dict", "module", "both"])
def test_authors_checkpoint(wrapper, folder):
    """What a training program on several GPUs saves of torchvision's model with SoftPool."""
    model = torchvision_model("resnet18")
    model.maxpool = SoftPool2d(kernel_size=2, stride=2)
    state_dict = (model if wrapper == "state_dict" else nn.DataParallel(model)).state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict()
    checkpoint = {"epoch": 90, "arch": "resnet18", "best_acc1": torch.tensor(71.27)}
    checkpoint |= {"state_dict": state_dict, "optimizer": optimizer}
    path = folder / "model_best.pth.tar"
    torch.save(state_dict if wrapper == "module" else checkpoint, path)

    with pytest.raises(
        ValueError,
        match=r"does not show which pooling is in its stem\. Give --stem-pool softpool \(2x2",
    ):
        read_weights(str(path))
    weights = read_weights(str(path), stem_pool=SOFT_POOL)
    assert weights.metadata.stem_pool == SOFT_POOL
    assert_same_logits(model, weights)
    # The pooling matters: the same weights with the other one are another function.
    other = read_weights(str(path), stem_pool=MAX_POOL)
    with pytest.raises(AssertionError):
        assert_same_logits(model, other)


@pytest.mark.parametrize("learn_beta", ["one", "channel"])
def test_learned_temperature(learn_beta, folder):
    """It is among the weights: to Detectron2 with the same logits, and back with the same bits."""
    model = torchvision_model("resnet18")
    model.maxpool = SoftPool2d(2, 2, beta=4.0, learn_beta=learn_beta, num_channels=64)
    nn.init.normal_(model.maxpool.log_beta, generator=torch.Generator().manual_seed(0))
    path = folder / "source.pth"
    torch.save(model.state_dict(), path)
    with pytest.raises(
        ValueError, match=r"does not show which pooling is in its stem\. Give --stem-pool softpool"
    ):
        read_weights(str(path))
    with pytest.raises(ValueError, match="a learned beta of SoftPool is among the weights"):
        read_weights(str(path), stem_pool=MAX_POOL)
    weights = read_weights(str(path), stem_pool=SOFT_POOL)
    assert weights.metadata.stem_pool.learn_beta == learn_beta
    assert_same_logits(model, weights)

    write_weights(folder / "back.safetensors", weights, "torchvision")
    assert_equal(load_file(folder / "back.safetensors"), dict(model.state_dict()))
    again = read_weights(str(folder / "back.safetensors"))
    assert again.metadata.stem_pool == weights.metadata.stem_pool
    assert_equal(again.tensors, weights.tensors)


def test_authors_bottlenecks(folder):
    model = torchvision_model("resnet50")
    model.maxpool = SoftPool2d(kernel_size=2, stride=2)
    path = folder / "model.pth"
    torch.save({"state_dict": nn.DataParallel(model).state_dict()}, path)
    assert_same_logits(model, read_weights(str(path), stem_pool=SOFT_POOL))


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_published_timm_folder(filename, folder):
    """timm's files on a hub have a config.json beside them, with names and statistics."""
    tag = "resnet34.ra4_e3600_r224_in1k"
    model = timm.create_model(tag, num_classes=7)
    timm.models.save_for_hf(model, folder, safe_serialization="both")
    metadata = read_weights(str(folder / filename)).metadata
    assert (metadata.architecture, metadata.source_format) == ("resnet34", "timm")
    assert metadata.num_classes == 7
    # This one is trained with (x - 0.5) / 0.5.
    assert metadata.pixel_mean == metadata.pixel_std == (127.5, 127.5, 127.5)
    assert metadata.channel_order == "RGB"


def test_without_classifier(folder):
    model = timm.create_model("resnet18", num_classes=0)
    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    weights = read_weights(str(path))
    assert weights.metadata.num_classes == 0
    write_weights(folder / "back.safetensors", weights, "torchvision")
    assert_equal(load_file(folder / "back.safetensors"), dict(model.state_dict()))


def test_torchvision_safetensors_keep_the_metadata(folder):
    """Through torchvision and back: what was said once need not be said again."""
    model = torchvision_model("resnet18")
    torch.save({"state_dict": model.state_dict()}, folder / "model.pth")
    weights = read_weights(str(folder / "model.pth"), stem_pool=SOFT_POOL)
    path = folder / "torchvision.safetensors"
    write_weights(path, weights, "torchvision")
    assert read_metadata(path) == weights.metadata
    assert_equal(load_file(path), dict(model.state_dict()))
    again = read_weights(str(path))
    assert again.metadata.stem_pool == SOFT_POOL
    assert_equal(again.tensors, weights.tensors)
    with pytest.raises(ValueError, match=r"its metadata say SoftPool2d 2x2/2/0 in the stem, not"):
        read_weights(str(path), stem_pool=MAX_POOL)
