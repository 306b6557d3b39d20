"""ResNet weights: from other libraries to Detectron2 and back, and what is recorded with them."""

from softpool_det.weights.metadata import (
    StemPool,
    WeightsMetadata,
    read_metadata,
    save_weights,
)

__all__ = ["StemPool", "WeightsMetadata", "read_metadata", "save_weights"]
