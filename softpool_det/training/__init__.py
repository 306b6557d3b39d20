"""Training and evaluation of one detector, from a YAML config or a LazyConfig."""

from softpool_det.training.run_errors import EXPECTED, describe
from softpool_det.training.running import EVALUATION_FILE, RESULT_FILE, run
from softpool_det.training.trainer import Trainer

__all__ = ["EVALUATION_FILE", "EXPECTED", "RESULT_FILE", "Trainer", "describe", "run"]
