"""Detectron2's inference without what torch.export cannot capture.

Detectron2 asks in Python how many candidates there are, and leaves each field of `Instances` with a
size of its own. Here the same steps keep these numbers symbolic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from detectron2.modeling import RetinaNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torchvision.ops import nms

Levels = Sequence[Tensor]


def capture(model: nn.Module, image: Tensor) -> ExportedProgram:
    """Capture the whole detector as an `ExportedProgram`, for images of any height and width.

    Args:
        model: one that :func:`softpool_det.export.write.check_exportable` passes, on the CPU.
        image: an example; its sides decide nothing, but must be above 256.
    """
    sizes = {"image": {1: Dim.DYNAMIC, 2: Dim.DYNAMIC}}
    # Of max pooling, torch.export would remember whether the example's sides were odd.
    halve = mock.patch.object(LastLevelMaxPool, "forward", lambda self, x: [x[:, :, ::2, ::2]])
    with torch.no_grad(), halve:
        detector = CapturableDetector(model).eval()
        return torch.export.export(detector, (image,), dynamic_shapes=sizes, strict=False)


class CapturableDetector(nn.Module):
    """A RetinaNet, or a Faster or Mask R-CNN, as a function of one image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute what the exported file's `OUTPUTS` say, for an image (3, H, W), uint8."""
        model = self.model
        size = image.shape[-2], image.shape[-1]
        divisor = model.backbone.padding_constraints.get("size_divisibility", 0)
        divisor = max(divisor or model.backbone.size_divisibility, 1)
        pixels = (image - model.pixel_mean) / model.pixel_std
        pixels = F.pad(pixels, (0, -size[1] % divisor, 0, -size[0] % divisor))
        features = model.backbone(pixels[None])
        if isinstance(model, RetinaNet):
            return _clipped(size, *_dense_detections(model, features))
        proposals = _proposals(model.proposal_generator, features, size)
        heads = model.roi_heads
        boxes, classes, scores = _clipped(size, *_box_detections(heads, features, proposals, size))
        if not heads.mask_on:
            return boxes, classes, scores
        levels = [features[name] for name in heads.mask_in_features]
        pooled = _pool(heads.mask_pooler, levels, boxes)
        logits = heads.mask_head.layers(pooled).narrow(0, 0, boxes.shape[0])
        if logits.shape[1] > 1:
            places = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
            logits = logits.gather(1, places)
        return boxes, classes, scores, logits[:, 0].sigmoid()


