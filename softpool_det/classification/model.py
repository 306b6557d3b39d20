"""Detectron2's ResNet as a classifier, with a pooling of one's choice in its stem."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

from softpool_det.modeling import PooledStem

DEPTHS = (18, 34, 50, 101, 152)
# Of the stem's convolution: the default of Detectron2's BasicStem.
STEM_CHANNELS = 64


def build_classifier(depth: int, pool: nn.Module, num_classes: int, norm: str = "BN") -> ResNet:
    """Build a ResNet whose parameters have the names that they have in Detectron2's backbone.

    Args:
        depth: 18, 34, 50, 101 or 152.
        pool: the stem's pooling, see :class:`softpool_det.modeling.PooledStem`.
        num_classes: outputs of the last layer, "linear".
        norm: a name that Detectron2's `get_norm` knows: "BN", "SyncBN", "GN", ...

    Returns:
        A module from images (N, 3, H, W) to {"linear": logits (N, num_classes)}.

    Raises:
        ValueError: no ResNet has that depth.
    """
    if depth not in DEPTHS:
        raise ValueError(f"MODEL.RESNETS.DEPTH must be one of {DEPTHS}, got {depth}")
    # torchvision's, and that of the configs here: the stride is in the 3x3 convolution.
    stride = {} if depth < 50 else {"stride_in_1x1": False}
    stages = ResNet.make_default_stages(depth, norm=norm, **stride)
    stem = PooledStem(BasicStem(out_channels=STEM_CHANNELS, norm=norm), pool)
    # Without out_features: naming "linear" there would leave out the stages.
    return ResNet(stem, stages, num_classes=num_classes)
