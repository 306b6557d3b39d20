"""Pooling layers of the SoftPool paper's tables, and its successors; needs torch only.

Each is called as `layer(kernel_size, stride, padding, dilation, ceil_mode, **options)`, maps
(N, C, ...) to (N, C, ...) or (C, ...) to (C, ...) and gives outputs of `torch.nn.MaxPool2d`'s size
(`1d` and `3d` likewise). docs/poolings.md compares them.
"""

from softpool_det.layers._windows import WindowPool
from softpool_det.layers.blur import BlurPool2d
from softpool_det.layers.detail_preserving import (
    DPPPool1d,
    DPPPool2d,
    DPPPool3d,
    LiteDPPPool1d,
    LiteDPPPool2d,
    LiteDPPPool3d,
)
from softpool_det.layers.lip import LIPPool1d, LIPPool2d, LIPPool3d
from softpool_det.layers.lookup import (
    POOLINGS,
    build_pooling,
    changed_options,
    options_of,
    pooling_class,
    pooling_name,
)
from softpool_det.layers.mixtures import (
    AdaPool1d,
    AdaPool2d,
    AdaPool3d,
    EDSCWPool1d,
    EDSCWPool2d,
    EDSCWPool3d,
    GatedPool1d,
    GatedPool2d,
    GatedPool3d,
    MixedPool1d,
    MixedPool2d,
    MixedPool3d,
)
from softpool_det.layers.random_choice import (
    LiteS3DPPPool1d,
    LiteS3DPPPool2d,
    LiteS3DPPPool3d,
    S3Pool1d,
    S3Pool2d,
    S3Pool3d,
    StochasticPool1d,
    StochasticPool2d,
    StochasticPool3d,
)
from softpool_det.layers.sums import (
    LPPool1d,
    LPPool2d,
    LPPool3d,
    PowerAvgPool1d,
    PowerAvgPool2d,
    PowerAvgPool3d,
    SumPool1d,
    SumPool2d,
    SumPool3d,
)

__all__ = [
    "POOLINGS",
    "AdaPool1d",
    "AdaPool2d",
    "AdaPool3d",
    "BlurPool2d",
    "DPPPool1d",
    "DPPPool2d",
    "DPPPool3d",
    "EDSCWPool1d",
    "EDSCWPool2d",
    "EDSCWPool3d",
    "GatedPool1d",
    "GatedPool2d",
    "GatedPool3d",
    "LIPPool1d",
    "LIPPool2d",
    "LIPPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "LiteDPPPool1d",
    "LiteDPPPool2d",
    "LiteDPPPool3d",
    "LiteS3DPPPool1d",
    "LiteS3DPPPool2d",
    "LiteS3DPPPool3d",
    "MixedPool1d",
    "MixedPool2d",
    "MixedPool3d",
    "PowerAvgPool1d",
    "PowerAvgPool2d",
    "PowerAvgPool3d",
    "S3Pool1d",
    "S3Pool2d",
    "S3Pool3d",
    "StochasticPool1d",
    "StochasticPool2d",
    "StochasticPool3d",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
    "WindowPool",
    "build_pooling",
    "changed_options",
    "options_of",
    "pooling_class",
    "pooling_name",
]
