"""Whether a checkpoint has all of a detector, or would leave parts of it at random."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import nn

from softpool_det.weights.architecture import COUNTER

Shape = tuple[int, ...]

_RESNET = re.compile(r"(^|\.)(stem|res[2-5])\.")


def check_complete(
    model: nn.Module, missing: Collection[str], shapes: Mapping[str, Shape], filename: str
) -> None:
    """Refuse a checkpoint that lacks part of a detector.

    Args:
        model: the detector.
        missing: names of its parameters and buffers that the file lacks.
        shapes: by name, those in the file that differ.
        filename: for the error.

    Raises:
        ValueError: some are missing or have another shape; names the first one, its shapes, and
            the config key (of YAML configs, and of LazyConfigs in parentheses) that is probably
            wrong.
    """
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    # A counter has no part in what is detected.
    state = {key: shape for key, shape in state.items() if not key.endswith(COUNTER)}
    wrong = [key for key in state if key in missing or key in shapes]
    if not wrong:
        return
    name = wrong[0]
    fault = f"{name} is {state[name]} in the model, "
    fault += f"{shapes[name]} in the file" if name in shapes else "missing in the file"
    if len(wrong) > 1:
        fault += f" (the first of {len(wrong)} parameters)"
    cause = _cause(model, state, wrong, shapes)
    raise ValueError(f"{filename} is not a checkpoint of the config's detector: {fault}; {cause}")


def _cause(
    model: nn.Module, state: Mapping[str, Shape], wrong: list[str], shapes: Mapping[str, Shape]
) -> str:
    """Name the config key that is probably wrong."""
    name, present = wrong[0], (state.keys() - wrong) | shapes.keys()
    if all(_RESNET.search(key) for key in present):
        return "give the checkpoint of a trained detector; this file has at most its backbone"
    parts = {_part(key) for key in present}
    if lost := [_part(key) for key in wrong if _part(key) not in parts]:
        kind = type(model).__name__
        return f"MODEL.META_ARCHITECTURE (model) is {kind}, the checkpoint has no {lost[0]}"
    # What a layer puts out.
    own = {key: shape[0] for key, shape in state.items() if shape}
    found = own | {key: shape[0] if shape else 0 for key, shape in shapes.items()}
    if ".fpn_" in name and own[name] != found[name]:
        key = "MODEL.FPN.OUT_CHANNELS (model.backbone.out_channels)"
        return _values(key, own[name], found[name])
    if _RESNET.search(name) or (".fpn_" in name and name in shapes):
        return "MODEL.RESNETS.DEPTH (model.backbone.bottom_up) is probably not the checkpoint's"
    if ".mask_head." in name and name not in shapes:
        return "MODEL.MASK_ON (model.roi_heads.mask_head) is True, the checkpoint has no masks"
    if name.endswith(("cls_score.weight", "cls_score.bias")):
        return _classes(name, own, found)
    return f"the config's {_part(name)} is probably not the checkpoint's"


def _part(name: str) -> str:
    return name.partition(".")[0]


def _classes(name: str, own: Mapping[str, int], found: Mapping[str, int]) -> str:
    """Compare the classes of a layer of scores with the checkpoint's."""
    if name.startswith("roi_heads."):
        key = "MODEL.ROI_HEADS.NUM_CLASSES (model.roi_heads.num_classes)"
        # One more for the background.
        return _values(key, own[name] - 1, found[name] - 1)
    # RetinaNet has, for each anchor of a cell, its classes and the four numbers of its box.
    boxes = name.replace("cls_score", "bbox_pred")
    anchors, needed = (max(counts.get(boxes, 0) // 4, 1) for counts in (own, found))
    classes = own[name] // anchors, found[name] // needed
    if classes[0] == classes[1]:
        key = "MODEL.ANCHOR_GENERATOR (model.anchor_generator): its number of anchors in a cell"
        return _values(key, anchors, needed)
    return _values("MODEL.RETINANET.NUM_CLASSES (model.num_classes)", *classes)


def _values(key: str, found: int, needed: int) -> str:
    return f"{key} is {found}, the checkpoint has {needed}"
