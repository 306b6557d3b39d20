"""Names, shapes and models of the ResNets that Detectron2 builds."""

import pytest
import torch
from detectron2.modeling import ResNet
from hypothesis import given, settings
from hypothesis import strategies as st

from softpool_det.config import load_config
from softpool_det.training import Trainer
from softpool_det.weights.architecture import BLOCKS, Architecture, build_resnet, check_state_dict

BASE = "configs/Base-RetinaNet.yaml"
NAMES = {
    "resnet18": (18, 1, 64),
    "resnet152": (152, 1, 64),
    "resnext50_32x4d": (50, 32, 4),
    "resnext101_64x4d": (101, 64, 4),
    "wide_resnet50_2": (50, 1, 128),
    "wide_resnet101_2": (101, 1, 128),
}


@settings(deadline=None, max_examples=6)
@given(
    st.sampled_from([50, 101, 152]),
    st.one_of(
        st.tuples(st.sampled_from([2, 8, 32, 64]), st.sampled_from([4, 8, 16, 64])),
        st.tuples(st.just(1), st.sampled_from([64, 96, 128, 256])),
    ),
)
def test_name_and_shapes_tell_the_same(depth, widths):
    architecture = Architecture(depth, *widths)
    assert Architecture.from_name(architecture.name) == architecture
    with torch.device("meta"):
        state_dict = build_resnet(architecture, 5).state_dict()
    assert Architecture.infer(state_dict) == architecture
    assert check_state_dict(state_dict, architecture) == 5


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_names(name):
    assert Architecture.from_name(name) == Architecture(*NAMES[name])
    assert Architecture(*NAMES[name]).name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "resnet", "resnet26", "resnet200", "resnet50d", "resnet50_2", "resnet50_32x4d"),
        *("resnext50", "resnext18_32x4d", "resnext50_1x64d", "wide_resnet50", "wide_resnet18_2"),
        *("wide_resnet50_1", "seresnet50", "resnetv2_50", "vgg16"),
    ],
)
def test_other_names(name):
    with pytest.raises(ValueError, match=rf"'{name}' is not a ResNet that Detectron2 builds"):
        Architecture.from_name(name)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_config_builds_that_model(name, stride_in_1x1, pytestconfig):
    """Detectron2's own builder, given what `config` says, gives the same modules."""
    architecture = Architecture.from_name(name)
    keys = architecture.config() | {"STRIDE_IN_1X1": stride_in_1x1, "NORM": "BN"}
    overrides = [part for key, value in keys.items() for part in (f"MODEL.RESNETS.{key}", value)]
    cfg = load_config(str(pytestconfig.rootpath / BASE), [*overrides, "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        theirs = Trainer.build_model(cfg).backbone.bottom_up
        ours = build_resnet(architecture, stride_in_1x1=stride_in_1x1)
    del ours.linear, ours.avgpool
    assert repr(ours) == repr(theirs)


def test_blocks_are_detectron2s():
    """As many as its own stages of all depths have."""
    for depth, blocks in BLOCKS.items():
        with torch.device("meta"):
            stages = ResNet.make_default_stages(depth)
        assert tuple(map(len, stages)) == blocks
