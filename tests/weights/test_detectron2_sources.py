"""Detectron2's own files: Caffe2's names, converted torchvision models, whole detectors."""

import pickle
import re

import numpy as np
import pytest
import torch
from converted import assert_same_logits, randomize
from torch import nn

from softpool_det.weights.architecture import Architecture, build_resnet
from softpool_det.weights.convert import read_weights, write_weights
from softpool_det.weights.metadata import MAX_POOL, SOFT_POOL

pytestmark = pytest.mark.usefixtures("one_thread")

BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
STATISTICS = {
    **{"weight": "gamma", "bias": "beta"},
    **{"running_mean": "running_mean", "running_var": "running_var"},
}


class Logits(nn.Module):
    def __init__(self, resnet):
        super().__init__()
        self.resnet = resnet

    def forward(self, images):
        return self.resnet(images)["linear"]


def resnet_of(name, **kwargs):
    return randomize(lambda: build_resnet(Architecture.from_name(name), 100, **kwargs))


def caffe2_names(resnet, classifier, statistics=STATISTICS):
    """Arrays under the names of the files that Detectron (1) read."""
    blobs = {}
    for key, value in resnet.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^stem\.conv1\.norm\.", "res_conv1_bn_", key)
        name = re.sub(r"^stem\.conv1\.weight", "conv1_w", name)
        name = re.sub(r"^linear\.(w|b).*", rf"{classifier}_\1", name)
        match = re.match(r"res(\d)\.(\d+)\.(\w+)\.(norm\.)?(\w+)$", name)
        if match:
            stage, block, layer, norm, what = match.groups()
            what = f"bn_{what}" if norm else "w"
            name = f"res{stage}_{block}_{BRANCHES[layer]}_{what}"
        if "_bn_" in name:
            prefix, _, what = name.partition("_bn_")
            if what not in statistics:
                continue
            name = f"{prefix}_bn_{statistics[what]}"
        blobs[name] = value.numpy()
    return blobs


def write_pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))
    return str(path)


def test_msra(tmp_path):
    """R-50.pkl: BGR, stride in the 1x1 convolutions, all statistics, `fc1000`, a bias before."""
    resnet = resnet_of("resnet50", stride_in_1x1=True)
    bias = torch.randn(64, generator=torch.Generator().manual_seed(3))
    blobs = caffe2_names(resnet, "fc1000") | {"conv1_b": bias.numpy()}
    resnet.stem.conv1.bias = nn.Parameter(bias)
    path = write_pickle(tmp_path / "R-50.pkl", blobs)
    weights = read_weights(path, trust_pickle=True)
    metadata = weights.metadata
    assert metadata.stride_in_1x1
    assert (metadata.source_format, metadata.stem_pool) == ("caffe2", MAX_POOL)
    assert (metadata.channel_order, metadata.pixel_std) == ("BGR", (1.0, 1.0, 1.0))
    assert metadata.pixel_mean == (103.53, 116.28, 123.675)
    assert_same_logits(Logits(resnet), weights)
    with pytest.raises(ValueError, match=r"take BGR images and have the stride in the 1x1"):
        write_weights(tmp_path / "back.pth", weights, "torchvision")
    assert [entry.name for entry in tmp_path.iterdir()] == ["R-50.pkl"]


def test_resnext_with_merged_statistics(tmp_path):
    """Older files: scale and shift alone, momenta beside them, all under `blobs`."""
    resnet = resnet_of("resnext50_32x4d")
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
    blobs = caffe2_names(resnet, "pred", {"weight": "s", "bias": "b"})
    blobs["conv1_w_momentum"] = np.zeros_like(blobs["conv1_w"])
    path = write_pickle(tmp_path / "X-50-32x4d.pkl", {"blobs": blobs, "cfg": "MODEL: ..."})
    weights = read_weights(path, trust_pickle=True)
    assert not weights.metadata.stride_in_1x1
    assert weights.metadata.pixel_std == (57.375, 57.12, 58.395)
    assert_same_logits(Logits(resnet), weights)


def test_converted_torchvision_pickle(tmp_path):
    """What Detectron2 makes of torchvision's weights: the classifier is called stem.fc."""
    resnet = resnet_of("resnet18")
    model = {
        key.replace("linear.", "stem.fc."): value.numpy()
        for key, value in resnet.state_dict().items()
    }
    content = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    path = write_pickle(tmp_path / "R-18.pkl", content)
    weights = read_weights(path, trust_pickle=True)
    assert (weights.metadata.channel_order, weights.metadata.stem_pool) == ("RGB", MAX_POOL)
    assert_same_logits(Logits(resnet), weights)


@pytest.mark.parametrize("prefix", ["backbone.bottom_up.", "backbone.", ""])
def test_checkpoint_of_a_detector(prefix, tmp_path):
    """The ResNet alone is taken; how it was trained has to be said."""
    resnet = resnet_of("resnet18", stem_pool=SOFT_POOL)
    model = {prefix + key: value for key, value in resnet.state_dict().items()}
    model |= {
        "head.cls_score.bias": torch.ones(2),
        "backbone.fpn_lateral3.bias": torch.ones(2),
    }
    path = tmp_path / "model_final.pth"
    torch.save({"model": model, "iteration": 3, "optimizer": {"state": {}}}, path)
    with pytest.raises(ValueError, match=r"does not say how its images .*--convention torchvision"):
        read_weights(str(path), stem_pool=SOFT_POOL)
    with pytest.raises(ValueError, match=r"Give --stem-pool softpool"):
        read_weights(str(path), convention="torchvision")
    weights = read_weights(str(path), convention="torchvision", stem_pool=SOFT_POOL)
    assert_same_logits(Logits(resnet), weights)


def test_frozen_norms_go_to_torchvision(tmp_path):
    """They count no batches; torchvision's strict loading does without."""
    torchvision = pytest.importorskip("torchvision")
    resnet = resnet_of("resnet18", norm="FrozenBN")
    assert not any("num_batches" in key for key in resnet.state_dict())
    path = tmp_path / "model.pth"
    torch.save(resnet.state_dict(), path)
    weights = read_weights(str(path), convention="torchvision", stem_pool=MAX_POOL)
    write_weights(tmp_path / "back.pth", weights, "torchvision")
    model = torchvision.models.resnet18(num_classes=100)
    model.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    assert_same_logits(model.eval(), weights)


def test_convolutional_body_alone_is_refused(tmp_path):
    """A C4 detector's backbone ends with res4."""
    state_dict = resnet_of("resnet50").state_dict()
    c4 = {f"backbone.{k}": v for k, v in state_dict.items() if not k.startswith(("res5", "linear"))}
    torch.save({"model": c4}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"res2 to res5 have 3, 4, 6, 0 bottleneck blocks"):
        read_weights(str(tmp_path / "model.pth"), convention="msra", stem_pool=MAX_POOL)
