"""The backbones beside Detectron2's own."""

import copy
import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import nn

from softpool_det import add_softpool_config
from softpool_det.modeling import POOLING_REGISTRY, PooledStem
from softpool_det.ops import SoftPool2d

BUILDERS = {
    "build_resnet_backbone": "build_softpool_resnet_backbone",
    "build_resnet_fpn_backbone": "build_softpool_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_retinanet_softpool_resnet_fpn_backbone",
}
IMAGE = ShapeSpec(channels=3)

pytestmark = pytest.mark.usefixtures("one_thread")


def stock_config(builder="build_resnet_backbone", **resnets):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.RESNETS.update({"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "NORM": "BN", **resnets})
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    first = 1 if "retinanet" in builder else 0
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES[first:]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def twin_config(stock, max_pool=False):
    cfg = copy.deepcopy(stock)
    add_softpool_config(cfg)
    cfg.MODEL.BACKBONE.NAME = BUILDERS[stock.MODEL.BACKBONE.NAME]
    if max_pool:
        cfg.MODEL.STEM_POOL.update(
            {"NAME": "MaxPool2d", "KERNEL_SIZE": 3, "PADDING": 1, "CEIL_MODE": False}
        )
    return cfg


def retinanet_config():
    cfg = stock_config("build_retinanet_resnet_fpn_backbone")
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.update({"NUM_CLASSES": 3, "NUM_CONVS": 1, "SCORE_THRESH_TEST": 0.0})
    return cfg


def mask_rcnn_config():
    cfg = stock_config("build_resnet_fpn_backbone")
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.update({"POST_NMS_TOPK_TRAIN": 50, "POST_NMS_TOPK_TEST": 20})
    cfg.MODEL.ROI_HEADS.update(
        {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3"], "SCORE_THRESH_TEST": 0.0}
    )
    cfg.MODEL.ROI_BOX_HEAD.update({"NAME": "FastRCNNConvFCHead", "NUM_FC": 1, "FC_DIM": 32})
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.update(
        {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 1, "CONV_DIM": 16}
    )
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    return cfg


def backbone(cfg, seed=0):
    seed_all_rng(seed)
    return build_backbone(cfg, IMAGE)


def resnet_of(model):
    return getattr(model, "bottom_up", model)


def training_example():
    generator = torch.Generator().manual_seed(3)
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 6.0, 60.0, 50.0]]))
    instances.gt_classes = torch.tensor([1])
    instances.gt_masks = PolygonMasks([[[8.0, 6.0, 60.0, 6.0, 60.0, 50.0]]])
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=generator)
    return {"image": image, "instances": instances}


@pytest.mark.parametrize("stock", BUILDERS)
def test_max_pool_backbone_is_the_stock_one(stock):
    cfg = stock_config(stock)
    reference, model = backbone(cfg), backbone(twin_config(cfg, max_pool=True))
    assert isinstance(resnet_of(model).stem, PooledStem)
    assert model.output_shape() == reference.output_shape()
    assert model.size_divisibility == reference.size_divisibility
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, features = reference(x), model(x)
    assert list(features) == list(expected)
    for name, feature in features.items():
        assert torch.equal(feature, expected[name])


@pytest.mark.parametrize("make_config", [retinanet_config, mask_rcnn_config])
def test_max_pool_detector_is_bit_identical(make_config):
    """Weights from one seed, losses, gradients, and detections after a step."""
    seen = []
    for cfg in (make_config(), twin_config(make_config(), max_pool=True)):
        seed_all_rng(5)
        model = build_model(cfg).train()
        initial = {name: value.clone() for name, value in model.state_dict().items()}
        seed_all_rng(6)
        with EventStorage():
            losses = model([training_example()])
        sum(losses.values()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        torch.optim.SGD(model.parameters(), lr=1e-4).step()
        with torch.no_grad():
            detections = model.eval()([training_example()])[0]["instances"]
        assert len(detections) > 0
        found = {"boxes": detections.pred_boxes.tensor, "scores": detections.scores}
        seen.append((initial, losses, gradients, found))
    for expected, actual in zip(*seen, strict=True):
        assert list(actual) == list(expected)
        for name, value in expected.items():
            assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("stock", BUILDERS)
def test_soft_pool_is_in_the_stem(stock):
    cfg = stock_config(stock, NORM="FrozenBN")
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    reference, model = backbone(cfg), backbone(twin_config(cfg))
    pool = resnet_of(model).stem.pool
    assert isinstance(pool, SoftPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (2, 2, 0, True)
    assert pool.gradient == "paper"
    x = torch.randn(1, 3, 64, 96)
    expected, features = reference(x), model(x)
    for name, feature in features.items():
        assert feature.shape == expected[name].shape
        assert not torch.allclose(feature, expected[name])
    sum(feature.sum() for feature in features.values()).backward()
    assert resnet_of(model).stem.conv1.weight.grad.abs().sum() > 0


def test_every_key_reaches_the_pooling():
    cfg = twin_config(stock_config())
    cfg.MODEL.STEM_POOL.update(
        {"KERNEL_SIZE": 3, "PADDING": 1, "CEIL_MODE": False, "GRADIENT": "exact"}
    )
    pool = backbone(cfg).stem.pool
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (3, 2, 1, False)
    assert pool.gradient == "exact"


@pytest.mark.parametrize(("learn_beta", "count"), [("no", 0), ("one", 1), ("channel", 32)])
@pytest.mark.parametrize("stock", BUILDERS)
def test_temperature(stock, learn_beta, count):
    cfg = stock_config(stock, STEM_OUT_CHANNELS=32)
    soft = twin_config(cfg)
    soft.MODEL.STEM_POOL.update({"BETA": 4.0, "LEARN_BETA": learn_beta})
    stem = resnet_of(backbone(soft)).stem
    torch.testing.assert_close(torch.as_tensor(stem.pool.beta).max().item(), 4.0)
    extra = {n: p for n, p in stem.named_parameters() if n.startswith("pool.")}
    assert sum(p.numel() for p in extra.values()) == count
    # FREEZE_AT is Detectron2's 2: the temperature is learned in spite of it.
    assert not stem.conv1.weight.requires_grad
    assert all(p.requires_grad for p in extra.values())


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"BETA": -1.0}, ValueError, "beta must be"),
        ({"LEARN_BETA": "all"}, ValueError, "learn_beta must be .*'all'"),
        ({"LEARN_BETA": "one", "NAME": "MaxPool2d"}, ValueError, "MaxPool2d has no temperature"),
    ],
)
def test_bad_temperature(changes, error, complaint):
    cfg = twin_config(stock_config())
    cfg.MODEL.STEM_POOL.update(changes)
    with pytest.raises(error, match=complaint):
        build_backbone(cfg, IMAGE)


