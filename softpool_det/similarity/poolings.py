"""The poolings of the experiment, and how each is applied to an image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from softpool_det.layers import build_pooling

CHANNELS = 3
# ImageNet's means and deviations, as torchvision normalises images.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Subtracted from pixels in 0 to 1, and divided by, before a pooling sees them.
_RANGES = {
    "0..1": ((0.0,) * CHANNELS, (1.0,) * CHANNELS),
    "ImageNet": (_MEAN, _STD),
    "0..255": ((0.0,) * CHANNELS, (1 / 255,) * CHANNELS),
}

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Pooling:
    """A row of the table.

    Args:
        key: its name in files and on the command line.
        label: its name for readers.
        layer: its name in `softpool_det.layers`.
        values: which range of values it pools: "0..1", "ImageNet" or "0..255".
        options: of the layer.
        is_trained: whether it has parameters that are trained first.
        draws: whether it draws at random; it then pools as in training.
    """

    key: str
    label: str
    layer: str
    values: str = "0..1"
    options: Mapping[str, Any] = field(default_factory=dict)
    is_trained: bool = False
    draws: bool = False


_SOFTPOOL = (
    Pooling("softpool-unit", "SoftPool, 0..1", "SoftPool"),
    Pooling("softpool-imagenet", "SoftPool, ImageNet", "SoftPool", "ImageNet"),
    Pooling("softpool-bytes", "SoftPool, 0..255", "SoftPool", "0..255"),
)
POOLINGS = (
    Pooling("avg", "Average", "AvgPool"),
    Pooling("max", "Maximum", "MaxPool"),
    Pooling("poweravg", "Power average, q = 2", "PowerAvgPool"),
    Pooling("sum", "Sum", "SumPool"),
    Pooling("lp", "L_p", "LPPool", is_trained=True),
    Pooling("mixed", "Mixed", "MixedPool", is_trained=True),
    Pooling("gated", "Gate", "GatedPool", is_trained=True),
    Pooling("litedpp", "Lite DPP", "LiteDPPPool", is_trained=True),
    Pooling("dpp", "DPP", "DPPPool", is_trained=True),
    Pooling("lip", "LIP", "LIPPool", is_trained=True),
    Pooling("stochastic", "Stochastic", "StochasticPool", draws=True),
    Pooling("s3", "S3", "S3Pool", draws=True),
    Pooling("lites3dpp", "Lite-S3DPP", "LiteS3DPPPool", is_trained=True, draws=True),
    Pooling("edscw", "eDSCW", "EDSCWPool"),
    Pooling("ada", "AdaPool", "AdaPool", is_trained=True),
    Pooling("blur", "Blur", "BlurPool"),
    *_SOFTPOOL,
    Pooling(
        "softpool-beta",
        "SoftPool, learned beta",
        "SoftPool",
        # The paper's gradient is not the derivative by the input, but beta's is exact in both.
        options={"learn_beta": "one", "gradient": "exact"},
        is_trained=True,
    ),
)
_BY_KEY = {pooling.key: pooling for pooling in POOLINGS}
# "softpool" is one pooling for a user, and three rows.
_NAMES = {**{key: (pooling,) for key, pooling in _BY_KEY.items()}, "softpool": _SOFTPOOL}


def pooling_of(key: str) -> Pooling:
    """Return the row with that key; raise KeyError if none has it."""
    return _BY_KEY[key]


def select_poolings(names: Sequence[str] | None) -> tuple[Pooling, ...]:
    """Select the rows of these names, in the table's order; all if `names` is None.

    Args:
        names: "avg", "AvgPool" and "avgpool2d" are the same; "softpool" is SoftPool in all three
            ranges of values.

    Raises:
        KeyError: the pooling is unknown; the text lists them.
    """
    if names is None:
        return POOLINGS
    chosen = [pooling for name in names for pooling in _named(name)]
    return tuple(pooling for pooling in POOLINGS if pooling in chosen)


def _named(name: str) -> tuple[Pooling, ...]:
    lower = name.lower().removesuffix("2d")
    for key in (lower, lower.removesuffix("pool"), f"{lower}pool"):
        if key in _NAMES:
            return _NAMES[key]
    raise KeyError(f"no pooling {name!r}; there are: {', '.join(_NAMES)}")


def seed_of(*parts: object) -> int:
    """Return a seed, 0 to 2**63 - 1, that depends only on the parts, not on the order of work."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode(errors="backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def build(pooling: Pooling, kernel: int, seed: int, stride: int | None = None) -> nn.Module:
    """Build the layer for images with three channels, with that seed's parameters and draws."""
    options = dict(pooling.options)
    if pooling.draws:
        options["generator"] = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = build_pooling(
            pooling.layer, 2, kernel, stride or kernel, num_channels=CHANNELS, **options
        )
    return layer.train(pooling.draws)


def load_state(layer: nn.Module, state: State) -> nn.Module:
    """Give the layer the parameters of :func:`state_of`."""
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return layer


def state_of(layer: nn.Module) -> dict[str, np.ndarray]:
    """Return the layer's parameters as arrays, which processes exchange without a socket."""
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def apply(pooling: Pooling, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Pool images in the pooling's own range of values.

    Args:
        images: (N, 3, H, W), 0 to 1.

    Returns:
        (N, 3, H', W') in the range of `images`; the sum and the power average reach beyond 1.
    """
    mean, std = (
        torch.tensor(values, dtype=images.dtype).view(1, CHANNELS, 1, 1)
        for values in _RANGES[pooling.values]
    )
    return layer((images - mean) / std) * std + mean
