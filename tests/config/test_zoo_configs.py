"""Detectron2's own configs with our backbones: a training step and inference of each."""

from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import nn

from softpool_det import add_softpool_config
from softpool_det.config.safe_yaml import merge_yaml
from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d

BUILDERS = {
    "build_resnet_backbone": "build_softpool_resnet_backbone",
    "build_resnet_fpn_backbone": "build_softpool_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_retinanet_softpool_resnet_fpn_backbone",
}
REPRESENTATIVES = [
    "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
]
CONFIGS = Path(model_zoo.get_config_file(REPRESENTATIVES[0])).parents[1]
# The others in quick_schedules/ are these again, for Detectron2's own tests.
ZOO = [
    str(path.relative_to(CONFIGS))
    for path in sorted(CONFIGS.glob("*/*.yaml"))
    if not path.name.startswith("Base") and path.parent.name != "quick_schedules"
]
SIZE = (64, 96)

pytestmark = pytest.mark.usefixtures("one_thread")


def zoo_config(name):
    """The zoo's config with our backbone, made small."""
    cfg = get_cfg()
    add_softpool_config(cfg)
    merge_yaml(cfg, model_zoo.get_config_file(name))
    cfg.MODEL.BACKBONE.NAME = BUILDERS[cfg.MODEL.BACKBONE.NAME]
    cfg.MODEL.update({"WEIGHTS": "", "DEVICE": "cpu"})
    # So that the stem learns.
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RPN.update({"POST_NMS_TOPK_TRAIN": 20, "POST_NMS_TOPK_TEST": 5})
    cfg.MODEL.ROI_HEADS.update({"BATCH_SIZE_PER_IMAGE": 8, "SCORE_THRESH_TEST": 0.0})
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    return cfg


def example(cfg):
    """One image in Detectron2's format, with every kind of target."""
    generator = torch.Generator().manual_seed(3)
    box = [8.0, 6.0, 60.0, 50.0]
    instances = Instances(SIZE)
    instances.gt_boxes = Boxes(torch.tensor([box]))
    instances.gt_classes = torch.tensor([0])
    polygons = PolygonMasks([[[8.0, 6.0, 60.0, 6.0, 60.0, 50.0]]])
    bits = cfg.INPUT.MASK_FORMAT == "bitmask"
    instances.gt_masks = BitMasks.from_polygon_masks(polygons, *SIZE) if bits else polygons
    points = torch.tensor([[20.0, 20.0, 2.0]]).repeat(cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, 1)
    instances.gt_keypoints = Keypoints(points[None])
    proposals = Instances(SIZE)
    proposals.proposal_boxes = Boxes(torch.tensor([box, [0.0, 0.0, 30.0, 30.0]]))
    proposals.objectness_logits = torch.tensor([2.0, 1.0])
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator)
    stuff = torch.zeros(SIZE, dtype=torch.long)
    fields = {"instances": instances, "proposals": proposals, "sem_seg": stuff}
    return {"image": image, "height": SIZE[0], "width": SIZE[1], **fields}


def check(cfg):
    seed_all_rng(1)
    model = build_model(cfg).train()
    bottom_up = getattr(model.backbone, "bottom_up", model.backbone)
    assert type(bottom_up.stem) is PooledStem
    assert type(bottom_up.stem.pool) is SoftPool2d
    for module in bottom_up.modules():
        # Trained statistics would keep activations in bounds.
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.fill_(0.4)
    inputs = [example(cfg)]
    with EventStorage():
        losses = model(inputs)
    assert losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert bottom_up.stem.conv1.weight.grad.abs().sum() > 0
    torch.optim.SGD(model.parameters(), lr=1e-6).step()
    with torch.no_grad():
        (result,) = model.eval()(inputs)
        check_result(cfg, result)
        check_features(model, bottom_up.stem)


def check_result(cfg, result):
    expected = {"GeneralizedRCNN": ["instances"], "RetinaNet": ["instances"]}
    expected |= {"ProposalNetwork": ["proposals"], "SemanticSegmentor": ["sem_seg"]}
    expected |= {"PanopticFPN": ["instances", "panoptic_seg", "sem_seg"]}
    assert sorted(result) == expected[cfg.MODEL.META_ARCHITECTURE]
    if "sem_seg" in result:
        assert result["sem_seg"].shape == (cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, *SIZE)
    if "proposals" in result:
        assert len(result["proposals"]) > 0
    if "instances" not in result:
        return
    found = result["instances"]
    assert found.image_size == SIZE
    count = len(found)
    assert 0 < count <= 5
    assert found.pred_boxes.tensor.shape == (count, 4)
    assert found.pred_classes.shape == found.scores.shape == (count,)
    if cfg.MODEL.MASK_ON:
        assert found.pred_masks.shape == (count, *SIZE)
    if cfg.MODEL.KEYPOINT_ON:
        assert found.pred_keypoints.shape == (count, 17, 3)


def check_features(model, stem):
    """They are others than with max pooling, in the same sizes."""
    x = torch.randn(1, 3, *SIZE)
    features = model.backbone(x)
    stem.pool = nn.MaxPool2d(3, 2, 1)
    for name, feature in model.backbone(x).items():
        assert feature.shape == features[name].shape
        assert not torch.allclose(feature, features[name])


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_representatives(name):
    check(zoo_config(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in REPRESENTATIVES])
def test_zoo(name):
    cfg = zoo_config(name)
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE):
        pytest.importorskip("detectron2._C", reason="deformable convolutions need detectron2._C")
    check(cfg)


def test_the_zoo_is_there():
    assert len(ZOO) > 40


@pytest.mark.parametrize("index", [0, 1])
def test_snippets_of_the_page(page, index):
    # The page's own way of reading the zoo is Detectron2's, tags included.
    namespace, output = page.run("Detectron2", index)
    assert output == (page.output("Detectron2") if index else "")
    assert type(namespace["model"].backbone.bottom_up.stem.pool) is SoftPool2d


def test_first_snippet_of_the_page(page):
    _, output = page.run("SoftPool in other detectors")
    assert output == page.output("SoftPool in other detectors")
