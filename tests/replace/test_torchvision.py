"""docs/other-detectors.md, torchvision: the snippets, a training step and detections."""

import pytest
import torch
from torchvision.models import detection

from softpool_det.ops import SoftPool2d

pytestmark = pytest.mark.usefixtures("one_thread")

DETECTORS = [
    "retinanet_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "fcos_resnet50_fpn",
]


def check(model, stock, masks=False):
    """One training step and detections of `model`; its features differ from those of `stock`."""
    for detector in (model, stock):
        detector.transform.min_size, detector.transform.max_size = (64,), 96
    stock.load_state_dict(model.state_dict())
    assert type(model.backbone.body.maxpool) is SoftPool2d
    image = torch.rand(3, 64, 80)
    with torch.no_grad():
        features, expected = (m.eval().backbone(image[None]) for m in (model, stock))
    for name, feature in features.items():
        assert feature.shape == expected[name].shape
        assert not torch.allclose(feature, expected[name])
    target = {
        "boxes": torch.tensor([[8.0, 6.0, 60.0, 50.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 64, 80, dtype=torch.uint8),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = model.train()([image], [target])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    weight = model.backbone.body.conv1.weight
    before = weight.clone()
    optimizer.step()
    assert not torch.equal(weight, before)
    with torch.no_grad():
        (found,) = model.eval()([image])
    count = len(found["boxes"])
    assert found["boxes"].shape == (count, 4)
    assert found["labels"].shape == found["scores"].shape == (count,)
    assert ((found["scores"] >= 0) & (found["scores"] <= 1)).all()
    if masks:
        assert found["masks"].shape == (count, 1, 64, 80)


@pytest.mark.parametrize("name", DETECTORS)
def test_ready_made_detectors(page, name):
    namespace, output = page.run("torchvision", 0, {"retinanet_resnet50_fpn": name})
    assert output == page.output("torchvision", 0)
    stock = getattr(detection, name)(weights=None, weights_backbone=None)
    check(namespace["model"], stock, masks=name.startswith("mask"))


def test_backbone_of_ones_own(page):
    namespace, output = page.run("torchvision", 1)
    assert output == page.output("torchvision", 1)
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5
    )
    check(namespace["model"], detection.FasterRCNN(backbone, num_classes=5))
