"""Networks by name, with other poolings in them, and their weights, which detectors start from."""

from __future__ import annotations

import copy
import logging
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from softpool_det import video
from softpool_det.classification.config import Config
from softpool_det.io.errors import nearest
from softpool_det.layers.learning import pooling_parameters
from softpool_det.replace import replace_pooling
from softpool_det.weights import WeightsMetadata, read_metadata
from softpool_det.weights.architecture import COUNTER, Architecture, build_resnet
from softpool_det.weights.compatibility import describe_pool, stem_pool_of
from softpool_det.weights.layouts import state_dicts
from softpool_det.weights.pickles import check_origin
from softpool_det.weights.sources import read_file
from softpool_det.weights.values import check_values

# What `replace_pooling` takes for every pooling.
_WINDOW = ("where", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # DataParallel's and torch.compile's
# The authors of Table 7's ResNets put each 3x3x3 convolution into a Sequential of its own.
_AUTHORS_CONV = re.compile(r"(layer\d\.\d+\.conv[12]\.0)\.0\.weight$")

logger = logging.getLogger(__name__)


def build_network(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    replace: Sequence[Mapping[str, Any]] = (),
) -> nn.Module:
    """Build a network, then replace its poolings.

    Args:
        name: "torchvision/NAME", "timm/NAME" or "detectron2/NAME"; "video/NAME" for clips.
        options: further arguments of what builds it, such as torchvision's `weights`.
        replace: arguments of one call of `softpool_det.replace_pooling` each; `num_channels`, where
            a pooling needs it, is found out.

    Returns:
        A module from images (N, 3, H, W) or clips (N, 3, T, H, W) to what `logits_of` takes.

    Raises:
        ValueError: no such network, an option it does not take, or a pooling cannot be replaced.
    """
    library, _, inner = name.partition("/")
    if library not in _LIBRARIES:
        known = ", ".join(f"{key}/" for key in _LIBRARIES)
        raise ValueError(f"network must begin with one of {known}, got {name!r}")
    # For torch.load in the libraries.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    try:
        network = _LIBRARIES[library](inner, num_classes, **(options or {}))
    except TypeError as error:
        raise ValueError(f"network_options: {name}: {error}") from error
    for entry in replace:
        try:
            _replace(network, {str(key): value for key, value in entry.items()})
        except TypeError as error:
            raise ValueError(f"replace: {error}") from error
    return network


def _torchvision(name: str, num_classes: int, **options: Any) -> nn.Module:
    known = models.list_models(models)
    if name not in known:
        raise ValueError(f"torchvision has no network {name!r}{nearest(name, known)}")
    if name not in ("googlenet", "inception_v3"):
        return models.get_model(name, num_classes=num_classes, **options)
    # Files of weights hold the heads.
    has_weights = options.get("weights") is not None
    defaults = {"aux_logits": has_weights, "init_weights": not has_weights}
    network: Any = models.get_model(name, num_classes=num_classes, **{**defaults, **options})
    network.aux_logits = False
    # Heads that only help in training: they need losses of their own.
    for head in ("aux1", "aux2", "AuxLogits"):
        setattr(network, head, None)
    return network


def _timm(name: str, num_classes: int, **options: Any) -> nn.Module:
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}{nearest(name, timm.list_models())}")
    return timm.create_model(name, num_classes=num_classes, **options)


_LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "detectron2": lambda name, *args, **kw: build_resnet(Architecture.from_name(name), *args, **kw),
    "video": video.build_network,
}


