"""SoftPool (Stergiou et al., ICCV 2021) in the ResNet stem of Detectron2 detectors.

Names are loaded when they are used (PEP 562), so that rooms that need neither torch nor Detectron2
start without them. The backbones are in Detectron2's registry after `import softpool_det` where
Detectron2 was imported before it, else after `add_softpool_config(cfg)` or
`import softpool_det.modeling`.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softpool_det.config import add_softpool_config as add_softpool_config
    from softpool_det.io.version import __version__ as __version__
    from softpool_det.replace import replace_pooling as replace_pooling
    from softpool_det.training.predictor import Predictor as Predictor

_NAMES = {
    "__version__": "softpool_det.io.version",
    "Predictor": "softpool_det.training.predictor",
    "add_softpool_config": "softpool_det.config.keys",
    "replace_pooling": "softpool_det.replace",
}


if not TYPE_CHECKING:  # else type checkers take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])


if "detectron2.modeling" in sys.modules:
    importlib.import_module("softpool_det.modeling")
