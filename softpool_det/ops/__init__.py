"""SoftPool as operators and as modules."""

from .functional import affine_relu_soft_pool2d, soft_pool1d, soft_pool2d, soft_pool3d
from .modules import SoftPool1d, SoftPool2d, SoftPool3d

__all__ = [
    "SoftPool1d",
    "SoftPool2d",
    "SoftPool3d",
    "affine_relu_soft_pool2d",
    "soft_pool1d",
    "soft_pool2d",
    "soft_pool3d",
]
