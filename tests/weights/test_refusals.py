"""What is not converted, and what the errors say."""

import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.resnet import Bottleneck, ResNet

from softpool_det.weights.convert import read_weights
from softpool_det.weights.variants import check_keys

pytestmark = pytest.mark.usefixtures("one_thread")

# The variant, and a key that tells.
BY_KEYS = {
    "resnet18d": ("a deep-stem variant", r"conv1\.0\.weight"),
    "resnet50c": ("a deep-stem variant", r"conv1\.0\.weight"),
    "resnet50s": ("a deep-stem variant", r"conv1\.0\.weight"),
    "resnet14t": ("a deep-stem variant", r"conv1\.0\.weight"),
    "seresnet18": ("an SE variant", r"layer1\.0\.se\.fc1\.weight"),
    "legacy_seresnet18": ("an SE variant", r"layer1\.0\.se_module\.fc1\.weight"),
    "ecaresnet26t": ("an ECA variant", r"layer1\.0\.se\.conv\.weight"),
    "resnetaa34d": ("a deep-stem variant", r"conv1\.0\.weight"),
    "resnet50_gn": ("a ResNet with group norm", r"bn1\.weight.*running_mean is"),
    "skresnet18": ("a selective-kernel variant", r"layer1\.0\.conv1\.paths"),
    "resnest14d": ("a ResNeSt", r"layer1\.0\.conv2\.bn0"),
    "res2net50_14w_8s": ("a Res2Net", r"layer1\.0\.convs\.0\.weight"),
    "resnetv2_50": ("a pre-activation ResNet", r"stages\.0\.blocks\.0"),
    "resnet50_clip": ("a ResNet of timm's ByobNet", r"stem\.conv1\.conv\.weight"),
}
ANTI_ALIASED = ("resnetblur18", "resnetblur50", "resnetaa50")


def saved(name, folder, filename="model.safetensors"):
    """A state dict of timm's model with weights of zero."""
    with torch.device("meta"):
        state_dict = timm.create_model(name).state_dict()
    path = folder / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.zeros_like(v, device="cpu") for key, v in state_dict.items()}, path)
    return str(path)


@pytest.mark.parametrize("name", BY_KEYS)
def test_variant_is_named_with_the_keys_that_tell(name):
    variant, key = BY_KEYS[name]
    with torch.device("meta"):
        keys = timm.create_model(name).state_dict()
    with pytest.raises(ValueError, match=rf"^this is {variant}.*by the keys .*{key}"):
        check_keys(keys)


def test_variant_in_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors: this is an SE variant"):
        read_weights(saved("seresnet18", tmp_path))


def test_average_pooling_in_shortcuts_alone():
    """-D without a deep stem."""
    with torch.device("meta"):
        model = ResNet(Bottleneck, [3, 4, 6, 3], avg_down=True)
    with pytest.raises(ValueError, match=r"this is a -D variant.*layer1\.0\.downsample\.2\.weight"):
        check_keys(model.state_dict())


@pytest.mark.parametrize("name", ANTI_ALIASED)
def test_anti_aliased_by_name(name, tmp_path):
    """Their keys are a plain ResNet's; the name of the file or of its cache folder tells."""
    with torch.device("meta"):
        plain = timm.create_model(re.sub("blur|aa", "", name)).state_dict()
        assert timm.create_model(name).state_dict().keys() == plain.keys()
    match = rf"{name}\S* is an anti-aliased variant"
    with pytest.raises(ValueError, match=match):
        read_weights(saved("resnet18", tmp_path, f"{name}.safetensors"))
    cached = f"models--timm--{name}.x/snapshots/1/model.safetensors"
    with pytest.raises(ValueError, match=match):
        read_weights(saved("resnet18", tmp_path, cached))
    with pytest.raises(ValueError, match=match):
        read_weights(saved("resnet18", tmp_path), architecture=name)


def test_anti_aliased_by_its_config(tmp_path):
    timm.models.save_for_hf(timm.create_model("resnetblur18"), tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match=r"resnetblur18 is an anti-aliased variant"):
        read_weights(str(tmp_path / "model.safetensors"))


def test_architecture_beats_the_name_of_the_file(tmp_path):
    path = saved("resnet18", tmp_path, "resnetblur_beaten.safetensors")
    assert read_weights(path, architecture="resnet18").metadata.architecture == "resnet18"


def test_depths_that_detectron2_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"res2 to res5 have 2, 2, 2, 2 bottleneck blocks; Detec"):
        read_weights(saved("resnet26", tmp_path))
    with pytest.raises(ValueError, match=r"'resnet26' is not a ResNet that Detectron2 builds"):
        read_weights(saved("resnet26", tmp_path), architecture="resnet26")


