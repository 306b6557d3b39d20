"""docs/other-detectors.md, mayaku."""

import torch
from learning import check_other_values, check_training_step
from mayaku.cli._factory import build_detector
from mayaku.structures.boxes import Boxes
from mayaku.structures.instances import Instances

from softpool_det.ops import SoftPool2d


def test_faster_rcnn(page):
    namespace, output = page.run("mayaku")
    assert output == page.output("mayaku")
    model = namespace["model"].eval()
    stock = build_detector(namespace["cfg"]).eval()
    stock.load_state_dict(model.state_dict())
    assert type(model.backbone.bottom_up.stem[3]) is SoftPool2d
    image = torch.randint(0, 256, (3, 64, 96)).float()
    with torch.no_grad():
        features, expected = (m.backbone(image[None]) for m in (model, stock))
        (found,) = model([{"image": image}])
    check_other_values(features.values(), expected.values())
    found = found["instances"]
    assert len(found) > 0
    assert found.pred_boxes.tensor.shape == (len(found), 4)
    assert found.scores.shape == found.pred_classes.shape == (len(found),)
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 6.0, 60.0, 50.0]]))
    instances.gt_classes = torch.tensor([1])
    losses = model.train()([{"image": image, "instances": instances}])
    check_training_step(model, sum(losses.values()), model.backbone.bottom_up.stem[0].weight)
