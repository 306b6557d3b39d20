"""Detectron2's inference of a batch, without what cannot be traced.

Detectron2 finds boxes image by image, in loops of Python, asks there how many candidates there are,
and leaves each field of `Instances` with a size of its own. Here the same steps take all images at
once, know each candidate's image by its number, and keep all sizes symbolic.
"""

from __future__ import annotations

import sys
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
# Boxes (K, 4), their classes or levels (K,), their scores, and the numbers of their images.
Found = Sequence[Tensor]


def capture(model: nn.Module, images: Tensor, image_sizes: Tensor) -> ExportedProgram:
    """Capture the whole detector as an `ExportedProgram`, for images of any number and size.

    Args:
        model: one that :func:`softpool_det.export.write.check_exportable` passes, on the CPU.
        images, image_sizes: an example, of two images or more, with sides above 256.
    """
    sizes = {"images": dict.fromkeys((0, 2, 3), Dim.DYNAMIC), "image_sizes": {0: Dim.DYNAMIC}}
    # Of max pooling, torch.export would remember whether the example's sides were odd.
    halve = mock.patch.object(LastLevelMaxPool, "forward", lambda self, x: [x[:, :, ::2, ::2]])
    with torch.no_grad(), halve:
        detector = BatchDetector(model).eval()
        example = (images, image_sizes)
        return torch.export.export(detector, example, dynamic_shapes=sizes, strict=False)


class BatchDetector(nn.Module):
    """A RetinaNet, or a Faster or Mask R-CNN, as a function of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor, image_sizes: Tensor) -> tuple[Tensor, ...]:
        """Compute what the exported file's `OUTPUTS` say.

        Args:
            images: (N, 3, H, W) uint8, with anything to the right of and below each image.
            image_sizes: (N, 2) int64, their heights and widths.
        """
        model = self.model
        features = model.backbone(self._pixels(images, image_sizes))
        if isinstance(model, RetinaNet):
            found = _dense_detections(model, features)
        else:
            proposals = _proposals(model.proposal_generator, features, image_sizes)
            found = _box_detections(model.roi_heads, features, *proposals, image_sizes)
        boxes, classes, scores, numbers = _clipped(image_sizes, found)
        if isinstance(model, RetinaNet) or not model.roi_heads.mask_on:
            return boxes, classes, scores, numbers
        heads = model.roi_heads
        levels = [features[name] for name in heads.mask_in_features]
        pooled = _pool(heads.mask_pooler, levels, boxes, numbers)
        logits = heads.mask_head.layers(pooled).narrow(0, 0, boxes.shape[0])
        if logits.shape[1] > 1:
            places = classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
            logits = logits.gather(1, places)
        return boxes, classes, scores, numbers, logits[:, 0].sigmoid()

    def _pixels(self, images: Tensor, image_sizes: Tensor) -> Tensor:
        """Normalized, and as Detectron2 pads them: with zeros after that."""
        model, height, width = self.model, images.shape[-2], images.shape[-1]
        divisor = model.backbone.padding_constraints.get("size_divisibility", 0)
        divisor = max(divisor or model.backbone.size_divisibility, 1)
        below = torch.arange(height, device=images.device) < image_sizes[:, :1]
        right = torch.arange(width, device=images.device) < image_sizes[:, 1:]
        inside = (below[:, :, None] & right[:, None, :])[:, None]
        pixels = (images - model.pixel_mean) / model.pixel_std
        pixels = torch.where(inside, pixels, torch.zeros_like(pixels))
        return F.pad(pixels, (0, -width % divisor, 0, -height % divisor))


def _dense_detections(model: RetinaNet, features: dict[str, Tensor]) -> Found:
    levels = [features[name] for name in model.head_in_features]
    logits, deltas = model._transpose_dense_predictions(model.head(levels), [model.num_classes, 4])
    found = []
    for anchors, logit, delta in zip(model.anchor_generator(levels), logits, deltas, strict=True):
        scores, places, numbers = _top(logit.sigmoid().flatten(1), model.test_topk_candidates)
        rows = places // model.num_classes
        boxes = model.box2box_transform.apply_deltas(delta[numbers, rows], anchors.tensor[rows])
        found.append((boxes, places % model.num_classes, scores, numbers))
    candidates = [torch.cat(values) for values in zip(*found, strict=True)]
    kept = torch.nonzero(candidates[2] > model.test_score_thresh)[:, 0]
    candidates = [values[kept] for values in candidates]
    limits = model.test_nms_thresh, model.max_detections_per_image
    return _suppress(levels[0].shape[0], candidates, *limits)


def _proposals(rpn: RPN, features: dict[str, Tensor], image_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes, and the numbers of their images."""
    levels = [features[name] for name in rpn.in_features]
    logits, deltas = rpn.rpn_head(levels)
    found = []
    for level, (anchors, logit, delta) in enumerate(
        zip(rpn.anchor_generator(levels), logits, deltas, strict=True)
    ):
        scores, places, numbers = _top(
            logit.permute(0, 2, 3, 1).flatten(1), rpn.pre_nms_topk[False]
        )
        rows = delta.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)[numbers, places]
        boxes = rpn.box2box_transform.apply_deltas(rows, anchors.tensor[places])
        found.append((boxes, torch.full_like(places, level), scores, numbers))
    candidates = [torch.cat(values) for values in zip(*found, strict=True)]
    inside = _clipped(image_sizes, candidates, rpn.min_box_size)
    limits = rpn.nms_thresh, rpn.post_nms_topk[False]
    boxes, _, _, numbers = _suppress(levels[0].shape[0], inside, *limits)
    return boxes, numbers


