"""SoftPool (Stergiou et al., ICCV 2021) in the ResNet stem of Detectron2 detectors.

Importing the package registers the backbones of :mod:`softpool_det.builders`.
"""

from importlib.util import find_spec

from softpool_det.replacement import replace_pooling as replace_pooling

# The operator and `replace_pooling` are of use without detectron2; everything else is a part of it.
if find_spec("detectron2") is not None:
    from softpool_det import builders as builders
    from softpool_det.config import add_softpool_config as add_softpool_config
