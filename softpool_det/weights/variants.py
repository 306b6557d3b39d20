"""Networks that are not the ResNets that Detectron2 builds, many of which look like them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

# Most telling first: what is named is the first that is found.
_BY_KEY = {
    "a ResNet of timm's ByobNet (CLIP's, ...)": r"stem\.conv1\.conv\.",
    "CLIP's ResNet (three convolutions in the stem, attention pooling)": r"(^|\.)attnpool\.",
    "a Vision Transformer (ViT)": r"(^|\.)(cls_token|pos_embed|class_token)$",
    "a Swin Transformer": r"relative_position_bias_table$",
    "a ConvNeXt": r"blocks\.\d+\.conv_dw\.|downsample_layers\.\d|\.layer_scale$",
    "a DenseNet": r"(^|\.)denseblock\d",
    "an HRNet": r"(^|\.)transition\d\.",
    "a RegNet": r"(^|\.)trunk_output\.",
    "an EfficientNet or MobileNet": r"(^|\.)conv_stem\.",
    "a ResNet of Hugging Face's transformers": r"(^|\.)embedder\.embedder\.",
    "a pre-activation ResNet (ResNetV2, BiT)": r"stages\.\d+\.blocks\.",
    "an ECA variant (efficient channel attention)": r"\.se\.conv\.",
    "an SE variant (squeeze-and-excitation)": r"\.se\.|\.se_module\.",
    "a selective-kernel variant (SK)": r"\.paths\.\d",
    "a ResNeSt (split attention)": r"\.conv2\.(fc1|bn0)\.",
    "a Res2Net": r"\.convs\.\d",
    "an anti-aliased variant": r"(\.|^)(aa|filt)(\.|$)",
    "a video ResNet (3D convolutions)": r"layer1\.0\.conv1\.0\.",
    "a deep-stem variant (-C, -D, -S, -T)": r"(^|\.)conv1\.\d+\.|^stem\.\d+\.",
    "a -D variant (average pooling in the shortcuts)": r"\.downsample\.2\.",
    "a variant with a learned stem pooling": r"maxpool\.(?!log_beta$)",
    "a ResNet for small images (CIFAR's)": r"^layer\d\.0\.shortcut\.",
}
_RIGHT = "take a plain ResNet, such as torchvision's or timm's resnet50"
_ANTI_ALIASED = re.compile(r"res(net|next)(aa|blur)\w*", re.IGNORECASE)


def check_keys(keys: Iterable[str]) -> None:
    """Refuse variants that their keys give away.

    Args:
        keys: as torchvision or timm name them.

    Raises:
        ValueError: names the variant and the keys that show it.
    """
    keys = list(keys)
    for variant, pattern in _BY_KEY.items():
        telling = [key for key in keys if re.search(pattern, key)]
        if telling:
            raise ValueError(_refusal(variant, telling))
    if "bn1.weight" in keys and "bn1.running_mean" not in keys:
        telling = [key for key in keys if key.startswith("bn1.")]
        raise ValueError(
            _refusal("a ResNet with group norm", telling) + "; bn1.running_mean is missing"
        )


def check_stem(weight: torch.Tensor) -> None:
    """Refuse stems of another shape.

    Args:
        weight: of the first convolution.

    Raises:
        ValueError: it is not (64, 3, 7, 7); says of what kind of ResNet it is.
    """
    shape = tuple(weight.shape)
    if shape == (64, 3, 7, 7):
        return
    right = _RIGHT
    if len(shape) != 4:
        kind = "a video ResNet" if len(shape) == 5 else "no ResNet for images"
    elif shape[1] != 3:
        kind = f"a ResNet for images of {shape[1]} channel{'s' * (shape[1] > 1)}"
        right = f"Detectron2 reads three; {_RIGHT}"
        if shape[1] == 1:
            right += (
                ", or repeat the weight three times and divide it by 3, which is the same function "
                "of grey images"
            )
    elif shape[2:] != (7, 7):
        kind = "a ResNet for small images (CIFAR's), or one with a deep stem"
    else:
        kind = f"a ResNet of another width ({shape[0]} channels in the stem)"
    raise ValueError(
        f"this is {kind}, which Detectron2's ResNet is not: its first convolution is {shape}, not "
        f"(64, 3, 7, 7); {right}"
    )


def check_name(name: str) -> None:
    """Refuse anti-aliased variants by name: their blurs have no weights, so no key shows them.

    Raises:
        ValueError: `name` has the name of one in it, such as resnetblur50 or resnetaa50.
    """
    match = _ANTI_ALIASED.search(name)
    if match:
        raise ValueError(
            f"{match[0]} is an anti-aliased variant, which Detectron2 does not build: its strided "
            "convolutions are followed by a pooling. (Its keys are a plain ResNet's; only the "
            f"name in {name!r} shows it. If that is wrong, give --architecture)"
        )


def _refusal(variant: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return (
        f"this is {variant}, which Detectron2's ResNet is not; recognised by the keys {shown}"
        f"{more}; {_RIGHT}"
    )