def _box_detections(
    heads: StandardROIHeads,
    features: dict[str, Tensor],
    proposals: Tensor,
    numbers: Tensor,
    image_sizes: Tensor,
) -> Found:
    levels = [features[name] for name in heads.box_in_features]
    predictor = heads.box_predictor
    pooled = _pool(heads.box_pooler, levels, proposals, numbers)
    logits, deltas = predictor(heads.box_head(pooled))
    count = proposals.shape[0]
    logits, deltas = logits.narrow(0, 0, count), deltas.narrow(0, 0, count)
    boxes = predictor.box2box_transform.apply_deltas(deltas, proposals)
    scores = logits.sigmoid() if predictor.use_sigmoid_ce else logits.softmax(-1)
    probabilities = scores[:, :-1]
    places = torch.nonzero(probabilities > predictor.test_score_thresh)
    rows, classes = places[:, 0], places[:, 1]
    per_class = boxes.unflatten(1, (-1, 4))
    columns = classes if per_class.shape[1] > 1 else torch.zeros_like(classes)
    scores, numbers = probabilities[rows, classes], numbers[rows]
    boxes = _clip(per_class[rows, columns], image_sizes[numbers])
    limits = predictor.test_nms_thresh, predictor.test_topk_per_image
    return _suppress(levels[0].shape[0], (boxes, classes, scores, numbers), *limits)


def _pool(pooler: ROIPooler, levels: Levels, boxes: Tensor, numbers: Tensor) -> Tensor:
    """`ROIPooler.forward`, with one box more: batch norms ask for any."""
    boxes = F.pad(boxes, (0, 0, 0, 1))
    rois = torch.cat((F.pad(numbers, (0, 1))[:, None].to(boxes.dtype), boxes), dim=1)
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


def _top(scores: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best of each row, their columns and their rows."""
    count = scores.shape[1]
    # The tracer's sizes are tensors.
    most = count.clamp(max=most) if isinstance(count, Tensor) else torch.sym_min(count, most)
    scores, places = scores.topk(most)
    rows = torch.arange(scores.shape[0], device=scores.device)[:, None].expand_as(places)
    return scores.flatten(), places.flatten(), rows.flatten()


def _suppress(count: int, found: Found, threshold: float, most: int) -> Found:
    """The `most` best of each of `count` images (all if negative), the best first, after NMS.

    Boxes of different groups do not meet, as in torchvision's `batched_nms`.
    """
    boxes, groups, scores, numbers = found
    # With a zero, for there may be no box.
    edges = F.pad(boxes, (0, 0, 0, 1))
    step = edges.max() - edges.min() + 1
    moved = boxes + (groups * step)[:, None]
    own = numbers == torch.arange(count, device=numbers.device)[:, None]
    most = most if most >= 0 else sys.maxsize
    if torch.onnx.is_in_onnx_export():
        lowest = torch.finfo(scores.dtype).min
        by_image = torch.where(own, scores, torch.full_like(scores, -torch.inf))[:, None]
        each = moved.expand(count, -1, -1)
        kept = _OnnxNms.apply(each, by_image, most, threshold, lowest)[:, 2]
    else:
        # Images are apart downwards, for x has the groups.
        moved = moved + F.pad((numbers * step)[:, None], (1, 0)).repeat(1, 2)
        kept = _nms(moved, scores, threshold)
        ranks = own[:, kept].cumsum(1)
        kept = kept[torch.nonzero(own[:, kept] & (ranks <= most))[:, 1]]
        if torch.compiler.is_compiling():
            # AOTInductor multiplies the bounds of sizes, by default beyond what it can write.
            torch._check(kept.shape[0] < 2**31)
    return boxes[kept], groups[kept], scores[kept], numbers[kept]


def _nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    # torchvision says to torch.export that two boxes or more are kept, which the program then
    # insists on: so there are two more, far from all others, and left out again.
    more = boxes.new_tensor([[-2e6, -2e6, -1e6, -1e6], [-4e6, -4e6, -3e6, -3e6]])
    scores = F.pad(scores, (0, 2), value=-torch.inf)
    kept = nms(torch.cat((boxes, more)), scores, threshold)
    return kept[torch.nonzero(kept < boxes.shape[0])[:, 0]]


class _OnnxNms(torch.autograd.Function):
    """ONNX's NonMaxSuppression, which takes images apart, and stops when it has enough."""

    @staticmethod
    def forward(ctx, boxes, scores, most, threshold, lowest):
        # While the graph is traced: of the right form (images, classes, boxes), and some.
        return torch.nonzero(scores > lowest)[:100]

    @staticmethod
    def symbolic(g, boxes, scores, most, threshold, lowest):
        constants = torch.tensor([most]), torch.tensor([threshold]), torch.tensor([lowest])
        limits = [g.op("Constant", value_t=value) for value in constants]
        return g.op("NonMaxSuppression", boxes, scores, *limits)


def _clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), sizes.flip(1).repeat(1, 2).to(boxes.dtype))


def _clipped(image_sizes: Tensor, found: Found, smallest: float = 0) -> Found:
    """Boxes inside their images, without those that are empty there."""
    boxes, groups, scores, numbers = found
    boxes = _clip(boxes, image_sizes[numbers])
    kept = torch.nonzero(((boxes[:, 2:] - boxes[:, :2]) > smallest).all(1))[:, 0]
    return boxes[kept], groups[kept], scores[kept], numbers[kept]
