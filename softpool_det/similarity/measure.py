"""The figures of one image, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from softpool_det.similarity.metrics import paper_like_ssim, psnr, same_size, ssim
from softpool_det.similarity.photographs import Photograph, cropped, read_pixels
from softpool_det.similarity.poolings import State, apply, build, load_state, pooling_of, seed_of

# JSON's null: infinite, of two equal images.
Figure = float | None


class MeasuringTask(NamedTuple):
    """What to measure: an image and a kernel size, all poolings by all protocols.

    Args:
        photograph: the image.
        kernel: size and stride of the windows.
        keys: of the poolings.
        protocols: names of `metrics.PROTOCOLS`.
        seed: for draws.
        states: parameters of the trained poolings by key.
    """

    photograph: Photograph
    kernel: int
    keys: Sequence[str]
    protocols: Sequence[str]
    seed: int
    states: Mapping[str, State]


def measure(task: MeasuringTask) -> list[dict[str, Any]]:
    """Measure SSIM and PSNR by protocol: a record for each pooling, as in similarity.json.

    Raises:
        FileNotFoundError, ImageError: the image cannot be read.
        FloatingPointError: a pooled value is not finite.
    """
    image = load_image(task.photograph, task.kernel)
    return [_record(task, key, image) for key in task.keys]


def load_image(photograph: Photograph, kernel: int) -> torch.Tensor:
    """Load the image as float64 (1, 3, H, W), 0 to 1, cropped to a multiple of `kernel`."""
    pixels = cropped(read_pixels(photograph), kernel)
    return torch.from_numpy(pixels.astype(np.float64) / 255)[None]


def pool(
    key: str, image: torch.Tensor, kernel: int, seed: int, state: State | None, name: str
) -> torch.Tensor:
    """(1, 3, H, W) pooled by `kernel`, stride `kernel`; draws depend on seed and name alone."""
    pooling = pooling_of(key)
    layer = build(pooling, kernel, seed_of(seed, "draws", key, kernel, name))
    if state is not None:
        load_state(layer, state)
    with torch.no_grad():
        return apply(pooling, layer.double(), image)


def _record(task: MeasuringTask, key: str, image: torch.Tensor) -> dict[str, Any]:
    name = task.photograph.name
    pooled = pool(key, image, task.kernel, task.seed, task.states.get(key), name)
    if not torch.isfinite(pooled).all():
        raise FloatingPointError(
            f"{pooling_of(key).label}, k = {task.kernel}: values of {name} are not finite"
        )
    record: dict[str, Any] = {"image": name, "pooling": key, "kernel_size": task.kernel}
    record |= {"ssim": {}, "psnr": {}}
    for protocol in task.protocols:
        one, other = (side.numpy()[0] for side in same_size(image, pooled, protocol))
        record["ssim"][protocol] = ssim(one, other)
        record["psnr"][protocol] = psnr(one, other)
    record["paper_like_ssim"] = paper_like_ssim(image, pooled)
    return record


def figure(record: Mapping[str, Any], measure: str, protocol: str) -> Figure:
    """Return "ssim" or "psnr" by a protocol; the protocol "paper-like" has an SSIM only."""
    if protocol == "paper-like":
        return record["paper_like_ssim"]
    return record[measure][protocol]


def means(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average records over all images, by pooling and kernel size, in the order of the records."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["pooling"], record["kernel_size"]), []).append(record)
    return [
        {
            "pooling": key,
            "kernel_size": kernel,
            "ssim": _by_protocol(group, "ssim"),
            "psnr": _by_protocol(group, "psnr"),
            "paper_like_ssim": _mean(record["paper_like_ssim"] for record in group),
        }
        for (key, kernel), group in groups.items()
    ]


def _by_protocol(group: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Figure]:
    return {
        protocol: _mean(record[measure][protocol] for record in group)
        for protocol in group[0][measure]
    }


def _mean(values: Iterable[Figure]) -> Figure:
    # One infinite value makes the mean infinite.
    found = [float("inf") if value is None else value for value in values]
    mean = float(np.mean(found))
    return mean if np.isfinite(mean) else None
