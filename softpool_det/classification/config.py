"""What a run is: one dataclass, read from YAML."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from softpool_det.config.safe_yaml import read_yaml
from softpool_det.io.errors import error_text

# What is trained does not depend on these, nor on the trainer's keys below.
_NOT_DECIDING = ("output", "num_workers", "logger")
_OF_THE_MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps")


@dataclass
class Config:
    """A run. An entry with a `name` names a class of a library; its other keys are arguments.

    Args:
        network: "torchvision/NAME", "timm/NAME" or "detectron2/NAME" (resnet18, ...).
        network_options: further arguments of what builds it.
        replace: calls of `softpool_det.replace_pooling`, one after the other: its arguments by
            name (`where`, `pool`, `kernel_size`, ...).
        weights: a file to evaluate or to begin with; "" for random weights.
        allow_other_stem_pool: take weights that were trained with another pooling.
        channels_last: memory format of network and images.
        train_data, val_data: a small data set's name (digits_train, ...), or a folder with one
            folder of images a class; a relative one is looked for in $DETECTRON2_DATASETS.
        size: side of the images in pixels, for the transforms to refer to as ${size}.
        train_transforms, val_transforms: of `torchvision.transforms.v2`, from PIL images to
            squares of one size; conversion and normalization follow by themselves.
        batch_transforms: of the same module, for batches (MixUp, CutMix); each batch gets one.
        pixel_mean, pixel_std: of R, G, B from 0 to 255; the detectors' that start from the weights.
        batch_size: of all processes together.
        num_workers: processes that read images, for each process.
        optimizer: of `torch.optim`.
        norm_weight_decay: of the norms' parameters, where it is not the optimizer's.
        label_smoothing: 0 to 1.
        milestones: epochs at which the rate is multiplied by `gamma`; empty for a cosine.
        gamma: see there.
        warmup_epochs: of a linear rise from `warmup_factor` times the rate.
        warmup_factor: see there.
        epochs: in all.
        trainer: further arguments of Lightning's Trainer (precision, devices, ...).
        callbacks: of `pytorch_lightning.callbacks` (EMAWeightAveraging, EarlyStopping, ...);
            metrics are "loss", "top1" and "top5".
        logger: of `pytorch_lightning.loggers`.
        seed: of weights, order and augmentation, from 0.
        output: the run's folder.
    """

    network: str = "torchvision/resnet50"
    network_options: dict[str, Any] = field(default_factory=dict)
    replace: list[dict[str, Any]] = field(default_factory=list)
    weights: str = ""
    allow_other_stem_pool: bool = False
    channels_last: bool = False
    train_data: str = "imagenet/train"
    val_data: str = "imagenet/val"
    size: int = 224
    train_transforms: list[dict[str, Any]] = field(default_factory=list)
    val_transforms: list[dict[str, Any]] = field(default_factory=list)
    batch_transforms: list[dict[str, Any]] = field(default_factory=list)
    pixel_mean: list[float] = field(default_factory=lambda: [123.675, 116.280, 103.530])
    pixel_std: list[float] = field(default_factory=lambda: [58.395, 57.120, 57.375])
    batch_size: int = 256
    num_workers: int = 4
    optimizer: dict[str, Any] = field(
        default_factory=lambda: {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    )
    norm_weight_decay: float | None = None
    label_smoothing: float = 0.0
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_factor: float = 0.01
    epochs: int = 100
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    logger: dict[str, Any] = field(default_factory=lambda: {"name": "CSVLogger"})
    seed: int = 1
    output: str = "output/classification"


def load_config(config_file: str, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config, of which nothing is run, and apply "key=value" overrides.

    Raises:
        OSError, ValueError: the file cannot be read, or is no YAML of plain values; or a value is
            of the wrong kind.
        KeyError: there is no such key; names the nearest ones.
    """
    values = read_yaml(config_file)
    for text in overrides:
        if "=" not in text:
            raise ValueError(f"an override is written key=value, got {text!r}")
    try:
        given = OmegaConf.from_dotlist(list(overrides))
        for key in {**values, **given}:
            if key not in Config.__dataclass_fields__:
                near = difflib.get_close_matches(str(key), Config.__dataclass_fields__, cutoff=0.5)
                hint = f"; the nearest are {', '.join(near)}" if near else ""
                raise KeyError(f"{config_file}: there is no key {key!r} in a classifier's{hint}")
        merged = OmegaConf.merge(OmegaConf.structured(Config), values, given)
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        reason = error_text(error).splitlines()[0]
        raise ValueError(f"{' '.join([config_file, *overrides])}: {reason}") from error


def identity(cfg: Config) -> str:
    """The part of a config that decides what is trained, as YAML."""
    values = {key: value for key, value in asdict(cfg).items() if key not in _NOT_DECIDING}
    values["trainer"] = {k: v for k, v in cfg.trainer.items() if k not in _OF_THE_MACHINE}
    return yaml.safe_dump(values, sort_keys=False)


def construct(library: ModuleType, entry: dict[str, Any], key: str, *args: Any, **more: Any) -> Any:
    """An object of the class that an entry of a config names.

    Args:
        library: the module that has the class.
        entry: `name`, and arguments by their names.
        key: where the entry comes from, for errors.
        args, more: further arguments; the entry's go before `more`.

    Raises:
        ValueError: the module has no such class, or the class does not take the arguments.
    """
    options = dict(entry)
    name = options.pop("name", None)
    found = vars(library).get(str(name))
    if not isinstance(found, type):
        near = difflib.get_close_matches(str(name), vars(library))
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"{key} must name a class of {library.__name__}, got {name!r}{hint}")
    try:
        return found(*args, **{**more, **options})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {name}: {error_text(error)}") from error
