"""The ResNets that Detectron2 can build: names, shapes, and the models themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet

from softpool_det.modeling import PooledStem, build_pooling
from softpool_det.weights.metadata import MAX_POOL, StemPool

# Blocks of res2 to res5.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_PLAIN_WIDTH = 64
_NAME = re.compile(
    r"\w+?(?P<depth>\d+)(_(?P<groups>\d+)x(?P<width>\d+)d|_(?P<factor>\d+(\.\d+)?))?"
)
# Of no meaning to what a model computes; norms that do not learn have none.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Architecture:
    """A ResNet, ResNeXt or Wide-ResNet.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_groups: of the 3x3 convolutions; `MODEL.RESNETS.NUM_GROUPS`.
        width_per_group: channels of each in res2; `MODEL.RESNETS.WIDTH_PER_GROUP`.
    """

    depth: int
    num_groups: int = 1
    width_per_group: int = _PLAIN_WIDTH

    @property
    def has_bottlenecks(self) -> bool:
        """Whether blocks have three convolutions: from depth 50 on."""
        return self.depth >= 50

    @property
    def name(self) -> str:
        """The name in torchvision: resnet50, resnext50_32x4d, wide_resnet50_2."""
        if self.num_groups > 1:
            return f"resnext{self.depth}_{self.num_groups}x{self.width_per_group}d"
        if self.width_per_group != _PLAIN_WIDTH:
            return f"wide_resnet{self.depth}_{self.width_per_group / _PLAIN_WIDTH:g}"
        return f"resnet{self.depth}"

    @classmethod
    def from_name(cls, name: str) -> Architecture:
        """Parse a name as `name` writes it.

        Raises:
            ValueError: not a name of a ResNet that Detectron2 builds.
        """
        match = _NAME.fullmatch(name)
        if match and (depth := int(match["depth"])) in BLOCKS:
            groups, width = int(match["groups"] or 1), int(match["width"] or _PLAIN_WIDTH)
            found = cls(depth, groups, round(float(match["factor"] or 1) * width))
            if found.name == name and (found.has_bottlenecks or found == cls(depth)):
                return found
        raise ValueError(
            f"{name!r} is not a ResNet that Detectron2 builds: resnet18, 34, 50, 101 and "
            "152, from 50 on also resnextD_GxWd and wide_resnetD_F"
        )

    @classmethod
    def infer(cls, state_dict: Mapping[str, torch.Tensor]) -> Architecture:
        """Tell the architecture from shapes.

        Args:
            state_dict: with the keys of Detectron2's ResNet.

        Raises:
            ValueError: no architecture that Detectron2 builds has such stages; says which.
        """
        blocks = count_blocks(state_dict)
        bottleneck = "res2.0.conv3.weight" in state_dict
        kind = "bottleneck" if bottleneck else "basic"
        for depth, counts in BLOCKS.items():
            if counts == tuple(blocks.values()) and (depth >= 50) == bottleneck:
                break
        else:
            raise ValueError(
                f"res2 to res5 have {', '.join(map(str, blocks.values()))} {kind} blocks; "
                "Detectron2 builds ResNets of "
                + "; ".join(f"{', '.join(map(str, counts))} ({d})" for d, counts in BLOCKS.items())
            )
        if not bottleneck:
            return cls(depth)
        width, group_width = state_dict["res2.0.conv2.weight"].shape[:2]
        return cls(depth, width // group_width, group_width)

    def config(self) -> dict[str, int]:
        """Return the keys of `MODEL.RESNETS` that differ from Detectron2's defaults."""
        values = {"DEPTH": self.depth}
        if not self.has_bottlenecks:
            values["RES2_OUT_CHANNELS"] = 64
        if self.num_groups > 1:
            values["NUM_GROUPS"] = self.num_groups
        if self.width_per_group != _PLAIN_WIDTH:
            values["WIDTH_PER_GROUP"] = self.width_per_group
        return values


