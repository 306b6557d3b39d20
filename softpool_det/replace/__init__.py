"""SoftPool in place of the poolings of any model; needs torch only."""

from softpool_det.replace.apply import replace_pooling
from softpool_det.replace.replacements import PoolingReplacements

__all__ = ["PoolingReplacements", "replace_pooling"]
