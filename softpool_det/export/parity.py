"""Exported files beside the model that they were made of, on images."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

from softpool_det.datasets.json_files import data_sets_of, use_json_files
from softpool_det.io.data_errors import DataError
from softpool_det.io.images import read_bgr
from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.result_files import match_files
from softpool_det.training.exported import Detector, OnnxDetector, detect
from softpool_det.training.inference import image_info_file
from softpool_det.training.predictor import Predictor, input_maker

# What a file may differ by: pixels of the image, scores, the share of an image's pixels in which a
# mask differs, points of AP, and the share of detections that only one of the two has, because a
# score or an overlap lies at a threshold.
MOST_BOX, MOST_SCORE, MOST_MASK, MOST_AP, MOST_UNPAIRED = 0.1, 1e-3, 1e-2, 0.05, 1e-3
# Detections further apart are not of one another.
_APART = 1.0


@dataclass
class Differences:
    """Of one file to PyTorch, over the images.

    Attributes:
        box: largest difference of a coordinate, in pixels of the image.
        score: of a score.
        mask: largest share of an image's pixels in which a mask differs.
        detections: PyTorch's.
        unpaired: detections that one of the two lacks.
        seconds: of each image, in the model.
        ap: by task, in percent; empty without a ground truth.
    """

    box: float = 0.0
    score: float = 0.0
    mask: float = 0.0
    detections: int = 0
    unpaired: int = 0
    seconds: list[float] = field(default_factory=list)
    ap: dict[str, float] = field(default_factory=dict)

    def add(self, expected: Instances, got: Instances) -> None:
        """Take in what both found in one image."""
        far = (expected.pred_boxes.tensor[:, None] - got.pred_boxes.tensor[None]).abs().amax(2)
        far[expected.pred_classes[:, None] != got.pred_classes[None]] = torch.inf
        rows, columns = torch.nonzero(far <= _APART, as_tuple=True)
        # Boxes cut off at the image's sides may be the same: their scores distinguish them.
        apart = far + (expected.scores[:, None] - got.scores[None]).abs()
        pairs: dict[int, int] = {}
        for place in apart[rows, columns].argsort().tolist():
            row, column = int(rows[place]), int(columns[place])
            if row not in pairs and column not in pairs.values():
                pairs[row] = column
        self.detections += len(expected)
        self.unpaired += len(expected) + len(got) - 2 * len(pairs)
        if not pairs:
            return
        mine, theirs = expected[list(pairs)], got[list(pairs.values())]
        self.box = max(self.box, far[list(pairs), list(pairs.values())].max().item())
        self.score = max(self.score, (mine.scores - theirs.scores).abs().max().item())
        if mine.has("pred_masks"):
            other = (mine.pred_masks != theirs.pred_masks).float().mean((1, 2))
            self.mask = max(self.mask, other.max().item())

    def excess(self, ap: Mapping[str, float]) -> list[str]:
        """Describe the differences above their limits; `ap` is PyTorch's."""
        values = [("boxes", self.box, MOST_BOX), ("scores", self.score, MOST_SCORE)]
        values += [("masks", self.mask, MOST_MASK)]
        values += [(f"AP ({task})", abs(self.ap[task] - ap[task]), MOST_AP) for task in self.ap]
        values += [("unpaired", self.unpaired / max(self.detections, 1), MOST_UNPAIRED)]
        return [
            f"{name} differ by {value:.3g}, more than {most}"
            for name, value, most in values
            if value > most
        ]


def load_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Detector]:
    """Load the detectors of an export's files, by format."""
    found: dict[str, Detector] = {}
    for name, entry in manifest["files"].items():
        path = folder / entry["file"]
        if name == "onnx":
            found[name] = OnnxDetector(folder, dict(manifest))
        elif name == "torchscript":
            found[name] = partial(detect, torch.jit.load(str(path)))
        elif name == "torch_export":
            # Its guards are about the layout in memory of levels with a single cell.
            found[name] = partial(detect, torch.export.load(str(path)).module(check_guards=False))
        else:
            found[name] = partial(detect, torch._inductor.aoti_load_package(str(path)))
    return found


