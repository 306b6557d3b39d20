"""Backbone builders in Detectron2's registry: stock backbones with the stem's pooling replaced.

Only this file reads `cfg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.fpn import (
    build_resnet_fpn_backbone,
    build_retinanet_resnet_fpn_backbone,
)
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch import nn

from softpool_det.modeling.pooling import build_pooling
from softpool_det.modeling.stem import PooledStem


@BACKBONE_REGISTRY.register()
def build_softpool_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build `build_resnet_backbone`'s ResNet with `MODEL.STEM_POOL` in its stem."""
    pool = build_stem_pool(cfg, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS)
    resnet = build_resnet_backbone(cfg, input_shape)
    resnet.stem = PooledStem(resnet.stem, pool)
    return resnet


@BACKBONE_REGISTRY.register()
def build_softpool_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build `build_resnet_fpn_backbone`'s FPN with `MODEL.STEM_POOL` in the ResNet's stem."""
    pool = build_stem_pool(cfg, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS)
    fpn = build_resnet_fpn_backbone(cfg, input_shape)
    fpn.bottom_up.stem = PooledStem(fpn.bottom_up.stem, pool)
    return fpn


@BACKBONE_REGISTRY.register()
def build_retinanet_softpool_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build `build_retinanet_resnet_fpn_backbone`'s FPN with `MODEL.STEM_POOL` in the stem."""
    pool = build_stem_pool(cfg, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS)
    fpn = build_retinanet_resnet_fpn_backbone(cfg, input_shape)
    fpn.bottom_up.stem = PooledStem(fpn.bottom_up.stem, pool)
    return fpn


def build_stem_pool(cfg: CfgNode, num_channels: int) -> nn.Module:
    """Build the pooling layer that `cfg.MODEL.STEM_POOL` describes.

    Args:
        cfg: the config.
        num_channels: of the stem's convolution.

    Raises:
        KeyError: the keys are missing, or no pooling is registered under NAME.
        TypeError: OPTIONS names an option that the pooling does not have.
        ValueError: the pooling does not take a value, or OPTIONS has what another key sets.
    """
    if "STEM_POOL" not in cfg.MODEL:
        raise KeyError(
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME!r} reads MODEL.STEM_POOL, which this "
            "config lacks: call softpool_det.add_softpool_config(cfg) right after get_cfg(), "
            "before merging a file"
        )
    pool = cfg.MODEL.STEM_POOL
    # Random starts of a pooling must not move those of the other layers: for one seed, arms begin
    # with the same weights.
    with torch.random.fork_rng(devices=[]):
        return _pool_of(pool, num_channels)


def _pool_of(pool: CfgNode, num_channels: int) -> nn.Module:
    options = parse_options(pool.OPTIONS)
    settings = {key.lower(): value for key, value in pool.items() if key != "OPTIONS"}
    if both := sorted(settings.keys() & options.keys()):
        keys = ", ".join(f"MODEL.STEM_POOL.{name.upper()}" for name in both)
        raise ValueError(f"MODEL.STEM_POOL.OPTIONS has {', '.join(both)}: set {keys} instead")
    if "num_channels" in options:
        raise ValueError("MODEL.STEM_POOL.OPTIONS has num_channels, which the stem decides")
    return build_pooling(num_channels=num_channels, **settings, **options)


def parse_options(pairs: Sequence[Any]) -> dict[str, Any]:
    """Parse the KEY VALUE list `MODEL.STEM_POOL.OPTIONS`.

    Raises:
        ValueError: a key has no value, or is not a word.
    """
    keys, values = list(pairs[::2]), list(pairs[1::2])
    if len(keys) != len(values) or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            "MODEL.STEM_POOL.OPTIONS must be a list of KEY VALUE, such as ['exponent', 3.0], got "
            f"{list(pairs)!r}"
        )
    return dict(zip(keys, values, strict=True))
