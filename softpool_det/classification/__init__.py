"""ResNets trained as classifiers, for detectors to start from."""

from softpool_det.classification.compare import compare_predictions, markdown
from softpool_det.classification.config import load_config
from softpool_det.classification.run import run
from softpool_det.classification.swap import compare_swapped

__all__ = ["compare_predictions", "compare_swapped", "load_config", "markdown", "run"]
