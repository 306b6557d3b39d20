"""Time and memory of checking the annotation file of a training, as many entries as train2017 has.

python benchmarks/bench_annotations.py

The file is made up: polygons of 28 points on average, and for one object in a hundred the run
lengths of a crowd.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from comparison.data import HEIGHT, WIDTH, made_boxes, outlines
from measuring.arguments import positive

from softpool_det.coco.annotations import numbered_faults, read_annotations

CATEGORIES = 80
# Annotations that are made at a time.
BLOCK = 20_000


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=positive, default=118_287)
    parser.add_argument("--objects", type=positive, default=860_001)
    parser.add_argument("--target", type=float, default=15, metavar="SECONDS")
    parser.add_argument("--file", type=Path, help="keep it, and use it where it is there")
    return parser.parse_args()


def write_annotations(path: Path, images: int, objects: int) -> None:
    """Write a training's annotation file, a block of annotations at a time."""
    records = [
        {"id": i, "file_name": f"{i:012}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(1, images + 1)
    ]
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, CATEGORIES + 1)]
    head = json.dumps({"images": records, "categories": categories, "annotations": []})
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(head[:-2])
        for start in range(0, objects, BLOCK):
            count = min(BLOCK, objects - start)
            entries = json.dumps(_annotations(rng, start + 1, count, images))
            file.write(f"{', ' if start else ''}{entries[1:-1]}")
        file.write("]}")


def _annotations(rng: np.random.Generator, first: int, count: int, images: int) -> list[dict]:
    boxes = made_boxes(rng, count)
    crowd = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH // 40] * 40}
    columns = zip(
        rng.integers(1, images + 1, count).tolist(),
        rng.integers(1, CATEGORIES + 1, count).tolist(),
        boxes.tolist(),
        outlines(rng, boxes),
        (rng.random(count) < 0.01).tolist(),
        strict=True,
    )
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "segmentation": crowd if is_crowd else [outline],
            "area": box[2] * box[3],
            "iscrowd": int(is_crowd),
        }
        for number, (image, category, box, outline, is_crowd) in enumerate(columns, first)
    ]


def measure(path: Path) -> dict[str, float]:
    """Seconds of each step."""
    start = time.perf_counter()
    data = read_annotations(path)
    read = time.perf_counter()
    faults = list(numbered_faults(path, data))
    assert not faults, faults[0]
    return {"reading and ids": read - start, "annotations": time.perf_counter() - read}


def main() -> None:
    args = parsed()
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder, "instances.json")
        if not path.is_file():
            write_annotations(path, args.images, args.objects)
        seconds = measure(path)
        size = path.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{args.images:,} images, {args.objects:,} objects, {size:,.0f} MB")
    for step, taken in seconds.items():
        print(f"{step}: {taken:.1f} s")
    total = sum(seconds.values())
    outcome = "met" if total <= args.target else "missed"
    print(f"peak memory: {peak:.2f} GB")
    print(f"target: at most {args.target:g} s: {outcome} ({total:.1f} s)")


if __name__ == "__main__":
    main()
