"""SoftPool as an operator and as a module."""

from .soft_pool import SoftPool2d, soft_pool2d

__all__ = ["SoftPool2d", "soft_pool2d"]