def _replace(network: nn.Module, arguments: dict[str, Any]) -> None:
    try:
        replace_pooling(network, **arguments)
    except ValueError as error:
        if "num_channels" not in str(error) or "num_channels" in arguments:
            raise
        # Each pooling has a number of its own, which a forward shows.
        channels: dict[nn.Module, int] = {}
        probe = copy.deepcopy(network).eval()
        window = {key: value for key, value in arguments.items() if key in _WINDOW}
        found = replace_pooling(probe, pool="SoftPool", **window).replaced
        pools = {row.name: probe.get_submodule(row.name) for row in found}
        for pool in pools.values():
            pool.register_forward_pre_hook(lambda p, x: channels.update({p: x[0].shape[1]}))
        with torch.no_grad():
            frames = [8] if any(isinstance(m, nn.Conv3d) for m in probe.modules()) else []
            probe(next(probe.parameters()).new_zeros(1, 3, *frames, 224, 224))
        if unused := [name for name, pool in pools.items() if pool not in channels]:
            raise ValueError(
                f"replace: no image reaches {', '.join(unused)}: give num_channels, or name others"
            ) from error
        for name, pool in pools.items():
            there = {"where": [name], "num_channels": channels[pool]}
            replace_pooling(network, **arguments | there)


def logits_of(output: Any) -> torch.Tensor:
    """Take the logits (N, classes) from a network's output, for Detectron2 {"linear": logits}."""
    return output["linear"] if isinstance(output, dict) else output


def complexity(name: str) -> tuple[float, float]:
    """Count millions of parameters, and GFLOP of a 224 x 224 image or a clip of 32 frames.

    Counted as in the paper's tables: multiply-adds of convolutions, linear and recurrent layers;
    for images (Table 2, 1000 classes) also 4 for each number of a batch norm and one for each that
    a pooling window reads; for clips (Table 7, 400) 2 for a norm's, and 1 for each that a ReLU or a
    pooling takes.
    """
    library, _, inner = name.partition("/")
    is_video = library == "video"
    norms = ("native_batch_norm", "_native_batch_norm_legit_no_training")
    costs: dict[str, Any] = dict.fromkeys(norms, partial(_each, 2 if is_video else 4))
    costs |= dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _windows)
    if is_video:
        costs |= dict.fromkeys(("relu", "relu_", "max_pool3d_with_indices"), partial(_each, 1))
    # Meta tensors have no values to draw.
    options = {"init_weights": False} if inner in ("googlenet", "inception_v3") else {}
    with torch.device("meta"), torch.no_grad():
        network = build_network(name, 400 if is_video else 1000, options).eval()
        # timm's may take images of one size alone.
        side = getattr(network, "default_cfg", {}).get("input_size", [224])[-1]
        shape = (32, *[video.NETWORKS[inner].side] * 2) if is_video else (side, side)
        others = {getattr(torch.ops.aten, operator): cost for operator, cost in costs.items()}
        with FlopCounterMode(display=False, custom_mapping=others) as counter:
            network(torch.empty(1, 3, *shape))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, counter.get_total_flops() / 2e9