def count_blocks(state_dict: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Blocks of each stage: {"res2": 3, ...}, 0 without any."""
    indices: dict[str, set[str]] = {f"res{stage}": set() for stage in range(2, 6)}
    for key in state_dict:
        stage, _, rest = key.partition(".")
        if stage in indices:
            indices[stage].add(rest.partition(".")[0])
    return {stage: len(found) for stage, found in indices.items()}


def build_resnet(
    architecture: Architecture,
    num_classes: int = 1000,
    stem_pool: StemPool = MAX_POOL,
    stride_in_1x1: bool = False,
    norm: str = "BN",
) -> ResNet:
    """Build Detectron2's ResNet as a classifier.

    Args:
        architecture: depth and widths.
        num_classes: outputs of the classifier.
        stem_pool: the stem's pooling; with :data:`MAX_POOL` the stem is Detectron2's own.
        stride_in_1x1: as in `MODEL.RESNETS.STRIDE_IN_1X1`.
        norm: as in `MODEL.RESNETS.NORM`.

    Returns:
        A model that maps images (N, 3, H, W) to {"linear": logits (N, num_classes)}.
    """
    stem: BasicStem | PooledStem = BasicStem(norm=norm)
    if stem_pool != MAX_POOL:
        settings = {**stem_pool.options, **vars(stem_pool), "num_channels": stem.out_channels}
        del settings["options"]
        pool = build_pooling(**settings)
        stem = PooledStem(stem, pool)
    stages, in_channels = [], 64
    for index, count in enumerate(BLOCKS[architecture.depth]):
        options = _stage(architecture, 2**index, stride_in_1x1)
        options |= {"in_channels": in_channels, "norm": norm}
        strides = [1 if index == 0 else 2] + [1] * (count - 1)
        stages.append(ResNet.make_stage(num_blocks=count, stride_per_block=strides, **options))
        in_channels = options["out_channels"]
    # Without out_features, that is "linear": naming it builds no stages.
    return ResNet(stem, stages, num_classes=num_classes)


def _stage(architecture: Architecture, scale: int, stride_in_1x1: bool) -> dict[str, Any]:
    """Arguments of `ResNet.make_stage`; `scale` is 1 for res2 and doubles with each stage."""
    if not architecture.has_bottlenecks:
        return {"block_class": BasicBlock, "out_channels": 64 * scale}
    width = architecture.num_groups * architecture.width_per_group
    return {
        "block_class": BottleneckBlock,
        "out_channels": 256 * scale,
        "bottleneck_channels": width * scale,
        "num_groups": architecture.num_groups,
        "stride_in_1x1": stride_in_1x1,
    }


def check_state_dict(
    state_dict: Mapping[str, torch.Tensor],
    architecture: Architecture,
    stem_pool: StemPool = MAX_POOL,
) -> int:
    """Make sure that weights are those of an architecture, all of them and nothing else.

    Args:
        state_dict: with the keys of Detectron2's ResNet; a classifier may be absent.
        architecture: what it should be.
        stem_pool: the stem's pooling, which may have learned parameters.

    Returns:
        Outputs of the classifier, 0 without one.

    Raises:
        ValueError: keys are missing, unknown or of another shape; names them.
    """
    num_classes = len(state_dict.get("linear.weight", ()))
    with torch.device("meta"):
        expected = build_resnet(architecture, max(num_classes, 1), stem_pool).state_dict()
    optional = {key for key in expected if key.endswith(COUNTER)}
    if not num_classes:
        optional |= {"linear.weight", "linear.bias"}
    faults = [f"{key} is missing" for key in expected.keys() - optional - state_dict.keys()]
    faults += [f"{key} is of no use there" for key in state_dict.keys() - expected.keys()]
    for key in expected.keys() & state_dict.keys():
        shape, right = tuple(state_dict[key].shape), tuple(expected[key].shape)
        if shape != right:
            faults.append(f"{key} is {shape} instead of {right}")
    if faults:
        shown = "; ".join(sorted(faults)[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"these are not the weights of {architecture.name}: {shown}{more}")
    return num_classes
