"""docs/other-detectors.md, timm."""

import timm
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from learning import check_other_values, check_training_step

from softpool_det.ops import SoftPool2d


def test_features(page):
    namespace, output = page.run("timm")
    assert output == page.output("timm")
    model = namespace["model"].eval()
    stock = timm.create_model("resnet50", pretrained=False, features_only=True).eval()
    stock.load_state_dict(model.state_dict())
    assert type(model.maxpool) is SoftPool2d
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features, expected = model(x), stock(x)
    # The first feature comes before the pooling.
    assert torch.equal(features[0], expected[0])
    check_other_values(features[1:], expected[1:])
    loss = sum(feature.square().mean() for feature in model.train()(x))
    check_training_step(model, loss, model.conv1.weight)


def test_backbone_of_detectron2(page):
    heading = "A timm network as a Detectron2 backbone"
    try:
        namespace, output = page.run(heading)
    finally:
        BACKBONE_REGISTRY._obj_map.pop("build_timm_fpn_backbone", None)
    assert output == page.output(heading)
    model = namespace["model"].train()
    body = model.backbone.bottom_up.body
    assert type(body.maxpool) is SoftPool2d
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 6.0, 60.0, 50.0]]))
    instances.gt_classes = torch.tensor([1])
    with EventStorage():
        losses = model([{"image": image, "instances": instances}])
    check_training_step(model, sum(losses.values()), body.conv1.weight)
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    with torch.no_grad():
        (found,) = model.eval()([{"image": image, "height": 64, "width": 96}])
    found = found["instances"]
    assert len(found) > 0
    assert found.pred_boxes.tensor.shape == (len(found), 4)
    assert found.image_size == (64, 96)
