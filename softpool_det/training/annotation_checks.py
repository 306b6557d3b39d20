"""Annotation files in COCO's format, checked before they are trained on or evaluated with.

Detectron2 and pycocotools take most of what stands in them: a NaN box becomes a NaN loss hours
later, a mask of another size a crash or a wrong AP.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.utils import comm

from softpool_det.coco.annotations import numbered_faults, read_annotations
from softpool_det.coco.completion import complete_sizes, without_size
from softpool_det.coco.entries import read_json
from softpool_det.io.atomic import write_json
from softpool_det.io.data_errors import DataError, Skipped

# In a run's folder: files that were found right, with their sizes and times of change.
CHECKED_FILE = "checked_annotations.json"
# To be raised with a new rule: files that passed the old ones are checked again.
_RULES = 1
# With faulty annotations left out, a data set is another one and has another name.
_SUFFIX = "_without_faults"
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Verdict:
    """What the check of a file found, by place in its lists.

    Attributes:
        sizes: (height, width) in pixels of images that have a size in their own file only.
        images: images without any size: what errors call them, and why.
        annotations: faulty ones: what errors call them, and why.
    """

    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    images: dict[int, tuple[str, str]] = field(default_factory=dict)
    annotations: dict[int, tuple[str, str]] = field(default_factory=dict)


def check_evaluation_annotations(
    name: str, masks: bool = False, folder: Path | None = None
) -> None:
    """Check the ground truth of a data set in COCO's format; others are taken as they are.

    Images without a size get their file's, in what Detectron2's catalog gives from then on. All
    processes of a job call this; one of them reads the file.

    Args:
        name: registered with Detectron2.
        masks: masks are evaluated, too.
        folder: of the run, remembers files that are right; None to check in any case.

    Raises:
        DataError: names the file and the first entry that cannot be right. Nothing is left out of a
            ground truth: AP would be another's.
    """
    path = _annotation_file(name)
    if path is None:
        return
    needed = ("images", "categories")
    verdict = _on_main_process(partial(_check, name, path, needed, masks, folder))
    for entry, reason in [*verdict.images.values(), *verdict.annotations.values()]:
        raise DataError(f"{path}: {entry}: {reason}")
    if verdict.sizes:
        _register(name, name, path, verdict)


def check_training_annotations(name: str, skip: bool, skipped: Skipped, folder: Path) -> str:
    """Check a training set in the same way; its faulty entries may be left out.

    Args:
        name: registered with Detectron2.
        skip: leave out faulty annotations.
        skipped: takes what was left out: annotations, and images that have no size and cannot be
            read.
        folder: of the run, remembers files that are right.

    Returns:
        The data set to train on: `name`, or one without the faulty annotations.

    Raises:
        DataError: names the file and the first entry that cannot be right.
    """
    path = _annotation_file(name)
    if path is None:
        return name
    needed = ("images", "categories", "annotations")
    verdict = _on_main_process(partial(_check, name, path, needed, False, folder))
    faults = [*verdict.images.values(), *verdict.annotations.values()]
    for entry, reason in faults:
        if not skip:
            raise DataError(
                f"{path}: {entry}: {reason}; INPUT.SKIP_CORRUPT True leaves such entries out"
            )
        skipped.add(f"{path}: {entry}", reason)
    chosen = name + _SUFFIX if faults else name
    if faults or verdict.sizes:
        _register(name, chosen, path, verdict)
    return chosen


def _on_main_process(work: Callable[[], _Result]) -> _Result:
    """Return what `work` returns, or raise what it raises, on all processes of a job.

    It runs on the main process; the others wait for it.
    """
    outcome: tuple[Any, Exception | None] | None = None
    if comm.is_main_process():
        try:
            outcome = work(), None
        except Exception as error:
            outcome = None, error
    result, failure = comm.all_gather(outcome)[0]
    if failure is not None:
        raise failure
    return result


def _check(
    name: str, path: Path, needed: tuple[str, ...], masks: bool, folder: Path | None
) -> _Verdict:
    status = path.stat()
    state = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "rules": _RULES}
    # What was asked of the file, too: the ground truth of boxes may have no masks.
    key = f"{path.resolve()}: {', '.join(needed)}{' with masks' if masks else ''}"
    checked = {} if folder is None else _checked(folder)
    if checked.get(key) == state:
        return _Verdict()
    data = read_annotations(path, needed)
    images = data["images"]
    missing = without_size(images)
    failures = {}
    if missing:
        failures = complete_sizes(path, images, Path(MetadataCatalog.get(name).image_root))
    verdict = _Verdict(
        {i: (images[i]["height"], images[i]["width"]) for i in missing if i not in failures},
        {
            i: (f"entry {i} of images (id {images[i]['id']!r:.40})", f"it has no size, and {why}")
            for i, why in failures.items()
        },
        dict(numbered_faults(path, data, masks)),
    )
    # Sizes and faults are looked at again: an image file may have changed, faults are listed.
    if folder is not None and verdict == _Verdict():
        with contextlib.suppress(OSError):
            write_json(folder / CHECKED_FILE, {**checked, key: state})
    return verdict


def _checked(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CHECKED_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _register(name: str, new_name: str, path: Path, verdict: _Verdict) -> None:
    """Give Detectron2's catalog a data set as the verdict has it, under its name or a new one."""
    metadata = MetadataCatalog.get(name)
    if new_name in DatasetCatalog:
        DatasetCatalog.remove(new_name)
    if new_name != name:
        if new_name in MetadataCatalog:  # of an earlier run in this process
            MetadataCatalog.remove(new_name)
        given = {key: value for key, value in metadata.as_dict().items() if key != "name"}
        MetadataCatalog.get(new_name).set(**given)
    load = partial(_load, new_name, path, metadata.image_root, verdict)
    DatasetCatalog.register(new_name, load)


def _load(name: str, path: Path, image_root: str, verdict: _Verdict) -> list[dict[str, Any]]:
    """Load a file with the sizes that it lacks and without its faulty entries."""
    data = read_json(path, plain=True)
    for place, (height, width) in verdict.sizes.items():
        data["images"][place] |= {"height": height, "width": width}
    left_out = {data["images"][place]["id"] for place in verdict.images}
    data["images"] = [image for image in data["images"] if image["id"] not in left_out]
    data["annotations"] = [
        entry
        for place, entry in enumerate(data.get("annotations", []))
        if place not in verdict.annotations and entry["image_id"] not in left_out
    ]
    # Detectron2 reads files only.
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder, path.name)
        changed.write_text(json.dumps(data))
        return load_coco_json(str(changed), image_root, name)


def _annotation_file(name: str) -> Path | None:
    metadata = MetadataCatalog.get(name)
    if getattr(metadata, "evaluator_type", None) != "coco" or not hasattr(metadata, "json_file"):
        return None
    return Path(metadata.json_file)
