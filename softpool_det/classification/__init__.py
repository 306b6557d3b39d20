"""Networks trained as classifiers, for tables and for detectors to start from."""

from softpool_det.classification.run import evaluate, train

__all__ = ["evaluate", "train"]
