"""Poolings by name and the ResNet stem that takes one."""

from softpool_det.modeling.pooling import POOLING_REGISTRY, build_pooling
from softpool_det.modeling.stem import PooledStem

__all__ = ["POOLING_REGISTRY", "PooledStem", "build_pooling"]
