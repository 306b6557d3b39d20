"""A detector that softpool-export wrote, as ONNX, in place of the model: docs/deployment.md."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances

MANIFEST = "model.json"
# Of the images: a manifest from before there were batches has another one.
LAYOUT = "NCHW"
INPUTS = {
    "images": "(N, 3, H, W) uint8: each in the upper left corner; what is right of and below it is "
    "not looked at",
    "image_sizes": "(N, 2) int64: their heights and widths",
}
# In this order; masks are there where the detector has them.
OUTPUTS = {
    "boxes": "(D, 4) float32: x0, y0, x1, y1 in pixels of the image that the file gets",
    "classes": "(D,) int64: places in the list of classes, from 0",
    "scores": "(D,) float32: 0 to 1, falling within an image",
    "image_indices": "(D,) int64: places in the batch, from 0, rising",
    "masks": "(D, M, M) float32: probabilities, 0 to 1, on a grid over the box; in the object from "
    "0.5, after bilinear interpolation to the box's pixels",
}
# What is done to an image.
_INPUT = {"channel_order", "layout", "resize"}


def find_manifest(path: Path) -> Path | None:
    """Find an exported detector's manifest; `path` is that, its ONNX file or its folder."""
    if path.suffix == ".onnx":
        return path.with_name(MANIFEST)
    if path.name == MANIFEST:
        return path
    is_run = (path / "config.yaml").is_file()
    return path / MANIFEST if (path / MANIFEST).is_file() and not is_run else None


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what softpool-export wrote about its files.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a manifest, or that of files which take one image.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.absolute()} does not exist: an exported detector needs its manifest beside it"
        )
    try:
        manifest = json.loads(path.read_text())
        known = {"classes", "files"} <= manifest.keys() and manifest["input"].keys() >= _INPUT
    except (ValueError, AttributeError, KeyError):
        known = False
    if not known:
        raise ValueError(f"{path} is not a manifest of softpool-export: export the detector again")
    if (layout := manifest["input"]["layout"]) != LAYOUT:
        raise ValueError(
            f"{path} is of an earlier version, whose files take one image ({layout}), not a batch "
            f"({LAYOUT}): export the detector again"
        )
    return manifest


def sha256(path: Path) -> str:
    """Hash a file; return hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_augmentations(manifest: dict[str, Any]) -> list[T.Augmentation]:
    """Build the resizing before the model, as Detectron2 does it."""
    resize = manifest["input"]["resize"]
    if resize is None:
        return []
    longest = resize["longest_side"] or sys.maxsize
    return [T.ResizeShortestEdge([resize["shortest_side"]] * 2, longest, "choice")]


def manifest_metadata(manifest: dict[str, Any]) -> Metadata:
    """Build the metadata: the names of the classes and the data set's ids for them."""
    classes = manifest["classes"]
    if any(entry["name"] is None for entry in classes):
        return Metadata()
    return Metadata(
        thing_classes=[entry["name"] for entry in classes],
        thing_dataset_id_to_contiguous_id={entry["id"]: n for n, entry in enumerate(classes)},
    )


class OnnxDetector:
    """Detectron2's inference interface to an exported ONNX file, on the CPU.

    Args:
        folder: of the manifest.
        manifest: from :func:`read_manifest`.

    Raises:
        FileNotFoundError: the ONNX file is not there.
        ImportError: onnxruntime is not installed.
        ValueError: the manifest names no ONNX file, or the file is not the one it was written for.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "an exported detector needs the extra [export] (onnxruntime): docs/deployment.md"
            ) from error
        entry = manifest["files"].get("onnx")
        if entry is None:
            names = ", ".join(manifest["files"])
            raise ValueError(f"{folder / MANIFEST} has no ONNX file, but {names}: export to onnx")
        # A manifest may come from a stranger: no path leads out of its folder.
        path = folder / Path(entry["file"]).name
        if not path.is_file():
            raise FileNotFoundError(f"{path}, which {MANIFEST} names, is not there")
        if sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} is not the file that {MANIFEST} names: its SHA-256 differs")
        options = onnxruntime.SessionOptions()
        # As many threads as PyTorch has: OMP_NUM_THREADS is not read by onnxruntime.
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects in entries as :func:`build_input_maker` makes them."""
        return detect(self._run, batch)

    def _run(self, *tensors: torch.Tensor) -> list[np.ndarray]:
        named = zip(INPUTS, tensors, strict=True)
        return self._session.run(None, {name: values.numpy() for name, values in named})


def detect(
    program: Callable[..., Sequence[Any]], batch: list[dict[str, Any]]
) -> list[dict[str, Instances]]:
    """Make Detectron2's `Instances` in the original images, of what an exported file finds.

    Args:
        program: makes `OUTPUTS`, arrays or tensors, of `INPUTS`, tensors.
        batch: entries with the resized image, and the height and width that it had.
    """
    sizes = [entry["image"].shape[1:] for entry in batch]
    images = ImageList.from_tensors([entry["image"] for entry in batch]).tensor
    outputs = program(images, torch.tensor(sizes))
    boxes, classes, scores, numbers, *masks = (torch.as_tensor(np.asarray(x)) for x in outputs)
    found = Instances(sizes[0], pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
    if masks:
        found.pred_masks = masks[0][:, None]
    results = []
    for number, (entry, size) in enumerate(zip(batch, sizes, strict=True)):
        own = Instances(tuple(size), **found[numbers == number].get_fields())
        results.append({"instances": detector_postprocess(own, entry["height"], entry["width"])})
    return results


Detector = Callable[[list[dict[str, Any]]], list[dict[str, Instances]]]
