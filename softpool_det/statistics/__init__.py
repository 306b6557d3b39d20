"""How well detectors do by COCO's rules, and what two of them differ by.

Numbers only: nothing here imports torch or Detectron2, and any framework's result files will do.
"""

from softpool_det.statistics.result_files import compare_results

__all__ = ["compare_results"]
