"""Poolings by name, the ResNet stem that takes one, and backbones in Detectron2's registry."""

from softpool_det.modeling import backbones as backbones
from softpool_det.modeling.pooling import POOLING_REGISTRY, build_pooling
from softpool_det.modeling.stem import PooledStem

__all__ = ["POOLING_REGISTRY", "PooledStem", "build_pooling"]
