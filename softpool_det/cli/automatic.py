"""What `softpool-compare --auto` compares: the user's data checked, divided, and a schedule."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from softpool_det.cli.program import data_overrides
from softpool_det.coco.other_formats import write_if_changed
from softpool_det.comparison.arms import Arm
from softpool_det.comparison.automatic import ONE_IN, SPLIT_SEED, check_masks, settings, split
from softpool_det.data_check.check import ANCHOR_REMEDY, check_across, check_sets
from softpool_det.data_check.findings import LEFT_OUT
from softpool_det.data_check.image_files import same_content
from softpool_det.report import printable

SKIP_KEY = "INPUT.SKIP_CORRUPT"
# Remarks on the data that are printed.
SHOWN = 10


def automatic_arms(args: argparse.Namespace, names: Sequence[str]) -> list[Arm]:
    """Stock and SoftPool for the user's data, which are split where no test set is given.

    Raises:
        ValueError: the data set has a fault, or the options do not fit it; one line.
    """
    if len(args.train_json) != 1 or len(args.train_images) != 1:
        raise ValueError("--auto takes one --train-json and one --train-images")
    chosen = dict(zip(args.inputs[::2], args.inputs[1::2], strict=True))
    data = read_checked(args, chosen)
    if args.masks:
        check_masks(data)
    parts = () if args.val_json or args.test_json else divide(args, data)
    if args.limit_images:
        chosen["DATASETS.LIMIT_IMAGES"] = str(args.limit_images)
    device = chosen.get("MODEL.DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
    found = settings(parts[0] if parts else data, args.masks, chosen, device != "cpu")
    if parts:
        write_parts(args, parts)
    print("\n".join(found.notes), flush=True)
    args.known_spread = args.known_spread or found.known_spread
    return [
        Arm(name, config, (*data_overrides(args, config), *found.overrides, *args.inputs))
        for name, config in zip(names, found.configs, strict=True)
    ]


def read_checked(args: argparse.Namespace, chosen: Mapping[str, str]) -> dict:
    """Return the training set's content, and print remarks on all sets.

    Raises:
        ValueError: there is a fault; with the first one.
    """
    named = []
    for part in ("train", "val", "test"):
        given = zip(getattr(args, f"{part}_json"), getattr(args, f"{part}_images"), strict=True)
        for file, images in given:
            named.append((part, Path(file).expanduser(), Path(images).expanduser()))
    sets = check_sets(named, True, (800, 1333))
    findings = [finding for checked in sets for finding in checked.findings]
    findings += check_across(sets, True)
    # A part to test on leaves nothing out, and both may be cut from the training set.
    faults = [str(f).partition(f"; {LEFT_OUT}")[0] for f in findings if f.is_fault]
    data = sets[0].data
    if faults or data is None:
        others = f" (faults: {len(faults)}, softpool-check-data shows all)" if faults[1:] else ""
        skips = chosen.get(SKIP_KEY, "False") != "False"
        without = f"; {SKIP_KEY} is for comparisons without --auto" if skips else ""
        raise ValueError(f"{faults[0]}{without}{others}")
    # Anchors and sizes are chosen later. Those on the whole file come before an image's.
    remarks = [finding for finding in findings if finding.remedy != ANCHOR_REMEDY]
    remarks.sort(key=lambda finding: finding.image is not None)
    for remark in remarks[:SHOWN]:
        print(printable(f"Remark: {remark}"))
    if len(remarks) > SHOWN:
        print(f"Remarks: {len(remarks)}, softpool-check-data shows all")
    return data


def divide(args: argparse.Namespace, data: dict) -> tuple[dict, dict]:
    """Divide a data set into the parts to train and to test on."""
    root = Path(args.train_images[0]).expanduser()
    paths = [root / image["file_name"] for image in data["images"]]
    places: dict[Path, int] = {}
    again = [(places[p], i) for i, p in enumerate(paths) if places.setdefault(p, i) != i]
    copies = [(places[p], places[other]) for p, other in same_content({"train": paths})]
    return split(data, [*copies, *again])


def write_parts(args: argparse.Namespace, parts: Sequence[dict]) -> None:
    """Write the two parts of a data set, and name them in `args`."""
    files = [args.output / "data" / f"split_{name}.json" for name in ("train", "val")]
    for part, file in zip(parts, files, strict=True):
        write_if_changed(file, part)
    args.train_json, args.val_json = [str(files[0])], [str(files[1])]
    args.val_images = args.train_images
    train, val = (len(part["images"]) for part in parts)
    print(
        f"No set to test on: of {train + val:,} images one in {ONE_IN} is kept for that, at random "
        f"(seed {SPLIT_SEED}): {train:,} to train on, {val:,} to test on, in {files[0].parent}",
        flush=True,
    )
