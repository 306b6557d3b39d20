"""ResNets that look like ResNets and are not those that Detectron2 builds."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Most telling first: what is named is the first that is found.
_BY_KEY = {
    "a ResNet of timm's ByobNet (CLIP's, ...)": r"stem\.conv1\.conv\.",
    "a pre-activation ResNet (ResNetV2, BiT)": r"stages\.\d+\.blocks\.",
    "an ECA variant (efficient channel attention)": r"\.se\.conv\.",
    "an SE variant (squeeze-and-excitation)": r"\.se\.|\.se_module\.",
    "a selective-kernel variant (SK)": r"\.paths\.\d",
    "a ResNeSt (split attention)": r"\.conv2\.(fc1|bn0)\.",
    "a Res2Net": r"\.convs\.\d",
    "an anti-aliased variant": r"(\.|^)(aa|filt)(\.|$)",
    "a deep-stem variant (-C, -D, -S, -T)": r"conv1\.\d+\.",
    "a -D variant (average pooling in the shortcuts)": r"\.downsample\.2\.",
    "a variant with a learned stem pooling": r"maxpool\.",
}
_ANTI_ALIASED = re.compile(r"res(net|next)(aa|blur)\w*", re.IGNORECASE)


def check_keys(keys: Iterable[str]) -> None:
    """Refuse variants that their keys give away.

    Args:
        keys: as torchvision or timm name them.

    Raises:
        ValueError: names the variant and the keys that tell.
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


def check_name(name: str) -> None:
    """Refuse anti-aliased variants by name: their blurs have no weights, so no key tells.

    Raises:
        ValueError: `name` has the name of one in it, such as resnetblur50 or resnetaa50.
    """
    match = _ANTI_ALIASED.search(name)
    if match:
        raise ValueError(
            f"{match[0]} is an anti-aliased variant, which Detectron2 does not build: its strided "
            "convolutions are followed by a pooling. (Its keys are a plain ResNet's; only the "
            f"name in {name!r} tells. If that is wrong, say --architecture)"
        )


def _refusal(variant: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"this is {variant}, which Detectron2's ResNet is not; the keys that tell: {shown}{more}"