def test_other_architecture_than_named(tmp_path):
    path = saved("resnet34", tmp_path)
    with pytest.raises(
        ValueError, match=r"not the weights of resnet18: res2\.2\.conv1.* is of no use there.*more$"
    ):
        read_weights(path, architecture="resnet18")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("layer2.0.bn1.bias"), r"res3\.0\.conv1\.norm\.bias is missing$"),
        (lambda s: s.update(extra=torch.ones(2)), r"extra is of no use there$"),
        (lambda s: s.pop("fc.bias"), r"linear\.bias is missing$"),
    ],
)
def test_key_that_does_not_fit_is_named(change, complaint, tmp_path):
    state_dict = torchvision.models.resnet18().state_dict()
    change(state_dict)
    torch.save(state_dict, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"these are not the weights of resnet18: {complaint}"):
        read_weights(str(tmp_path / "model.pth"))


STEMS = {
    (64, 1, 7, 7): r"a ResNet for images of 1 channel, .* or repeat the weight three times and div",
    (64, 4, 7, 7): r"a ResNet for images of 4 channels, .*; Detectron2 reads three; take a plain R",
    (64, 3, 3, 3): r"a ResNet for small images \(CIFAR's\), .*; take a plain ResNet, such as",
    (256, 3, 7, 7): r"a ResNet of another width \(256 channels in the stem\), ",
    (64, 3, 3, 7, 7): r"a video ResNet, which Detectron2's ResNet is not: its first convolution is",
}


@pytest.mark.parametrize("shape", STEMS)
def test_other_stems(shape, tmp_path):
    state_dict = torchvision.models.resnet18().state_dict() | {"conv1.weight": torch.ones(shape)}
    torch.save(state_dict, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: this is {STEMS[shape]}"):
        read_weights(str(tmp_path / "model.pth"))


def test_grey_images_in_three_channels():
    """What the error says of one channel."""
    one, three = torch.nn.Conv2d(1, 2, 7), torch.nn.Conv2d(3, 2, 7)
    three.load_state_dict({"weight": one.weight.repeat(1, 3, 1, 1) / 3, "bias": one.bias})
    image = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(three(image.expand(-1, 3, -1, -1)), one(image))


# Without a ResNet of any kind in them.
NETWORKS = {
    "vit_tiny_patch16_224": "a Vision Transformer",
    "swin_tiny_patch4_window7_224": "a Swin Transformer",
    "convnext_atto": "a ConvNeXt",
    "hrnet_w18_small": "an HRNet",
    "densenet121": "a DenseNet",
    "efficientnet_b0": "an EfficientNet or MobileNet",
    "resnetv2_50": "a pre-activation ResNet",
    "resnet50_clip": "a ResNet of timm's ByobNet",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_are_named(name, tmp_path):
    """In the wrapper of a training program."""
    with torch.device("meta"):
        keys = timm.create_model(name).state_dict()
    path = tmp_path / "model.pth"
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": torch.ones(1) for key in keys}}, path)
    with pytest.raises(
        ValueError, match=rf"model\.pth: this is {NETWORKS[name]}.*; take a plain R"
    ):
        read_weights(str(path))


@pytest.mark.parametrize(
    ("keys", "network"),
    [
        (["backbone.stem.0.weight", "backbone.layer1.0.conv1.weight"], "a deep-stem variant"),
        (["visual.attnpool.c_proj.bias", "visual.layer1.0.conv1.weight"], "CLIP's ResNet"),
        (["stem.0.weight", "layer1.0.conv1.0.weight"], r"a video ResNet \(3D convolutions\)"),
        (["resnet.embedder.embedder.convolution.weight"], "a ResNet of Hugging Face's transform"),
        (["student.backbone.cls_token", "student.head.mlp.0.weight"], "a Vision Transformer"),
    ],
)
def test_networks_of_other_libraries(keys, network, tmp_path):
    torch.save({"state_dict": dict.fromkeys(keys, torch.ones(1))}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: this is {network}.*; take a plain ResNet"):
        read_weights(str(tmp_path / "model.pth"))


def test_other_models(tmp_path):
    torch.save(torchvision.models.squeezenet1_0().state_dict(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"no ResNet of torchvision, .*here: features\.0\.weight"):
        read_weights(str(tmp_path / "model.pth"))


def test_softpool_in_the_name_asks_for_the_pooling(tmp_path):
    """A published name with a pooling that the default would contradict."""
    path = tmp_path / "resnet18_SoftPool.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(ValueError, match=r"does not show which pooling is in its stem"):
        read_weights(str(path))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(2)], "holds a list, not a state dict"),
        ({"epoch": 3, "state_dict": {}}, r"holds no tensors; it has 'epoch', 'state_dict'"),
        (
            torchvision.models.resnet18(),
            "more than tensors and plain values.*only its state dict",
        ),
    ],
    ids=["list", "empty", "module"],
)
def test_no_state_dict(content, complaint, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=complaint):
        read_weights(str(tmp_path / "model.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(100)])
def test_no_checkpoint(suffix, content, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="or is not a checkpoint"):
        read_weights(str(path), trust_pickle=True)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.pth does not exist"):
        read_weights(str(tmp_path / "model.pth"))
