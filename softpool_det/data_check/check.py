"""Check data sets: findings, measures, and pictures of both."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from softpool_det.coco.checks import CORNERS_HINT
from softpool_det.data_check.findings import Finding, read_with_findings
from softpool_det.data_check.image_files import image_findings, same_content
from softpool_det.data_check.measures import measure, outside
from softpool_det.io.images import ImageError, read_rgb
from softpool_det.report.drawing import DrawnObject, draw_objects

# A class with fewer objects is named: nobody learns it, and its AP is chance.
FEW = 10
PICTURES, PICTURES_OF_FINDINGS = 6, 6
RANDOM_SEED = 0
# If half of the boxes have fewer pixels a side, in the resized image, they look like fractions.
FRACTION = 4
FRACTION_REMEDY = "write boxes in pixels: these have a few pixels at most, as fractions would"
ANCHOR_REMEDY = "set MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS, or INPUT.MIN_SIZE_*"


@dataclass
class CheckedSet:
    """A file, what was found in it, and what it holds.

    Args:
        name: "train", "val", ...
        json_file, image_root: its paths.
        data: its content without faulty annotations; None where it has faults by which nothing
            else can be looked at.
        findings: of this set alone.
        measures: of `softpool_det.data_check.measures.measure`; None without `data`.
    """

    name: str
    json_file: Path
    image_root: Path
    data: dict[str, Any] | None
    findings: list[Finding] = field(default_factory=list)
    measures: dict[str, Any] | None = None


def check_sets(
    named: Sequence[tuple[str, Path, Path]], open_images: bool, resize: tuple[int, int]
) -> list[CheckedSet]:
    """Check data sets, each by itself.

    Args:
        named: of each what it is called in the report, COCO's JSON, and the folder that
            `file_name` starts from; names of training sets begin with "train".
        open_images: read the header of every image file.
        resize: shorter and longest longer side of the model's images, for sizes and anchors.

    Raises:
        OSError: an annotation file cannot be read, or a file or folder is missing.
    """
    # All of them before the images of the first, which may take minutes.
    for name, json_file, image_root in named:
        if not json_file.is_file():
            raise FileNotFoundError(f"{json_file} ({name}) is not a file; it must be COCO's JSON")
        if not image_root.is_dir():
            raise NotADirectoryError(
                f"{image_root} is not a folder; it must be the one of the images of {json_file}"
            )
        if not os.access(image_root, os.X_OK):
            raise PermissionError(f"{image_root}: you have no permission to open its files")
    return [_check_set(*paths, open_images, resize) for paths in named]


def _check_set(
    name: str, json_file: Path, image_root: Path, open_images: bool, resize: tuple[int, int]
) -> CheckedSet:
    training = name.startswith("train")
    content, findings = read_with_findings(json_file, training)
    if content is None:
        return CheckedSet(name, json_file, image_root, None, findings)
    data, places = content
    if open_images:
        findings += image_findings(json_file, data, image_root)
    measures = measure(data, *resize)
    findings += _outside(json_file, data, places) + _remarks(json_file, measures)
    return CheckedSet(name, json_file, image_root, data, findings, measures)


def check_across(sets: Sequence[CheckedSet], open_images: bool) -> list[Finding]:
    """Find faults between sets: other categories, images that are in two of them."""
    whole = [checked for checked in sets if checked.data is not None]
    found = [f for first, other in itertools.pairwise(whole) for f in _categories(first, other)]
    files = {
        checked.name: [
            (checked.image_root / image["file_name"]).absolute() for image in checked.data["images"]
        ]
        for checked in whole
        if checked.data is not None
    }
    owners: dict[Path, str] = {}
    for name, paths in files.items():
        here: set[Path] = set()
        for path in paths:
            owner = owners.setdefault(path, name)
            if path in here:
                found.append(_in_two(path, f"it is in {name} twice", name, name))
            elif owner != name:
                found.append(_in_two(path, f"it is in {owner} and in {name}", owner, name))
            here.add(path)
    if open_images:
        for one, other in same_content(files):
            names = owners[one], owners[other]
            where = f", of {names[0]}" if names[0] != names[1] else ""
            found.append(_in_two(other, f"it has the content of {one}{where}", *names))
    return found


def pictures_of(checked: CheckedSet) -> list[tuple[str, bytes]]:
    """Captions and PNGs: images that findings are about, then some at random."""
    data = checked.data
    if data is None:
        return []
    by_image: dict[Any, list[dict]] = {}
    for entry in data["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    classes = {c["id"]: (c["name"], place) for place, c in enumerate(data["categories"])}
    captions: dict[int, str] = {}
    for finding in checked.findings:
        if finding.image is not None and len(captions) < PICTURES_OF_FINDINGS:
            captions.setdefault(finding.image, f"{finding.entry} {finding.reason}".strip())
    places = [i for i, image in enumerate(data["images"]) if by_image.get(image["id"])]
    for place in random.Random(RANDOM_SEED).sample(places, min(PICTURES, len(places))):
        captions.setdefault(place, "chosen at random")
    found = []
    for place, caption in captions.items():
        image = data["images"][place]
        try:
            pixels = read_rgb(checked.image_root / image["file_name"])
        except (OSError, ImageError):
            continue
        objects = [
            DrawnObject(_near(entry["bbox"], pixels.size), *classes[entry["category_id"]])
            for entry in by_image.get(image["id"], [])
        ]
        picture = draw_objects(pixels, objects)
        found.append((f"{image['file_name']}: {caption}", picture))
    return found


def _near(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Clip a box where it is an image's size away from the image."""
    left, top = (max(-side, min(2 * side, box[axis])) for axis, side in enumerate(size))
    right, bottom = (
        max(-side, min(2 * side, box[axis] + box[axis + 2])) for axis, side in enumerate(size)
    )
    return left, top, right - left, bottom - top


