"""ResNets trained as classifiers, for detectors to start from."""

from softpool_det.classification.run import run

__all__ = ["run"]
