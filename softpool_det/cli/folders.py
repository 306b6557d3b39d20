"""YOLO's and Pascal VOC's data sets as options of the programs that train and check."""

from __future__ import annotations

import argparse
from pathlib import Path

from softpool_det.coco.other_formats import write_if_changed
from softpool_det.coco.voc import read_voc
from softpool_det.coco.yolo import read_yolo

# A data.yaml names both sets, so that one option is enough.
FOLDER_OPTIONS = {
    "yolo": ("DATA.yaml", "both sets of a YOLO data set, boxes or polygons"),
    "voc": ("FOLDER", "both sets of a Pascal VOC data set"),
}


def add_folder_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add `--yolo` and `--voc`, which `use_folders` puts in place of `--train-json` and others."""
    for name, (metavar, what) in FOLDER_OPTIONS.items():
        parser.add_argument(f"--{name}", type=Path, metavar=metavar, help=what)


def use_folders(args: argparse.Namespace, output: Path) -> None:
    """Write what `--yolo` or `--voc` names as COCO's JSON to `output`/data; set `args` to that.

    A file of the same content stays as it is.

    Raises:
        DataError, OSError: the data set cannot be read; nothing is written.
        ValueError: other data sets are named, too.
    """
    given = [name for name in (*FOLDER_OPTIONS, "train_json", "val_json") if getattr(args, name)]
    if not set(given) & set(FOLDER_OPTIONS):
        return
    if len(given) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{options} name data sets each: give one of them")
    path = getattr(args, given[0]).expanduser()
    sets = {"yolo": read_yolo, "voc": read_voc}[given[0]](path)
    said = []
    for part, (data, images) in sets.items():
        file = output / "data" / f"{part}.json"
        write_if_changed(file, data)
        setattr(args, f"{part}_json", [str(file)])
        setattr(args, f"{part}_images", [str(images)])
        counts = f"{len(data['images']):,} images with {len(data['annotations']):,} objects"
        said.append(f"{counts} in {file}")
    print(f"{path} as COCO's JSON: {', '.join(said)}", flush=True)