def as_json(sets: Sequence[CheckedSet], across: Sequence[Finding]) -> dict[str, Any]:
    """All of it, in JSON's types."""
    return {
        "sets": [
            {
                "name": checked.name,
                "json_file": str(checked.json_file),
                "image_root": str(checked.image_root),
                "measures": checked.measures,
                "findings": [asdict(finding) for finding in checked.findings],
            }
            for checked in sets
        ],
        "across": [asdict(finding) for finding in across],
    }


def _outside(path: Path, data: dict[str, Any], places: Sequence[int]) -> list[Finding]:
    images = {image["id"]: place for place, image in enumerate(data["images"])}
    found = []
    for index in outside(data):
        entry = data["annotations"][index]
        place = images[entry["image_id"]]
        image = data["images"][place]
        name = f"entry {places[index]} of annotations (id {entry['id']!r:.40})"
        size = f"{image['width']}x{image['height']}"
        reason = f"its box {entry['bbox']} reaches beyond the image, which has {size} pixels"
        x, y, last_x, last_y = entry["bbox"]
        if 0 <= x < last_x <= image["width"] and 0 <= y < last_y <= image["height"]:
            reason += CORNERS_HINT
        remedy = "look at its picture; trainings cut the box off, evaluations do not"
        found.append(Finding(str(path), name, reason, remedy, False, place))
    return found


def _remarks(path: Path, measures: Mapping[str, Any]) -> list[Finding]:
    boxes, classes = measures["boxes"], measures["classes"]
    few = [c for c in classes if c["objects"] < FEW]
    found = []
    if few:
        shown = ", ".join(f"{c['name']} ({c['objects']})" for c in few[:10])
        more = ", ..." if len(few) > 10 else ""
        reason = f"classes with fewer than {FEW} objects, {len(few)} of {len(classes)}: "
        found.append((f"{reason}{shown}{more}", "add images of them, or leave them out"))
    if len({c["name"] for c in classes}) < len(classes):
        found.append(("two classes have one name", "give them one id, or two names"))
    if empty := measures["images_without_objects"]:
        reason = f"images without an object: {empty} of {measures['images']}"
        found.append((reason, "nothing to do: a training leaves them out, an evaluation does not"))
    without = measures["annotations"] - measures["with_mask"]
    if without and measures["with_mask"]:
        reason = f"objects without a mask: {without} of {measures['annotations']}"
        found.append((reason, "nothing to do for boxes; Mask R-CNN's evaluation needs all"))
    if boxes["empty"]:
        reason = f"boxes without an area: {boxes['empty']}"
        found.append((reason, "nothing to do: trainings leave them out"))
    if boxes["without_anchor"] > 0.05 * max(1, boxes["measured"]):
        share = 100 * boxes["without_anchor"] / boxes["measured"]
        reason = f"{share:.0f} % of the boxes have no anchor of RetinaNet's shapes and sizes"
        # No detector is for boxes so small: they may be meant as fractions of the image.
        fractions = boxes["side"]["median"] < FRACTION
        found.append((reason, FRACTION_REMEDY if fractions else ANCHOR_REMEDY))
    return [Finding(str(path), "", *texts, is_fault=False) for texts in found]


def _categories(first: CheckedSet, other: CheckedSet) -> list[Finding]:
    one, two = (
        {(c["id"], c["name"]) for c in (checked.data or {})["categories"]}
        for checked in (first, other)
    )
    if one == two:
        return []
    only = f"{sorted(two - one)!r:.200} in place of {sorted(one - two)!r:.200}"
    reason = f"other categories (id, name) than {first.json_file}: {only}"
    return [Finding(str(other.json_file), "", reason, "give both the same ones")]


def _in_two(path: Path, reason: str, first: str, other: str) -> Finding:
    leaks = first.startswith("train") != other.startswith("train")
    remedy = "keep one" + (": AP on images that were trained on is too high" if leaks else "")
    return Finding(str(path), "", reason, remedy, leaks)