# The counter has two operations for a multiply-add.
def _each(cost: int, shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * cost * math.prod(shape)


def _windows(_: torch.Size, kernel: Sequence[int], *__: Any, out_shape: Any, **___: Any) -> int:
    shape = out_shape if isinstance(out_shape, torch.Size) else out_shape[0]
    return 2 * math.prod(shape) * kernel[0] * kernel[-1]


def metadata(cfg: Config, network: nn.Module, num_classes: int) -> WeightsMetadata | None:
    """Describe the weights that `cfg` trains; None for images without a ResNet."""
    library, _, name = cfg.network.partition("/")
    try:
        if library != "video":
            Architecture.from_name(name)
        # A video network may have several, which are alike.
        pool = stem_pool_of(network) or describe_pool(network.get_submodule(_stem_pools(cfg)[-1]))
    except (ValueError, AttributeError):
        return None
    return WeightsMetadata(
        architecture=name,
        stem_pool=pool,
        pixel_mean=tuple(cfg.pixel_mean),  # type: ignore[arg-type]
        pixel_std=tuple(cfg.pixel_std),  # type: ignore[arg-type]
        channel_order="RGB",
        stride_in_1x1=False,
        num_classes=num_classes,
        source_file=f"training on {cfg.train_data}",
        source_format=library,
        command=shlex.join(["python", *sys.argv]),
    )


def load_weights(network: nn.Module, cfg: Config, num_classes: int) -> None:
    """Load `weights`, a whole classifier, into `network`, by name.

    Where training follows, a last layer of other classes keeps its random values. Of no file is
    code run. A training's checkpoint may be around the weights.

    Raises:
        FileNotFoundError, PermissionError: the file does not exist, or is a `.pkl`.
        ValueError: it is another kind of file, of another network, or was trained on other pixels
            or, unless `allow_other_stem_pool`, behind another stem pooling. Or its values are NaN,
            infinite, or variances below 0.
    """
    path = Path(cfg.weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights names {path}, which does not exist: softpool-train-classifier writes such a "
            "file, softpool-convert-weights makes one of other libraries' checkpoints, and "
            "network_options.weights=IMAGENET1K_V1 takes torchvision's"
        )
    check_origin(cfg.weights)
    own = network.state_dict()
    states = [
        {_renamed(name, own): value for name, value in found.items()}
        for _, found in state_dicts(read_file(path))
    ]
    # A training's checkpoint has the optimizer's tensors, too.
    state = max(states, key=lambda state: len(state.keys() & own.keys()), default={})
    check_values(state, path)
    recorded = read_metadata(path) if path.suffix == ".safetensors" else None
    wanted = metadata(cfg, network, num_classes)
    if recorded and wanted:
        _check(path, recorded, wanted, cfg.allow_other_stem_pool)
    fitting = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    # Not all libraries keep it; evaluation does not use it.
    missing = [name for name in own if name not in fitting and not name.endswith(COUNTER)]
    for name in set(pooling_parameters(network)) & set(missing):
        missing.remove(name)
        logger.info("%s is not in %s: this pooling parameter keeps its initial value", name, path)
    last = [name for name, _ in network.named_parameters()][-2:]
    if cfg.epochs and set(missing) <= set(last) <= state.keys() and missing:
        logger.info("%s has other classes: %s keep their random values", path, " and ".join(last))
        missing = []
    unexpected = [name for name in state if name not in own]
    if cfg.allow_other_stem_pool:
        stems = tuple(f"{name}." for name in _stem_pools(cfg))
        unexpected = [name for name in unexpected if not name.startswith(stems)]
    if missing or unexpected:
        lacking, others = (", ".join(part[:5]) or "none" for part in (missing, unexpected))
        raise ValueError(
            f"{path} does not fit the config's network: missing or of another shape {lacking}, "
            f"not expected {others}"
        )
    network.load_state_dict(fitting, strict=False)


def _renamed(name: str, own: Mapping[str, torch.Tensor]) -> str:
    name = _WRAPPERS.sub("", name)
    shorter = _AUTHORS_CONV.sub(r"\1.weight", name)
    return shorter if shorter in own else name


def _stem_pools(cfg: Config) -> tuple[str, ...]:
    library, _, name = cfg.network.partition("/")
    return video.NETWORKS[name].stem_pools if library == "video" else ("stem.pool", "maxpool")


def _check(path: Path, recorded: Any, wanted: Any, other_pool: bool) -> None:
    """Compare a file's metadata with what the config says."""
    names = ["architecture", "pixel_mean", "pixel_std", "channel_order", "stride_in_1x1"]
    wrong = [name for name in names if getattr(recorded, name) != getattr(wanted, name)]
    if not other_pool and not wanted.stem_pool.takes_weights_of(recorded.stem_pool):
        wrong.append("stem_pool")
    faults = [f"{name} is {getattr(wanted, name)}, not {getattr(recorded, name)}" for name in wrong]
    if faults:
        raise ValueError(f"{path} was trained otherwise than the config says: {'; '.join(faults)}")
