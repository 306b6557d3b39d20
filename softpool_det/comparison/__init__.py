"""Detectors trained the same way, or their result files, side by side."""

from softpool_det.comparison.arms import Arm
from softpool_det.comparison.compare import compare
from softpool_det.comparison.compare_files import compare_files

__all__ = ["Arm", "compare", "compare_files"]
