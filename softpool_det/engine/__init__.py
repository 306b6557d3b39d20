"""Training and evaluation of one detector, from a YAML config or a LazyConfig."""

from softpool_det.engine.run import RESULT_FILE, run
from softpool_det.engine.trainer import Trainer

__all__ = ["RESULT_FILE", "Trainer", "run"]
