"""Config keys, and config files read without running them."""

from softpool_det.config.keys import (
    DEFAULT_MAX_PIXELS,
    add_softpool_config,
    add_training_config,
)
from softpool_det.config.loading import load_config, merge_config

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "add_softpool_config",
    "add_training_config",
    "load_config",
    "merge_config",
]
