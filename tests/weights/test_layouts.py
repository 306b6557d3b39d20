"""ResNets among other things in a file: wrappers, averages, self-supervised methods, detectors."""

import argparse
import copy
import re

import pytest
import torch
import torchvision
from converted import assert_same_logits, randomize
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from softpool_det.weights.convert import describe, read_weights
from softpool_det.weights.layouts import choose, find_entries
from softpool_det.weights.metadata import MAX_POOL
from softpool_det.weights.names import rename, torchvision_to_detectron2

pytestmark = pytest.mark.usefixtures("one_thread")

with torch.device("meta"):
    PLAIN = torchvision.models.resnet18(num_classes=8).state_dict()
    HEAD = {f"{i}.{what}": torch.ones(8) for i in (0, 2) for what in ("weight", "bias")}
BACKBONE = {key: value for key, value in PLAIN.items() if not key.startswith("fc.")}


def under(prefix, tensors=PLAIN):
    return {prefix + key: value for key, value in tensors.items()}


def children(prefix):
    """The names of `nn.Sequential(*list(resnet.children())[:-1])`."""
    with torch.device("meta"):
        resnet = torchvision.models.resnet18()
        return under(prefix, nn.Sequential(*list(resnet.children())[:-1]).state_dict())


# The content of a file, the entry that is taken, the others; whether it keeps its classifier.
WRAPPED = {
    "bare": (PLAIN, "", [], True),
    "torchvision": (
        {"model": PLAIN, "model_ema": under("module.") | {"n_averaged": torch.tensor(3)}},
        *("model", ["model_ema"], True),
    ),
    "timm": (
        {"epoch": 3, "state_dict": under("module."), "state_dict_ema": under("module.")},
        *("state_dict", ["state_dict_ema"], True),
    ),
    "compiled": ({"model_state_dict": under("_orig_mod.module.")}, "model_state_dict", [], True),
    "average first": (
        {"ema_state_dict": PLAIN, "model_state_dict": dict(PLAIN)},
        *("model_state_dict", ["ema_state_dict"], True),
    ),
    "average inside": (
        {"state_dict": PLAIN | under("ema_model.")},
        *("state_dict", ["state_dict.ema_model"], True),
    ),
    "average alone": ({"ema": {"shadow": under("module.")}}, "ema.shadow", [], True),
    "net": ({"net": PLAIN}, "net", [], True),
    "network": ({"network": under("module.")}, "network", [], True),
    "lightning": (
        {"state_dict": under("model.") | {"criterion.weight": torch.ones(8)}, "loops": {}},
        *("state_dict.model", [], True),
    ),
    "mmpretrain": (
        {
            "meta": {"epoch": 100},
            "state_dict": under("backbone.", BACKBONE)
            | {f"head.fc.{what}": PLAIN[f"fc.{what}"] for what in ("weight", "bias")},
        },
        *("state_dict.backbone", [], True),
    ),
    "torchvision's detectors": (
        {"model": under("backbone.body.", BACKBONE) | {"rpn.head.conv.weight": torch.ones(8)}},
        *("model.backbone.body", [], False),
    ),
}
SELF_SUPERVISED = {
    "MoCo": (
        {
            "state_dict": under("module.encoder_q.")
            | under("module.encoder_k.")
            | {"module.queue": torch.ones(8), "module.queue_ptr": torch.tensor(1)}
        },
        *("state_dict.encoder_q", ["state_dict.encoder_k"]),
    ),
    "MoCo, version 3": (
        {
            "state_dict": under("module.base_encoder.", BACKBONE | under("fc.", HEAD))
            | under("module.momentum_encoder.", BACKBONE | under("fc.", HEAD))
            | under("module.predictor.", HEAD)
        },
        *("state_dict.base_encoder", ["state_dict.momentum_encoder"]),
    ),
    "SimSiam": (
        {
            "state_dict": under("module.encoder.", BACKBONE | under("fc.", HEAD))
            | under("module.predictor.", HEAD)
        },
        *("state_dict.encoder", []),
    ),
    "BYOL": (
        under("online_encoder.net.")
        | under("target_encoder.net.")
        | under("online_predictor.net.", HEAD),
        *("online_encoder.net", ["target_encoder.net"]),
    ),
    "DINO": (
        {
            name: under(f"{module}backbone.", BACKBONE) | under(f"{module}head.mlp.", HEAD)
            for name, module in (("student", "module."), ("teacher", ""))
        },
        *("teacher.backbone", ["student.backbone"]),
    ),
    "SwAV": (
        under("module.", BACKBONE | under("projection_head.", HEAD) | under("prototypes.", HEAD)),
        *("", []),
    ),
    "Barlow Twins": (
        {
            "model": under("module.backbone.", BACKBONE)
            | under("module.projector.", HEAD)
            | under("module.bn.", {"running_mean": torch.ones(8)})
        },
        *("model.backbone", []),
    ),
    "SimCLR with children": (
        {"state_dict": children("backbone.") | under("projection_head.layers.", HEAD)},
        *("state_dict.backbone", []),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers(name):
    content, expected, others, classifier = WRAPPED[name]
    entries = find_entries(content)
    entry = choose(entries)
    assert (entry.name, entry.method) == (expected, "")
    assert [e.name for e in entries if e is not entry] == others
    assert entry.tensors.keys() == (PLAIN if classifier else BACKBONE).keys()


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_self_supervised_methods(name):
    """Their backbone is a plain ResNet; `fc` is a projection, which goes."""
    content, expected, others = SELF_SUPERVISED[name]
    entries = find_entries(content)
    entry = choose(entries)
    assert entry.name == expected
    assert name.partition(" with")[0].partition(",")[0] in entry.method
    assert [e.name for e in entries if e is not entry] == others
    assert entry.tensors.keys() == BACKBONE.keys()
    assert not any("layer1" in key for key in entry.left_out)


def test_names_of_entries():
    content = {"student": under("backbone."), "teacher": under("backbone."), "net": PLAIN}
    entries = find_entries(content)
    for name in ("teacher", "teacher.backbone"):
        assert choose(entries, name).name == "teacher.backbone"
    names = re.escape("'student.backbone', 'teacher.backbone'")
    with pytest.raises(ValueError, match=rf"has several entries 'backbone'; .* of: {names}$"):
        choose(entries, "backbone")
    with pytest.raises(ValueError, match=rf"has no entry 'ema'; .* one of: {names}, 'net'$"):
        choose(entries, "ema")
    # Nothing tells which of two trained networks is meant.
    with pytest.raises(ValueError, match=r"holds several ResNets; .*: 'teacher\.backbone', 'net'$"):
        choose(entries)


def test_shared_mappings_are_looked_at_once():
    """2**3000 of them, were they followed."""
    content = {"model": PLAIN}
    for _ in range(3000):
        content = {"a": content, "b": content}
    assert not find_entries(content)
    assert len(find_entries({"a": {"model": PLAIN}, "b": {"c": {"model": PLAIN}}})) == 1


@pytest.fixture(scope="module")
def model():
    return randomize(lambda: torchvision.models.resnet18(num_classes=8))


def test_average_of_torchvisions_reference(model, tmp_path):
    """Their checkpoint, arguments included; its two networks differ, and each can be taken."""
    average = AveragedModel(copy.deepcopy(model), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for value in average.module.parameters():
        value.data *= 1.01
    args = argparse.Namespace(lr=0.1, data_path="imagenet", model_ema=True)
    path = tmp_path / "checkpoint.pth"
    content = {"model": model.state_dict(), "model_ema": average.state_dict()}
    torch.save(content | {"optimizer": {}, "epoch": 1, "args": args}, path)
    weights = read_weights(str(path), stem_pool=MAX_POOL)
    assert_same_logits(model, weights)
    assert "\ntook model; the file also holds model_ema (--entry selects them)\n" in describe(
        weights
    )
    weights = read_weights(str(path), stem_pool=MAX_POOL, entry="model_ema")
    assert_same_logits(average.module.eval(), weights)
    text = describe(weights)
    assert "\ntook model_ema; the file also holds model (--entry selects them)\n" in text
    assert "\ntensors left out: 1 (n_averaged)\n" in text
    with pytest.raises(ValueError, match=r"checkpoint\.pth: has no entry 'ema'; .*'model', 'mode"):
        read_weights(str(path), stem_pool=MAX_POOL, entry="ema")


def test_self_supervised_file(model, tmp_path):
    path = tmp_path / "moco.pth.tar"
    state_dict = under("module.encoder_q.", model.state_dict()) | {"module.queue": torch.ones(8, 9)}
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state_dict}, path)
    weights = read_weights(str(path), stem_pool=MAX_POOL)
    expected = rename(dict(model.state_dict()), torchvision_to_detectron2)
    assert weights.metadata.num_classes == 0
    assert weights.tensors.keys() == expected.keys() - {"linear.weight", "linear.bias"}
    assert all(torch.equal(value, expected[key]) for key, value in weights.tensors.items())
    text = describe(weights)
    assert "\nself-supervised (MoCo): the backbone without its projection head\n" in text
    assert "\ntensors left out: 3 (module.encoder_q.fc.weight, " in text


def test_which_pooling_a_wrapped_network_has_is_asked(model, tmp_path):
    path = tmp_path / "lightning.ckpt"
    torch.save({"state_dict": under("model.", model.state_dict())}, path)
    with pytest.raises(
        ValueError, match=r"does not show which pooling is in its stem\. Give --stem-pool"
    ):
        read_weights(str(path))
