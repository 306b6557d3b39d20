"""What has to be recorded with weights: how the images, the stem and the strides were in training.

It is kept in the header of the safetensors file, a map of strings to strings that any safetensors
reader shows. Nothing of it can be seen in the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from softpool_det.coco.checks import all_finite
from softpool_det.io.atomic import replacing

# Marks files that hold all keys below, and says how they are to be read.
FORMAT_KEY = "softpool_det.weights"
FORMAT = "1"


@dataclass(frozen=True)
class StemPool:
    """The pooling behind the stem's convolution; the fields are the keys of `MODEL.STEM_POOL`.

    What is learned is among the weights: then `beta` is any number. `options` holds those that
    differ from their defaults.
    """

    name: str
    kernel_size: int
    stride: int
    padding: int
    ceil_mode: bool = False
    gradient: str = "paper"
    beta: float = 1.0
    learn_beta: str = "no"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.options, dict):
            raise ValueError(f"options must map names to values, got {self.options!r:.90}")

    @property
    def window(self) -> tuple[str, int, int, int]:
        """What makes two poolings of one temperature the same function of images of even size."""
        return self.name, self.kernel_size, self.stride, self.padding

    def takes_weights_of(self, other: StemPool) -> bool:
        """Whether a model with this pooling computes what one with `other` learned."""
        if self.window != other.window or self.options != other.options:
            return False
        if other.learn_beta != "no":
            return self.learn_beta == other.learn_beta
        # A temperature that is yet to be learned starts as the other one was.
        return self.beta == other.beta

    def __str__(self) -> str:
        text = f"{self.name} {self.kernel_size}x{self.kernel_size}/{self.stride}/{self.padding}"
        if self.options:
            text += f" with {', '.join(f'{key} {value}' for key, value in self.options.items())}"
        if self.learn_beta != "no":
            return f"{text} with a learned beta ({self.learn_beta})"
        return text if self.beta == 1.0 else f"{text} with beta {self.beta}"


# torchvision's, timm's and Detectron2's.
MAX_POOL = StemPool("MaxPool2d", kernel_size=3, stride=2, padding=1)
# That of the SoftPool authors' ResNets.
SOFT_POOL = StemPool("SoftPool2d", kernel_size=2, stride=2, padding=0)
# Older files have temperature 1 and no options.
_ADDED_LATER = ("stem_pool.beta", "stem_pool.learn_beta", "stem_pool.options")


@dataclass(frozen=True)
class WeightsMetadata:
    """What a ResNet's weights do not show by themselves.

    Args:
        architecture: "resnet50", "resnext50_32x4d", "wide_resnet50_2", ...
        stem_pool: the stem's pooling in training.
        pixel_mean, pixel_std: one number for each channel, in `channel_order` and in units of
            0 to 255; images were normalized with them.
        channel_order: "RGB" or "BGR".
        stride_in_1x1: whether bottlenecks of stride 2 have it in their first convolution (MSRA)
            rather than in the 3x3 one; of no meaning to ResNet-18 and 34.
        num_classes: outputs of the classifier, 0 without one.
        source_file: name of the file that was converted, or what the weights come from otherwise.
        source_sha256: its checksum, "" where there was no file.
        source_format: "torchvision", "timm", "detectron2", "caffe2", ...
        converter_version: version of softpool_det.
        command: what was run.

    Raises:
        ValueError: `channel_order` is another word, or mean or std are not three finite numbers,
            those of std more than 0.
    """

    architecture: str
    stem_pool: StemPool
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    channel_order: str
    stride_in_1x1: bool
    num_classes: int
    source_file: str = ""
    source_sha256: str = ""
    source_format: str = ""
    converter_version: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel_order must be 'RGB' or 'BGR', got {self.channel_order!r}")
        for name in ("pixel_mean", "pixel_std"):
            given = getattr(self, name)
            values = list(given) if isinstance(given, tuple) else given
            if not all_finite(values) or len(values) != 3:
                raise ValueError(f"{name} must have three values, all finite, got {values!r:.90}")
            object.__setattr__(self, name, tuple(map(float, values)))
        if min(self.pixel_std) <= 0:
            raise ValueError(f"pixel_std must be more than 0, got {self.pixel_std}")

    def to_header(self) -> dict[str, str]:
        """Strings as they are, all else as JSON; the stem's pooling as `stem_pool.name`, ..."""
        values = asdict(self)
        pool = {f"stem_pool.{name}": value for name, value in values.pop("stem_pool").items()}
        return {FORMAT_KEY: FORMAT} | {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in (values | pool).items()
        }

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> WeightsMetadata:
        """Parse the output of :meth:`to_header`; other keys are ignored.

        Raises:
            ValueError: a key is missing or its value cannot be read.
        """
        pool = _read_fields(StemPool, header, "stem_pool.")
        return cls(stem_pool=StemPool(**pool), **_read_fields(cls, header, ""))


def _read_fields(owner: type, header: Mapping[str, str], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in fields(owner):
        if entry.name == "stem_pool":
            continue
        key = prefix + entry.name
        if key not in header and key in _ADDED_LATER:
            continue
        if key not in header:
            raise ValueError(f"the metadata lacks {key}")
        try:
            values[entry.name] = header[key] if entry.type == "str" else json.loads(header[key])
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(
                f"the metadata's {key} is not a valid {entry.type}: {header[key]!r:.90}"
            ) from error
    return values


def save_weights(
    path: str | Path, state_dict: Mapping[str, torch.Tensor], metadata: WeightsMetadata | None
) -> None:
    """Write a network's weights as safetensors, atomically.

    Args:
        path: ends in `.safetensors`; its folder is made.
        state_dict: for detectors with the keys of Detectron2's ResNet and its classifier
            (`stem.conv1.weight`, `stem.conv1.norm.*`, `res2.0.conv1.weight`, ..., `linear.weight`).
        metadata: goes into the header, if there is any.

    Raises:
        ValueError: `path` ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path}")
    tensors = {name: value.detach().cpu().contiguous() for name, value in state_dict.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata.to_header() if metadata else None)


def read_metadata(path: str | Path) -> WeightsMetadata | None:
    """Read what :func:`save_weights` wrote into a file's header; the tensors are not read.

    Returns:
        None if the file has no metadata of this package.

    Raises:
        ValueError: it has, but of another version or damaged.
    """
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
    if FORMAT_KEY not in header:
        return None
    if header[FORMAT_KEY] != FORMAT:
        raise ValueError(
            f"{path} has metadata of format {header[FORMAT_KEY]!r}, this version of softpool_det "
            f"reads {FORMAT!r}"
        )
    try:
        return WeightsMetadata.from_header(header)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
