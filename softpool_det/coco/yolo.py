"""YOLO's data sets, boxes and polygons: a data.yaml, images, and a text file for each image."""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

from softpool_det.coco.other_formats import LabelledImage, Object, as_coco, images_in
from softpool_det.io.data_errors import DataError
from softpool_det.io.images import read_header

# Ultralytics takes both for the validation set.
_KEYS = {"train": ("train",), "val": ("val", "validation")}
_LINE = "a line is: class x y width height, or class x1 y1 x2 y2 x3 y3 ..."
# What rounding may add to a coordinate.
_TOLERANCE = 0.01


def read_yolo(path: Path) -> dict[str, tuple[dict, Path]]:
    """Read the sets that a data.yaml names.

    Paths begin in `path`, which begins in the file's own folder, those of a .txt list in the list's
    folder; labels are in `labels` in place of the last folder `images`. An image without a label
    file has no objects.

    Returns:
        "train" and "val", as far as they are named: COCO's content and the folder of the images.

    Raises:
        OSError: a file cannot be read.
        DataError: a file does not hold what it should; one line with its name and the line.
        ImageError: an image cannot be read.
    """
    values = _read_yaml(path)
    classes = _classes(path, values)
    found = {}
    for part, keys in _KEYS.items():
        entry = next((values[key] for key in keys if values.get(key)), None)
        if entry is not None:
            images = _images(path, values, part, entry)
            pose = "kpt_shape" in values
            labelled = [_read_labels(image, path, classes, pose) for image in images]
            found[part] = as_coco(list(classes.values()), labelled)
    if not found:
        raise DataError(f"{path}: train and val are missing; name the folders of images")
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    # Here: result files are compared without it.
    import yaml

    try:
        values = yaml.safe_load(path.read_bytes())
    # ValueError: of a date that cannot be, of bytes that are not text.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        remedy = "data.yaml must be plain keys and values; nothing in it was run"
        raise DataError(f"{path}{where}: {problem}; {remedy}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: it holds {type(values).__name__}, must be YOLO's data.yaml")
    return values


def _classes(path: Path, values: dict[str, Any]) -> dict[int, str]:
    names = values.get("names")
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(pairs, dict) or not pairs or list(pairs) != list(range(len(pairs))):
        raise DataError(f"{path}: names is {reprlib.repr(names)}, must list the classes, from 0 on")
    for name in pairs.values():
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise DataError(
                f"{path}: names holds {reprlib.repr(name)}, must be text; put it in quotes"
            )
    return {number: str(name) for number, name in pairs.items()}


def _images(path: Path, values: dict[str, Any], part: str, entry: Any) -> list[Path]:
    names = entry if isinstance(entry, list) else [entry]
    for name in (values.get("path") or "", *names):
        if not isinstance(name, str):
            raise DataError(f"{path}: {part} or path is {reprlib.repr(name)}, must be a path")
    root = path.parent / (values.get("path") or "")
    found: list[Path] = []
    for name in names:
        source = root / name
        # Roboflow's files say ../train/images of what lies beside them.
        if not source.exists() and name.startswith("../"):
            source = root / name[3:]
        if source.is_dir():
            found += images_in(source)
        elif source.is_file() and source.suffix == ".txt":
            lines = source.read_text(encoding="utf-8").split("\n")
            found += [source.parent / line.strip() for line in lines if line.strip()]
        else:
            remedy = "mend the path, or path above it"
            raise DataError(
                f"{path}: {part} names {source}, neither a folder of images nor a .txt list; "
                f"{remedy}"
            )
    if not found:
        raise DataError(f"{path}: {part} has no images in {source}")
    if not any(_label_file(image).is_file() for image in found):
        raise DataError(
            f"{path}: no image of {part} has labels; {_label_file(found[0])}, for example, "
            "is missing: labels belong in a folder labels beside images"
        )
    return list(dict.fromkeys(found))


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = max(place for place, name in enumerate(parts[:-1]) if name == "images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_labels(image: Path, yaml: Path, classes: dict[int, str], pose: bool) -> LabelledImage:
    labelled = LabelledImage(image, read_header(image).size)
    file = _label_file(image)
    lines = file.read_bytes().splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        values = line.split()
        if not values:
            continue
        try:
            labelled.objects.append(
                _object(values[:5] if pose else values, labelled.size, len(classes))
            )
        except ValueError as error:
            reason = str(error).replace("data.yaml", str(yaml))
            raise DataError(f"{file}, line {number}: {reason}") from None
    return labelled


def _object(values: list[bytes], size: tuple[int, int], classes: int) -> Object:
    """Parse an object; raise ValueError with what is wrong with the line."""
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"it has {len(values)} values; {_LINE}")
    try:
        place, *numbers = map(float, values)
    except ValueError:
        raise ValueError(f"not all of it is numbers; {_LINE}") from None
    if place not in range(classes):
        raise ValueError(
            f"class {place:g} is not one of the {classes} in data.yaml, which count from 0; mend "
            "the line, or add the class to names"
        )
    if not all(-_TOLERANCE <= n <= 1 + _TOLERANCE and math.isfinite(n) for n in numbers):
        worst = max(numbers, key=lambda n: abs(n - 0.5) if math.isfinite(n) else math.inf)
        raise ValueError(
            f"{worst:g} is not between 0 and 1; divide x and widths by the image's width, "
            f"{size[0]}, y and heights by its height, {size[1]}"
        )
    pixels = [number * size[place % 2] for place, number in enumerate(numbers)]
    if len(pixels) > 4:
        xs, ys = pixels[::2], pixels[1::2]
        return int(place), (min(xs), min(ys), max(xs), max(ys)), pixels
    x, y, width, height = pixels
    return int(place), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), ()
