"""What a run is: one dataclass, read from YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from softpool_det.config.safe_yaml import read_yaml
from softpool_det.io.errors import error_text, nearest

# What is trained does not depend on these, nor on the trainer's keys below.
_NOT_DECIDING = ("output", "keep_checkpoints", "num_workers", "logger")
_OF_THE_MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps")


@dataclass
class Clips:
    """What is taken of videos."""

    frames: int = 0  # of a clip; 0 where the data are images
    videos: str = ""  # the folder of the files that train_data and val_data list
    # Smallest and largest step from frame to frame, of which a clip draws one.
    train_strides: list[int] = field(default_factory=lambda: [1, 2])
    val_stride: int = 2  # the step in evaluations, which take the centre
    # "authors" or "wu", see softpool_det.video.multigrid: sets batches, and rates by milestones and
    # gamma; "wu" trains 1.5 times the epochs. "" for batches of one shape.
    multigrid: str = ""


@dataclass
class Config:
    """A run. An entry with a `name` names a class of a library; its other keys are arguments."""

    # "torchvision/NAME", "timm/NAME" or "detectron2/NAME", "video/NAME" for clips; and arguments of
    # what builds it.
    network: str = "torchvision/resnet50"
    network_options: dict[str, Any] = field(default_factory=dict)
    # Calls of softpool_det.replace_pooling, one after the other: where, pool, kernel_size, ...
    replace: list[dict[str, Any]] = field(default_factory=list)
    weights: str = ""  # a .safetensors, .pth or .pt to begin with, or ""
    allow_other_stem_pool: bool = False  # take weights of another pooling
    channels_last: bool = False
    # A small data set's name (digits_train, ...), or a folder with one folder of images a class; a
    # relative one is looked for in $DETECTRON2_DATASETS. For videos moving_digits_train or a list.
    train_data: str = "imagenet/train"
    val_data: str = "imagenet/val"
    # For videos, whose transforms get the frames of a clip at once, (T, 3, H, W).
    clips: Clips = field(default_factory=Clips)
    size: int = 224  # side of the images in pixels; the transforms may refer to it as ${size}
    # Of torchvision.transforms.v2, from PIL images to squares of one size. Conversion to float32
    # and normalization follow by themselves.
    train_transforms: list[dict[str, Any]] = field(default_factory=list)
    val_transforms: list[dict[str, Any]] = field(default_factory=list)
    # Of the same module, for batches (MixUp, CutMix); each batch gets one.
    batch_transforms: list[dict[str, Any]] = field(default_factory=list)
    # Of R, G, B from 0 to 255: those of the detectors that start from the weights.
    pixel_mean: list[float] = field(default_factory=lambda: [123.675, 116.280, 103.530])
    pixel_std: list[float] = field(default_factory=lambda: [58.395, 57.120, 57.375])
    batch_size: int = 256  # of all processes together
    num_workers: int = 4  # of each process
    # Of torch.optim. Norms may have a weight decay of their own.
    optimizer: dict[str, Any] = field(
        default_factory=lambda: {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    )
    norm_weight_decay: float | None = None
    label_smoothing: float = 0.0
    # Epochs at which the rate is multiplied by gamma; none for a cosine.
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    # Of a linear rise from warmup_factor times the rate.
    warmup_epochs: float = 0.0
    warmup_factor: float = 0.01
    epochs: int = 100  # 0 to evaluate only
    # Further arguments of Lightning's Trainer (precision, devices, ...).
    trainer: dict[str, Any] = field(default_factory=dict)
    # Of pytorch_lightning.callbacks and .loggers; metrics are "loss", "top1" and "top5".
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    logger: dict[str, Any] = field(default_factory=lambda: {"name": "CSVLogger"})
    seed: int = 1  # of weights, order and augmentation, from 0
    output: str = "output/classification"
    keep_checkpoints: bool = False  # of a finished run; four times its weights or more


def load_config(config_file: str, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config, of which nothing is run, and apply "key=value" overrides.

    Raises:
        OSError, ValueError: the file cannot be read, or is not plain YAML; a value of a wrong kind.
        KeyError: there is no such key; names the nearest ones.
    """
    values = read_yaml(config_file)
    if found := re.search(r"\$\{(?![\w.]+\}).{,40}", yaml.safe_dump(values, width=math.inf)):
        raise ValueError(
            f"{config_file}: {found[0]} would be computed (from the environment, for example): a "
            "config may only refer to its own keys, as in ${size}"
        )
    try:
        given = OmegaConf.from_dotlist(list(overrides))
        for key in {**values, **given}:
            if key not in Config.__dataclass_fields__:
                hint = nearest(str(key), Config.__dataclass_fields__)
                raise KeyError(f"{config_file}: there is no key {key!r} in a classifier's{hint}")
        merged = OmegaConf.merge(OmegaConf.structured(Config), values, given)
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        reason = error_text(error).splitlines()[0]
        raise ValueError(f"{' '.join([config_file, *overrides])}: {reason}") from error


def identity(cfg: Config) -> str:
    """Return the part of a config that decides what is trained, as YAML."""
    values = {key: value for key, value in asdict(cfg).items() if key not in _NOT_DECIDING}
    values["trainer"] = {k: v for k, v in cfg.trainer.items() if k not in _OF_THE_MACHINE}
    return yaml.safe_dump(values, sort_keys=False)


def construct(library: ModuleType, entry: dict[str, Any], key: str, *args: Any, **more: Any) -> Any:
    """Build an object of the class of `library` that the entry `key` of a config names.

    Its arguments are `args`, `more`, and the entry's other keys, which are preferred to `more`. An
    unknown class, and arguments that it does not take, raise ValueError.
    """
    options = dict(entry)
    name = str(options.pop("name", None))
    found = vars(library).get(name)
    if not isinstance(found, type):
        hint = nearest(name, [n for n, each in vars(library).items() if isinstance(each, type)])
        raise ValueError(f"{key} must name a class of {library.__name__}, got {name!r}{hint}")
    try:
        return found(*args, **{**more, **options})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {name}: {error_text(error)}") from error