def _dense_detections(model: RetinaNet, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
    levels = [features[name] for name in model.head_in_features]
    logits, deltas = model._transpose_dense_predictions(model.head(levels), [model.num_classes, 4])
    found = []
    for anchors, logit, delta in zip(model.anchor_generator(levels), logits, deltas, strict=True):
        scores, places = _top(logit[0].sigmoid().flatten(), model.test_topk_candidates)
        rows = places // model.num_classes
        boxes = model.box2box_transform.apply_deltas(delta[0][rows], anchors.tensor[rows])
        found.append((boxes, places % model.num_classes, scores))
    boxes, classes, scores = (torch.cat(values) for values in zip(*found, strict=True))
    kept = torch.nonzero(scores > model.test_score_thresh)[:, 0]
    boxes, classes, scores = boxes[kept], classes[kept], scores[kept]
    kept = _suppress(boxes, classes, scores, model.test_nms_thresh)
    kept = _first(kept, model.max_detections_per_image)
    return boxes[kept], classes[kept], scores[kept]


def _proposals(rpn: RPN, features: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    levels = [features[name] for name in rpn.in_features]
    logits, deltas = rpn.rpn_head(levels)
    found = []
    for number, (anchors, logit, delta) in enumerate(
        zip(rpn.anchor_generator(levels), logits, deltas, strict=True)
    ):
        height, width = delta.shape[-2:]
        rows = delta.view(-1, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)
        scores, places = _top(logit[0].permute(1, 2, 0).flatten(), rpn.pre_nms_topk[False])
        boxes = rpn.box2box_transform.apply_deltas(rows[places], anchors.tensor[places])
        found.append((boxes, torch.full_like(places, number), scores))
    boxes, numbers, scores = (torch.cat(values) for values in zip(*found, strict=True))
    boxes, numbers, scores = _clipped(size, boxes, numbers, scores, rpn.min_box_size)
    kept = _suppress(boxes, numbers, scores, rpn.nms_thresh)
    return boxes[_first(kept, rpn.post_nms_topk[False])]


def _box_detections(
    heads: StandardROIHeads, features: dict[str, Tensor], proposals: Tensor, size: tuple[int, int]
) -> tuple[Tensor, ...]:
    levels = [features[name] for name in heads.box_in_features]
    predictor = heads.box_predictor
    logits, deltas = predictor(heads.box_head(_pool(heads.box_pooler, levels, proposals)))
    count = proposals.shape[0]
    logits, deltas = logits.narrow(0, 0, count), deltas.narrow(0, 0, count)
    boxes = predictor.box2box_transform.apply_deltas(deltas, proposals)
    scores = logits.sigmoid() if predictor.use_sigmoid_ce else logits.softmax(-1)
    probabilities = scores[:, :-1]
    places = torch.nonzero(probabilities > predictor.test_score_thresh)
    rows, classes = places[:, 0], places[:, 1]
    per_class = boxes.view(boxes.shape[0], -1, 4)
    columns = classes if per_class.shape[1] > 1 else torch.zeros_like(classes)
    boxes, scores = _clip(per_class[rows, columns], size), probabilities[rows, classes]
    kept = _suppress(boxes, classes, scores, predictor.test_nms_thresh)
    kept = _first(kept, predictor.test_topk_per_image)
    return boxes[kept], classes[kept], scores[kept]


def _pool(pooler: ROIPooler, levels: Levels, boxes: Tensor) -> Tensor:
    """`ROIPooler.forward` for the boxes of one image, and for one more: batch norms ask for any."""
    boxes = F.pad(boxes, (0, 0, 0, 1))
    rois = F.pad(boxes, (1, 0))  # the index of the image
    if len(levels) == 1:
        return pooler.level_poolers[0](levels[0], rois)
    # Detectron2's assign_boxes_to_levels; `Boxes` would ask whether there are any.
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    numbers = pooler.canonical_level + torch.log2(sides / pooler.canonical_box_size + 1e-8)
    numbers = numbers.floor().clamp(pooler.min_level, pooler.max_level) - pooler.min_level
    shape = (boxes.shape[0], levels[0].shape[1], *pooler.output_size)
    output = levels[0].new_zeros(shape)
    for number, (layer, level) in enumerate(zip(pooler.level_poolers, levels, strict=True)):
        rows = torch.nonzero(numbers == number)[:, 0]
        output = output.index_put((rows,), layer(level, rois[rows]))
    return output


def _top(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    return scores.topk(torch.sym_min(scores.shape[0], most))


def _first(kept: Tensor, most: int) -> Tensor:
    # narrow, for AOTInductor writes wrong C++ for a slice of a size that it does not know.
    return kept.narrow(0, 0, torch.sym_min(kept.shape[0], most)) if most >= 0 else kept


def _suppress(boxes: Tensor, groups: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Suppress boxes as torchvision's `batched_nms`: boxes of different groups do not meet."""
    # With a zero, for there may be no box.
    step = F.pad(boxes, (0, 0, 0, 1)).max() + 1
    # torchvision says to torch.export that two boxes or more are kept, which the program then
    # insists on: so there are two more, far from all others, and left out again.
    more = boxes.new_tensor([[-2e6, -2e6, -1e6, -1e6], [-4e6, -4e6, -3e6, -3e6]])
    moved = torch.cat((boxes + (groups * step)[:, None], more))
    kept = nms(moved, F.pad(scores, (0, 2), value=-torch.inf), threshold)
    return kept[torch.nonzero(kept < boxes.shape[0])[:, 0]]


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])
    return torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=1)


def _clipped(
    size: tuple[int, int], boxes: Tensor, groups: Tensor, scores: Tensor, smallest: float = 0
) -> tuple[Tensor, ...]:
    """Boxes inside the image, without those that are empty there."""
    boxes = _clip(boxes, size)
    kept = torch.nonzero(((boxes[:, 2:] - boxes[:, :2]) > smallest).all(1))[:, 0]
    return boxes[kept], groups[kept], scores[kept]