def test_feature_sizes_are_the_stock_ones():
    cfg = stock_config()
    # Whatever follows these sees the same sizes as in the stock model.
    cfg.MODEL.RESNETS.OUT_FEATURES = ["stem", "res2", "res3"]
    reference, model = backbone(cfg).eval(), backbone(twin_config(cfg)).eval()
    with torch.no_grad():
        for height in range(1, 71):
            x = torch.randn(1, 3, height, 71 - height)
            expected = {name: feature.shape for name, feature in reference(x).items()}
            assert {name: feature.shape for name, feature in model(x).items()} == expected, x.shape


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("freeze_at", range(6))
def test_freeze_at(norm, freeze_at):
    cfg = stock_config(NORM=norm)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    reference, model = backbone(cfg), backbone(twin_config(cfg))
    assert _learns(model) == _learns(reference)
    assert _frozen_norms(model) == _frozen_norms(reference)
    if norm == "BN":
        assert ("stem.conv1.norm" in _frozen_norms(model)) == (freeze_at >= 1)


def _learns(model):
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _frozen_norms(model):
    modules = model.named_modules()
    return {name for name, module in modules if isinstance(module, FrozenBatchNorm2d)}


def test_freezing_afterwards():
    cfg = stock_config()
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    model = backbone(twin_config(cfg)).freeze(1)
    assert not any(parameter.requires_grad for parameter in model.stem.parameters())
    assert _frozen_norms(model) == {"stem.conv1.norm"}


@pytest.mark.parametrize("make_config", [retinanet_config, mask_rcnn_config])
def test_checkpoints_load_both_ways(make_config, tmp_path, caplog):
    seed_all_rng(1)
    stock = build_model(make_config())
    seed_all_rng(2)
    soft = build_model(twin_config(make_config()))
    for source, target in ((stock, soft), (soft, stock)):
        nn.init.normal_(source.backbone.bottom_up.stem.conv1.weight)
        target.load_state_dict(source.state_dict(), strict=True)
        nn.init.normal_(source.backbone.bottom_up.stem.conv1.weight)
        DetectionCheckpointer(source, str(tmp_path)).save("model")
        with caplog.at_level(logging.WARNING):
            DetectionCheckpointer(target).load(str(tmp_path / "model.pth"))
        # Other tests may have had Detectron2 set its own loggers to INFO.
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        for name, value in source.state_dict().items():
            assert torch.equal(target.state_dict()[name], value)


def test_missing_keys_say_what_to_call():
    cfg = stock_config()
    cfg.MODEL.BACKBONE.NAME = "build_softpool_resnet_backbone"
    with pytest.raises(KeyError, match=r"call softpool_det\.add_softpool_config\(cfg\)"):
        build_backbone(cfg, IMAGE)


@pytest.mark.parametrize("stock", BUILDERS)
def test_unknown_pooling(stock):
    cfg = twin_config(stock_config(stock))
    cfg.MODEL.STEM_POOL.NAME = "HardPool"
    with pytest.raises(KeyError, match="'HardPool'; the names are SoftPool, MaxPool, AvgPool,"):
        build_backbone(cfg, IMAGE)


def test_stride_must_keep_the_scale():
    cfg = twin_config(stock_config())
    cfg.MODEL.STEM_POOL.STRIDE = 1
    with pytest.raises(ValueError, match="must be 2, got 1"):
        build_backbone(cfg, IMAGE)


def test_pooling_of_others():
    @POOLING_REGISTRY.register()
    class AveragePool(nn.AvgPool2d):
        def __init__(self, kernel_size, stride, padding, ceil_mode, *, gradient):
            super().__init__(kernel_size, stride, padding, ceil_mode)

    try:
        cfg = twin_config(stock_config())
        cfg.MODEL.STEM_POOL.NAME = "AveragePool"
        model = backbone(cfg)
    finally:
        POOLING_REGISTRY._obj_map.pop("AveragePool")
    assert type(model.stem.pool) is AveragePool
    assert model(torch.randn(1, 3, 33, 35))["res2"].shape == (1, 64, 9, 9)
