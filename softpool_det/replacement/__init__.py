"""SoftPool in place of the poolings of any model; needs torch only."""

from .replace import replace_pooling
from .table import PoolingReplacements

__all__ = ["PoolingReplacements", "replace_pooling"]
