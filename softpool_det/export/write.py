"""Write a detector's files and the manifest beside them."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import detectron2
import detectron2.data.transforms as T
import torch
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from torch import Tensor, nn

from softpool_det.export.capture import BatchDetector, capture
from softpool_det.io.atomic import replacing_within
from softpool_det.training.exported import INPUTS, LAYOUT, MANIFEST, OUTPUTS, sha256
from softpool_det.training.predictor import Predictor

# RoiAlign has half_pixel, which is Detectron2's ROIAlignV2, since 16.
OPSET = 17
# The last level of a feature pyramid has several cells in both directions; torch.export, which
# computes nothing, also distinguishes all sizes.
_TRACED, _CAPTURED = (192, 288), (480, 672)


def check_exportable(model: nn.Module) -> None:
    """Raise ValueError unless `model` is a RetinaNet, or a Faster or Mask R-CNN."""
    if isinstance(model, RetinaNet):
        return
    if isinstance(model, GeneralizedRCNN):
        generator, heads = model.proposal_generator, model.roi_heads
        # Subclasses, as of Cascade R-CNN, compute otherwise.
        found = type(generator), type(heads), type(getattr(heads, "box_predictor", None))
        if found == (RPN, StandardROIHeads, FastRCNNOutputLayers) and not heads.keypoint_on:
            return
    raise ValueError(
        "a RetinaNet, or a Faster or Mask R-CNN with an RPN and StandardROIHeads, without "
        f"keypoints, can be exported; this model is a {type(model).__name__} with other parts"
    )


def export_detector(predictor: Predictor, folder: Path, formats: Sequence[str]) -> dict[str, Any]:
    """Write a trained detector for use without this package.

    Args:
        predictor: with a model of PyTorch.
        folder: gets a file for each format, and the manifest; all are written atomically.
        formats: of `FORMATS`.

    Returns:
        The manifest.

    Raises:
        ValueError: an unknown format, or a detector that cannot be exported.
        OSError: the folder is a file, or cannot be written.
    """
    if wrong := sorted(set(formats) - FORMATS.keys()):
        raise ValueError(f"formats must be of {', '.join(FORMATS)}, got {wrong[0]!r}")
    if not isinstance(predictor.model, nn.Module):
        raise ValueError("the detector was exported already: name its run, or config and weights")
    check_exportable(predictor.model)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output must be a folder, got the file {folder}")
    heads = getattr(predictor.model, "roi_heads", None)
    if "aotinductor" in formats and getattr(heads, "mask_on", False):
        raise ValueError(
            "aotinductor gives wrong masks (seen with torch 2.11): export Mask R-CNN as onnx, "
            "torchscript or torch_export"
        )
    model = copy.deepcopy(predictor.model).cpu().eval()
    manifest = _describe(predictor, model)
    with replacing_within(folder) as temporary:
        for name in formats:
            file, write = FORMATS[name]
            path = temporary / file
            with warnings.catch_warnings(), torch.no_grad():
                # Of the tracer, about what Detectron2 made safe for it, and of torch's own future.
                warnings.simplefilter("ignore")
                write(model, path)
            manifest["files"][name] = {"file": file, "sha256": sha256(path)}
        text = json.dumps(manifest, indent=2) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _example(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two images of different sizes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([[height, width], [height - 10, width - 20]])


def _write_onnx(model: nn.Module, path: Path) -> None:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the extra [export]: docs/deployment.md") from error
    detector, example = BatchDetector(model).eval(), _example(*_TRACED)
    names = list(OUTPUTS)[: len(detector(*example))]
    axes = {name: {0: "detections"} for name in names}
    sides = {0: "batch", 2: "height", 3: "width"}
    # The exporter for TorchScript: what torch.export captures is for larger images.
    torch.onnx.export(
        detector,
        example,
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=names,
        dynamic_axes={"images": sides, "image_sizes": {0: "batch"}, **axes},
    )
    onnx.checker.check_model(str(path), full_check=True)


def _write_torchscript(model: nn.Module, path: Path) -> None:
    detector = BatchDetector(model).eval()
    traced = torch.jit.trace(detector, _example(*_TRACED), check_trace=False)
    traced.save(str(path))


def _write_torch_export(model: nn.Module, path: Path) -> None:
    torch.export.save(capture(model, *_example(*_CAPTURED)), str(path))


def _write_aotinductor(model: nn.Module, path: Path) -> None:
    program = capture(model, *_example(*_CAPTURED))
    # With it, convolutions over an unknown number of boxes read contiguous input as channels last
    # (torch 2.11). Without it masks were still wrong: `export_detector` refuses those.
    options = {"layout_optimization": False}
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=options
    )


# By name: the file's name, and what writes it.
FORMATS: dict[str, tuple[str, Callable[[nn.Module, Path], None]]] = {
    "onnx": ("model.onnx", _write_onnx),
    "torchscript": ("model.ts", _write_torchscript),
    "torch_export": ("model.pt2", _write_torch_export),
    "aotinductor": ("model_aoti.pt2", _write_aotinductor),
}


def _describe(predictor: Predictor, model: Any) -> dict[str, Any]:
    """Build the manifest, except for its list of files."""
    dense = isinstance(model, RetinaNet)
    heads = model if dense else model.roi_heads.box_predictor
    masks = not dense and model.roi_heads.mask_on
    names = list(OUTPUTS)[: None if masks else -1]
    return {
        "model": type(model).__name__,
        "classes": _classes(predictor, model.num_classes if dense else model.roi_heads.num_classes),
        "input": {
            "layout": LAYOUT,
            **INPUTS,
            "channel_order": predictor.image_format,
            "resize": _resize(predictor.augmentations),
            "normalization": "inside the file: (image - pixel_mean) / pixel_std, then zeros to the "
            "right of and below each image, up to a multiple of what the backbone needs",
            "pixel_mean": model.pixel_mean.flatten().tolist(),
            "pixel_std": model.pixel_std.flatten().tolist(),
        },
        "outputs": {name: OUTPUTS[name] for name in names},
        "score_threshold": heads.test_score_thresh,
        "nms_threshold": heads.test_nms_thresh,
        "versions": {
            **{name: version(name) for name in ("softpool_det", "torch", "torchvision")},
            "detectron2": detectron2.__version__,
            "onnx_opset": OPSET,
        },
        "files": {},
    }


def _classes(predictor: Predictor, count: int) -> list[dict[str, Any]]:
    """Names, None where they are not known, and the data set's own ids."""
    names = predictor.metadata.get("thing_classes") or [None] * count
    if len(names) != count:
        raise ValueError(f"the model has {count} classes, its data set {len(names)}")
    places = predictor.metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = {place: number for number, place in places.items()}
    return [{"id": ids.get(place, place), "name": name} for place, name in enumerate(names)]


def _resize(augmentations: Sequence[T.Augmentation]) -> dict[str, Any] | None:
    """Return the rule of Detectron2's `ResizeShortestEdge`; None if nothing is resized."""
    if not augmentations:
        return None
    only: Any = augmentations[0]
    sides = set(getattr(only, "short_edge_length", ()))
    if [type(a) for a in augmentations] != [T.ResizeShortestEdge] or len(sides) != 1:
        raise ValueError(
            "at test time, a detector that is exported may resize the shortest edge to one "
            f"length, and do nothing else to an image; this one has {list(augmentations)}"
        )
    (side,) = sides
    if side == 0:
        return None
    return {
        "shortest_side": side,
        "longest_side": None if only.max_size >= sys.maxsize else only.max_size,
        "rule": "scale the shorter side to shortest_side, but the longer one to longest_side at "
        "most; new sides are int(side * scale + 0.5); bilinear, as PIL does it",
    }
