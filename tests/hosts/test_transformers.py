"""docs/other-detectors.md, Transformers."""

import pytest
import torch
from learning import check_other_values, check_training_step
from transformers import DetrImageProcessor, RTDetrImageProcessor

from softpool_det.ops import SoftPool2d

STEMS = {
    "RTDetrForObjectDetection": "embedder.embedder.0.convolution",
    "DetrForObjectDetection": "embedder.embedder.convolution",
}


@pytest.mark.parametrize(
    ("index", "processor"), [(0, RTDetrImageProcessor), (1, DetrImageProcessor)]
)
def test_detectors(page, index, processor):
    namespace, output = page.run("Transformers", index)
    assert output == page.output("Transformers", index)
    model = namespace["model"].eval()
    stock = type(model)(model.config).eval()
    stock.load_state_dict(model.state_dict())
    backbone = model.model.backbone.model
    assert type(backbone.embedder.pooler) is SoftPool2d
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        expected = stock.model.backbone.model(images).feature_maps
        check_other_values(backbone(images).feature_maps, expected)
        found = model(pixel_values=images)
    sizes = [(128, 128)] * 2
    for image in processor().post_process_object_detection(found, 0.0, sizes):
        count = len(image["boxes"])
        assert count > 0
        assert image["boxes"].shape == (count, 4)
        assert image["scores"].shape == image["labels"].shape == (count,)
        assert ((image["scores"] >= 0) & (image["scores"] <= 1)).all()
    target = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.4]])}
    loss = model.train()(pixel_values=images, labels=[target] * 2).loss
    weight = backbone.get_submodule(STEMS[type(model).__name__]).weight
    check_training_step(model, loss, weight)
