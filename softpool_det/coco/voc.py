"""Pascal VOC's data sets, boxes: an XML file for each image."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from softpool_det.coco.other_formats import LabelledImage, Object, as_coco, images_in
from softpool_det.io.data_errors import DataError
from softpool_det.io.images import explain_size, read_header

# Roboflow says valid.
_FOLDERS = (("train", "train"), ("val", "val"), ("val", "valid"))
_LAYOUT = "they lie in Annotations, in train and val, or beside the images"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocAnnotation(NamedTuple):
    """What an annotation file says.

    Args:
        size: (width, height) in pixels; zeros where it does not say.
        names: the objects' classes; "" where one has no name.
        boxes: their (x0, y0, x1, y1) in pixels, x1 and y1 exclusive. VOC counts pixels from 1 and
            includes the last, so 1 is subtracted from x0 and y0, as in Detectron2's VOC loader.
    """

    size: tuple[int, int]
    names: list[str]
    boxes: list[list[float]]


def parse_voc(xml: bytes) -> VocAnnotation:
    """Read an annotation file's content.

    Raises:
        ValueError: it declares a document type (with entities), or is not a VOC annotation.
    """
    # A NUL is of UTF-16, in which the other bytes look different.
    if b"\0" in xml or b"<!" in xml.replace(b"<!--", b""):
        raise ValueError("xml has a document type declaration or is UTF-16, must be plain UTF-8")
    try:
        root = ElementTree.fromstring(xml)
        size = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
        annotation = VocAnnotation((size[0], size[1]), [], [])
        for number, entry in enumerate(root.iterfind("object"), 1):
            annotation.names.append((entry.findtext("name") or "").strip())
            annotation.boxes.append(_box(entry, number))
    except (ElementTree.ParseError, ValueError, OverflowError) as error:
        raise ValueError(f"xml is not a VOC annotation: {error}") from error
    return annotation


def _box(entry: ElementTree.Element, number: int) -> list[float]:
    texts = [entry.findtext(f"bndbox/{corner}", "") for corner in _CORNERS]
    try:
        box = [float(text) for text in texts]
    except ValueError:
        box = [math.nan]
    if not all(map(math.isfinite, box)):
        shown = ", ".join(f"{c} {text!r:.20}" for c, text in zip(_CORNERS, texts, strict=True))
        raise ValueError(f"object {number} has {shown}, must be numbers")
    return [box[0] - 1, box[1] - 1, box[2], box[3]]


def read_voc(folder: Path) -> dict[str, tuple[dict, Path]]:
    """Read the sets of a folder in one of three layouts.

    Either `Annotations` and `JPEGImages` (or `images`), divided by `train.txt` and `val.txt` in
    `ImageSets/Main` where both are there; or folders `train` and `val` (or `valid`) with XML files
    beside their images; or these right in `folder`. Classes are those of all sets, by their names.

    Returns:
        "train" and, where there is one, "val": COCO's content and the folder of the images.

    Raises:
        OSError: a file cannot be read.
        DataError: a file does not hold what it should; one line with its name.
        ImageError: an image cannot be read.
    """
    sets = {part: _read_set(files, images) for part, files, images in _parts(folder)}
    classes = sorted({name for pairs in sets.values() for _, a in pairs for name in a.names})
    found = {}
    for part, pairs in sets.items():
        if not any(annotation.names for _, annotation in pairs):
            raise DataError(f"{folder}: no XML file for {part} has objects; {_LAYOUT}")
        labelled = []
        for image, annotation in pairs:
            objects: list[Object] = [
                (classes.index(name), box, [])
                for name, box in zip(annotation.names, annotation.boxes, strict=True)
            ]
            labelled.append(LabelledImage(image, read_header(image).size, objects))
        found[part] = as_coco(classes, labelled)
    return found


def _parts(folder: Path) -> Iterator[tuple[str, list[Path], Path]]:
    """Of each part its name, annotation files and folder of images."""
    annotations, images = folder / "Annotations", folder / "JPEGImages"
    images = images if images.is_dir() else folder / "images"
    lists = {part: folder / "ImageSets" / "Main" / f"{part}.txt" for part in ("train", "val")}
    folders = {name: part for part, name in _FOLDERS if (folder / name).is_dir()}
    if annotations.is_dir() and all(path.is_file() for path in lists.values()):
        for part, path in lists.items():
            lines = filter(None, map(str.strip, path.read_text().split("\n")))
            yield part, [_listed(annotations, line) for line in lines], images
    elif annotations.is_dir():
        yield "train", sorted(annotations.glob("*.xml")), images
    else:
        for name, part in (folders or {".": "train"}).items():
            yield part, sorted((folder / name).glob("*.xml")), folder / name


def _listed(folder: Path, line: str) -> Path:
    """Name the file of a list's line, which has a number behind the name in lists of a class."""
    file = folder / f"{line}.xml"
    return file if file.is_file() else folder / (re.sub(r"\s+-?[01]$", "", line) + ".xml")


def _read_set(files: Sequence[Path], folder: Path) -> list[tuple[Path, VocAnnotation]]:
    """Images and what their annotation files say."""
    # By the annotation file's own name: the one in it is often that of before a renaming.
    # Masks or thumbnails of the same names may lie deeper.
    found_images = sorted(images_in(folder), key=lambda path: -len(path.parts))
    by_stem = {image.stem: image for image in found_images}
    found = []
    for file in files:
        image = by_stem.get(file.stem)
        if image is None:
            raise DataError(f"{file}: {folder / file.stem}.jpg or .png is missing; add the image")
        try:
            annotation = parse_voc(file.read_bytes())
        except ValueError as error:
            raise DataError(f"{file}: {error}; mend the file or remove it") from None
        _check(file, image, annotation)
        found.append((image, annotation))
    return found


def _check(file: Path, image: Path, annotation: VocAnnotation) -> None:
    for number, (name, box) in enumerate(zip(annotation.names, annotation.boxes, strict=True), 1):
        if not name:
            raise DataError(f"{file}: object {number} has no name; give it that of its class")
        if box[0] >= box[2] or box[1] >= box[3]:
            corners = [box[0] + 1, box[1] + 1, *box[2:]]
            reason = f"{corners}, which must be xmin, ymin, xmax, ymax from low to high"
            raise DataError(f"{file}: object {number} has the corners {reason}")
    wrong_size = explain_size(image, annotation.size) if all(annotation.size) else None
    if wrong_size:
        raise DataError(f"{file}: {image}: {wrong_size}; mend its size and boxes, or the image")
