"""How well detectors do by COCO's rules, and what two of them differ by.

Numbers only: nothing here knows torch or detectron2, and any framework's result files will do.
"""

from softpool_det.evaluation.files import compare_results

__all__ = ["compare_results"]