def test_images(predictor: Predictor) -> tuple[Path, dict[int, Path]]:
    """The ground truth of the data set that the config names, and its images by their ids.

    Raises:
        FileNotFoundError, KeyError: the data set is not here.
        ValueError: the config names none, its own files are missing, or they have no images.
    """
    names = data_sets_of(predictor.cfg, "test")
    if not names:
        raise ValueError("the config names no test set: name images (--images)")
    try:
        # The predictor does without.
        use_json_files(predictor.cfg, training=False)
    except DataError as error:
        raise DataError(
            f"{error}: name the data (--val-json, --val-images) or images (--images)"
        ) from error
    name = names[0]
    truth = image_info_file(name)
    folder = Path(MetadataCatalog.get(name).image_root)
    images = json.loads(truth.read_text())["images"]
    if not images:
        raise ValueError(f"{truth} has no images: name some (--images)")
    return truth, {image["id"]: folder / image["file_name"] for image in images}


def check_export(
    predictor: Predictor,
    files: Mapping[str, Detector],
    images: Mapping[int, Path],
    truth: Path | None = None,
) -> dict[str, Differences]:
    """Run PyTorch and exported files on images.

    Args:
        predictor: what was exported, on the CPU.
        files: from :func:`load_files`.
        images: paths by id.
        truth: their ground truth, for AP.

    Returns:
        By format; that of PyTorch itself is called "pytorch".
    """
    detectors: dict[str, Detector] = {"pytorch": predictor.model, **files}
    make_input = input_maker(predictor.image_format, predictor.augmentations)
    found = {name: Differences() for name in detectors}
    entries: dict[str, list[dict]] = {name: [] for name in detectors}
    # TorchScript optimizes itself in the first runs.
    for detector in 2 * list(detectors.values()):
        with torch.inference_mode():
            detector([make_input(read_bgr(next(iter(images.values()))))])
    for number, path in images.items():
        results = _compare(detectors, found, [make_input(read_bgr(path))])
        for name, (instances,) in results.items():
            entries[name] += predictor.entries(instances, number)
    # A batch, of images with different sizes: the first one, and a part of the last one.
    first, last = (read_bgr(list(images.values())[place]) for place in (0, -1))
    part = last[: last.shape[0] * 3 // 4]
    _compare(detectors, found, [make_input(first), make_input(part)])
    if truth is not None:
        for name, values in _average_precisions(truth, entries).items():
            found[name].ap = values
    return found


def _compare(
    detectors: Mapping[str, Detector], found: Mapping[str, Differences], batch: list[dict[str, Any]]
) -> dict[str, list[Instances]]:
    """What each finds in a batch, the first of which is PyTorch; `found` takes it in."""
    results: dict[str, list[Instances]] = {}
    for name, detector in detectors.items():
        start = time.perf_counter()
        with torch.inference_mode():
            outputs = detector(batch)
        if len(batch) == 1:
            found[name].seconds.append(time.perf_counter() - start)
        results[name] = [output["instances"].to("cpu") for output in outputs]
        for expected, instances in zip(results["pytorch"], results[name], strict=True):
            found[name].add(expected, instances)
    return results


def _average_precisions(
    truth: Path, entries: Mapping[str, Sequence[dict]]
) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.json") for name in entries}
        for name, path in paths.items():
            path.write_text(json.dumps(entries[name]))
        runs = match_files(truth, {name: [path] for name, path in paths.items()})
    found: dict[str, dict[str, float]] = {name: {} for name in entries}
    for task, arms in runs.matches.items():
        for name, (matches,) in arms.items():
            found[name][task] = 100 * evaluate(matches).metrics()["AP"]
    return found


def table(found: Mapping[str, Differences]) -> list[dict[str, Any]]:
    """Rows for `tabulate`; with masks where there are some."""
    masks = any(item.mask or "segm" in item.ap for item in found.values())
    return [
        {
            "": name,
            "box (px)": f"{item.box:.2g}",
            "score": f"{item.score:.2g}",
            **({"mask": f"{item.mask:.2g}"} if masks else {}),
            "detections": item.detections,
            "unpaired": item.unpaired,
            **{f"AP ({task})": f"{value:.3f}" for task, value in item.ap.items()},
            "ms": f"{1000 * np.median(item.seconds):.1f}",
        }
        for name, item in found.items()
    ]
