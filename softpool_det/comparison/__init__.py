"""Two detectors trained the same way, side by side."""

from softpool_det.comparison.arms import Arm
from softpool_det.comparison.compare import compare

__all__ = ["Arm", "compare"]
