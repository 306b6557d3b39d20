"""What is wrong with an annotation file: all of it, not the first fault alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from softpool_det.coco.annotations import numbered_faults
from softpool_det.coco.checks import (
    TRAINING,
    Fault,
    Policy,
    category_fault,
    id_fault,
    image_fault,
)
from softpool_det.coco.entries import TWICE, Entries, read_json, repeated
from softpool_det.io.data_errors import DataError

LISTS = ("images", "categories", "annotations")
MEND = "mend the entry or remove it"
LEFT_OUT = "in a training set INPUT.SKIP_CORRUPT True leaves it out, but not with --auto"
SKIP = f"{MEND}; {LEFT_OUT}"
_RULES: dict[str, Callable[[dict[str, Any], Policy], Fault | None]] = {
    "images": image_fault,
    "categories": category_fault,
}


@dataclass(frozen=True)
class Finding:
    """Something about a data set that its owner should know.

    Args:
        file: the annotation file; of a finding between two sets, the image.
        entry: "entry 3 of annotations (id 4, image_id 1)"; "" for the file as a whole.
        reason: what is wrong.
        remedy: what to do about it.
        is_fault: a training or an evaluation would end because of it; otherwise it would run.
        image: place of the image in the file; None where it is not about one.
    """

    file: str
    entry: str
    reason: str
    remedy: str
    is_fault: bool = True
    image: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.entry}" if self.entry else self.file
        return f"{where}: {self.reason}; {self.remedy}"


class Content(NamedTuple):
    """An annotation file without its faulty annotations.

    Args:
        data: as read, but for those.
        places: where its annotations stand in the file.
    """

    data: dict[str, Any]
    places: list[int]


def read_with_findings(path: Path, training: bool) -> tuple[Content | None, list[Finding]]:
    """Read an annotation file and find everything in it that is wrong.

    Args:
        path: the file.
        training: of a training set, which needs objects; otherwise of one to evaluate on.

    Returns:
        Its content, None where it has faults by which nothing else of it can be looked at; and the
        findings, in the file's order.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        data = read_json(path, plain=True)
        if isinstance(data, dict) and not training:
            data.setdefault("annotations", [])
        lists = [
            Entries(path, key, data, TRAINING, may_be_empty=key == "annotations") for key in LISTS
        ]
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return None, [Finding(str(path), "", reason, "make it COCO's JSON")]
    found = [finding for entries in lists for finding in _id_faults(entries)]
    if found:
        return None, found
    for entries in lists:
        if rule := _RULES.get(entries.key):
            for index, entry in enumerate(entries.entries):
                if fault := rule(entry, TRAINING):
                    found.append(_finding(entries, index, str(fault), MEND))
    if any(entries.key == "images" and found for entries in lists):
        return None, found
    places = {image["id"]: place for place, image in enumerate(data["images"])}
    annotations = data["annotations"]
    faults = dict(numbered_faults(path, data))
    for index, (name, reason) in faults.items():
        image = annotations[index].get("image_id")
        place = places.get(image) if isinstance(image, int | float | str) else None
        found.append(Finding(str(path), name, reason, SKIP, image=place))
    if all(entry.get("iscrowd", 0) for entry in annotations):
        reason = f"it has no object to {'train' if training else 'test'} on"
        # As COCO's own test sets: detections are written, but AP is undefined.
        found.append(Finding(str(path), "", reason, "annotate some", is_fault=training))
    right = [index for index in range(len(annotations)) if index not in faults]
    return Content({**data, "annotations": [annotations[i] for i in right]}, right), found


def _id_faults(entries: Entries) -> Iterator[Finding]:
    """Ids that cannot be right, or stand twice; of annotations the latter is a fault of its own."""
    ids = entries.column("id")
    wrong = {
        index: fault
        for index, value in enumerate(ids)
        if (fault := id_fault(value, ids[0], TRAINING))
    }
    for index, fault in wrong.items():
        yield _finding(entries, index, str(fault), MEND)
    if not wrong and entries.key != "annotations":
        for index in repeated(ids):
            yield _finding(entries, index, TWICE, "give it an id of its own, or remove it")


def _finding(entries: Entries, index: int, reason: str, remedy: str) -> Finding:
    return Finding(str(entries.path), entries.name(index), reason, remedy)
