"""What happens to an image before the classifier gets it: torchvision's transforms v2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2


class EnlargeTo(nn.Module):
    """Enlarge an image whose shorter side is below `size` pixels to that; leave others alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Image.Image) -> Image.Image:
        if min(image.size) >= self.size:
            return image
        return v2.functional.resize(image, [self.size])


def train_transform(
    size: int,
    crop_type: str,
    crop_scale: Sequence[float],
    crop_size: int,
    flip: str,
    auto_augment: str,
    random_erase: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> v2.Compose:
    """A random view of a PIL image as a normalised float32 tensor (3, size, size).

    Args:
        size: side in pixels of what comes out.
        crop_type: "resized" (RandomResizedCrop) or "absolute", a random square of `crop_size`
            pixels, resized.
        crop_scale: for "resized": smallest and largest part of the area.
        crop_size: for "absolute": side in pixels; smaller images are enlarged to it.
        flip: "horizontal" (with probability 0.5) or "none".
        auto_augment: "ta_wide" (TrivialAugment, wide) or "" for none.
        random_erase: probability that a rectangle becomes the mean colour.
        mean, std: of the channels R, G, B, for pixels from 0 to 255.

    Raises:
        ValueError: an argument is none of those.
    """
    steps: list[nn.Module] = []
    if crop_type == "resized":
        steps.append(v2.RandomResizedCrop(size, scale=tuple(crop_scale)))
    elif crop_type == "absolute":
        steps += [EnlargeTo(crop_size), v2.RandomCrop(crop_size), v2.Resize((size, size))]
    else:
        raise ValueError(f"INPUT.CROP.TYPE must be 'resized' or 'absolute', got {crop_type!r}")
    if flip == "horizontal":
        steps.append(v2.RandomHorizontalFlip())
    elif flip != "none":
        raise ValueError(f"INPUT.RANDOM_FLIP must be 'horizontal' or 'none', got {flip!r}")
    if auto_augment == "ta_wide":
        steps.append(v2.TrivialAugmentWide())
    elif auto_augment:
        raise ValueError(f"INPUT.AUTO_AUGMENT must be 'ta_wide' or '', got {auto_augment!r}")
    steps += _to_normalised(mean, std)
    if random_erase > 0:
        # Behind normalisation 0 is the mean.
        steps.append(v2.RandomErasing(p=random_erase))
    return v2.Compose(steps)


def evaluation_transform(
    resize: int, crop_size: int, mean: Sequence[float], std: Sequence[float]
) -> v2.Compose:
    """The centre of a PIL image as a normalised float32 tensor (3, crop_size, crop_size).

    Args:
        resize: the shorter side is resized to so many pixels first.
        crop_size: side in pixels of the square cut out of the centre.
        mean, std: of the channels R, G, B, for pixels from 0 to 255.
    """
    return v2.Compose([v2.Resize(resize), v2.CenterCrop(crop_size), *_to_normalised(mean, std)])


def _to_normalised(mean: Sequence[float], std: Sequence[float]) -> list[nn.Module]:
    return [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize(list(mean), list(std))]


def batch_mixer(mixup_alpha: float, cutmix_alpha: float, num_classes: int) -> nn.Module | None:
    """MixUp, CutMix or a random choice of the two, for a batch (images, labels); None for neither.

    Args:
        mixup_alpha, cutmix_alpha: parameter of the Beta distribution; 0 for none.
        num_classes: length of the labels that come out: (N, num_classes).
    """
    mixers: list[nn.Module] = []
    if mixup_alpha > 0:
        mixers.append(v2.MixUp(alpha=mixup_alpha, num_classes=num_classes))
    if cutmix_alpha > 0:
        mixers.append(v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes))
    return v2.RandomChoice(mixers) if mixers else None
