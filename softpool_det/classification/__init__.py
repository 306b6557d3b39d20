"""Networks trained as classifiers, for tables and for detectors to start from."""

from softpool_det.classification.run import train

__all__ = ["train"]
