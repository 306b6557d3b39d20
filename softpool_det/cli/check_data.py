r"""Look for everything that is wrong with a data set, before hours of training.

Prints faults, by which a training or an evaluation would end, and then remarks, together at most
100. The output folder gets data.json (all of them, counts and sizes) and data.html (the same with
pictures). The exit status is 1 where there are faults.

Examples:
    softpool-check-data --train-json train.json --train-images photos \
        --val-json val.json --val-images photos
    softpool-check-data --yolo data.yaml
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from softpool_det.cli.folders import FOLDER_OPTIONS, add_folder_options, use_folders
from softpool_det.cli.program import add_data_options, add_output, new_parser, run_program

SHOWN = 100
PARTS = ("train", "val", "test")


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    sets = parser.add_argument_group("data sets")
    add_data_options(sets)
    add_folder_options(sets)
    checks = parser.add_argument_group("checks")
    checks.add_argument(
        "--no-images", action="store_true", help="open no image: only annotations are checked"
    )
    checks.add_argument(
        "--min-size",
        type=int,
        default=800,
        metavar="PIXELS",
        help="shorter side of the model's images, for sizes and anchors",
    )
    checks.add_argument(
        "--max-size",
        type=int,
        default=1333,
        metavar="PIXELS",
        help="most of the longer side",
    )
    add_output(parser, "output/data")
    args = parser.parse_args()
    for part in PARTS:
        files, folders = (getattr(args, f"{part}_{kind}") for kind in ("json", "images"))
        if len(files) != len(folders):
            parser.error(f"each --{part}-json needs its --{part}-images, and the other way round")
        if len(set(files)) < len(files):
            parser.error(f"--{part}-json: a file is given twice")
    named = (*(f"{part}_json" for part in PARTS), *FOLDER_OPTIONS)
    if not any(getattr(args, name) for name in named):
        parser.error(
            "give --train-json and --train-images, --val-json and --val-images, --yolo or --voc"
        )
    if min(args.min_size, args.max_size) < 1:
        parser.error("--min-size and --max-size must be 1 or more")
    return args


def run(args: argparse.Namespace) -> int:
    from softpool_det.data_check.check import as_json, check_across, check_sets
    from softpool_det.data_check.page import render
    from softpool_det.io.atomic import replacing
    from softpool_det.report import printable

    use_folders(args, args.output)
    resize = args.min_size, args.max_size
    named = []
    for part in PARTS:
        files, folders = (getattr(args, f"{part}_{kind}") for kind in ("json", "images"))
        for number, (file, folder) in enumerate(zip(files, folders, strict=True), 1):
            name = part if len(files) == 1 else f"{part} {number}"
            named.append((name, Path(file).expanduser(), Path(folder).expanduser()))
    sets = check_sets(named, not args.no_images, resize)
    across = check_across(sets, not args.no_images)
    args.output.mkdir(parents=True, exist_ok=True)
    for file, text in (
        ("data.json", json.dumps(as_json(sets, across), indent=1, allow_nan=False)),
        ("data.html", render(sets, across, resize, not args.no_images)),
    ):
        with replacing(args.output / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    found = [finding for checked in sets for finding in checked.findings] + across
    found.sort(key=lambda finding: not finding.is_fault)
    for finding in found[:SHOWN]:
        print(printable(f"{'fault' if finding.is_fault else 'remark'}: {finding}"))
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN} more in {args.output / 'data.json'}")
    for checked in sets:
        if checked.data is None:
            print(f"{checked.name}: its images and remarks follow when its faults are mended")
    faults = sum(finding.is_fault for finding in found)
    print(f"faults: {faults}, remarks: {len(found) - faults}, see {args.output / 'data.html'}")
    return 1 if faults else 0


def main() -> None:
    def run_and_exit(args: argparse.Namespace) -> None:
        sys.exit(run(args))

    run_program(run_and_exit, parse_args())


if __name__ == "__main__":
    main()
