"""Comparisons as softpool_det/statistics writes them, with numbers made up by hand."""

import io
import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from softpool_det.report.overlay import (
    GalleryRow,
    Panel,
    Shape,
    Threshold,
    frame_of,
    label_place,
    outline,
)
from softpool_det.report.pictures import PictureRow, embed_image

METRICS = {
    "AP": 38.4,
    "AP50": 58.9,
    "AP75": 41.2,
    "APs": 21.7,
    "APm": 42.0,
    "APl": 50.6,
    "AR": 52.3,
}
ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg")
COCO_LIKE = ["person", "traffic light", "baseball glove", "hair drier", "potted plant"]


def entry(value, half, seeds=1):
    by_seed = [value + 0.12 * (number - (seeds - 1) / 2) for number in range(seeds)]
    low, high = (None, None) if value is None else (value - half, value + half)
    return {
        "value": value,
        "by_seed": by_seed,
        "low": low,
        "high": high,
        "standard_error": half / 1.96,
    }


def difference(value, half, seeds=1):
    error = half / 1.96
    return {
        **entry(value, half, seeds),
        "image_standard_error": 0.8 * error,
        "seed_standard_error": None if seeds == 1 else 0.6 * error,
        "p_better": 0.5 * (1 + math.erf(value / error / math.sqrt(2))),
        "p_value": math.erfc(abs(value) / error / math.sqrt(2)),
    }


def without_p_value(item):
    return {key: value for key, value in item.items() if key != "p_value"}


def nothing(item):
    """Of a figure that has no objects: no numbers at all."""
    return {k: [None] * len(v) if isinstance(v, list) else None for k, v in item.items()}


def gain(arm, number):
    """In AP points: some arms are better, some figures are not."""
    return 0.7 * arm - 0.25 * number + 0.3 if arm else 0.0


def class_gain(arm, number):
    return 3.5 * math.sin(1.7 * number + arm) if arm else 0.0


def task_results(names, categories, seeds):
    metrics = {
        name: {
            key: entry(value + gain(arm, number), 0.9, seeds)
            for number, (key, value) in enumerate(METRICS.items())
        }
        for arm, name in enumerate(names)
    }
    for results in metrics.values():
        results["APl"] = nothing(results["APl"])
    per_class = {
        name: {
            category: entry(20 + (7 * number) % 60 + class_gain(arm, number), 3.0, seeds)
            for number, category in enumerate(categories)
        }
        for arm, name in enumerate(names)
    }
    differences = [task_difference(names, arm, categories, seeds) for arm in range(1, len(names))]
    return {"metrics": metrics, "per_class": per_class, "differences": differences}


def task_difference(names, arm, categories, seeds):
    metrics = {key: difference(gain(arm, number), 0.6, seeds) for number, key in enumerate(METRICS)}
    metrics["APl"] = nothing(metrics["APl"])
    per_class = {
        c: without_p_value(difference(class_gain(arm, number), 2.4, seeds))
        for number, c in enumerate(categories)
    }
    value = metrics["AP"]
    return {
        "baseline": names[0],
        "candidate": names[arm],
        "metrics": metrics,
        "per_class": per_class,
        "objects": [],
        "verdict": f"{names[arm]} is {value['value']:.2f} AP ahead of {names[0]} "
        f"(95 % interval {value['low']:.2f} to {value['high']:.2f}).",
    }


def minimal(names=("A.json", "B.json"), categories=("cat",)):
    """What two result files of strangers give at the least."""
    names, categories = list(names), list(categories)
    return {
        "names": names,
        "seeds": [1],
        "images": 500,
        "objects": 3612,
        "categories": categories,
        "resamples": 1000,
        "permutations": 1000,
        "confidence": 0.95,
        "random_seed": 0,
        "tasks": {"bbox": task_results(names, categories, 1)},
    }


def full(
    names=("stock", "SoftPool"), categories=COCO_LIKE, seeds=3, tasks=("bbox", "segm"), gap=0.0
):
    """All that a comparison can have; `gap` is added to the differences of all figures."""
    names, categories = list(names), list(categories)
    comparison = minimal(names, categories)
    comparison["seeds"] = list(range(1, seeds + 1))
    comparison["images"], comparison["objects"] = 5000, 36335
    comparison["tasks"] = {
        task: {**task_results(names, categories, seeds), **extras(names, seeds)} for task in tasks
    }
    for results in comparison["tasks"].values():
        for item in results["differences"]:
            item["objects"] = objects(seeds)
            for figure in item["metrics"].values():
                if figure["value"] is not None:
                    figure |= {key: figure[key] + gap for key in ("value", "low", "high")}
    comparison |= optional_parts(names, comparison["seeds"])
    return comparison


def extras(names, seeds):
    recall = [step / 100 for step in range(101)]
    return {
        "curves": {
            name: {
                "recall": recall,
                "precision": {
                    key: [max(0.0, 1 - (r / (top + 0.02 * arm)) ** 3) for r in recall]
                    for key, top in (("0.50", 0.85), ("0.75", 0.65), ("mean", 0.6))
                },
            }
            for arm, name in enumerate(names)
        },
        "errors": {
            name: {
                kind: 8.5 / (1 + number) + 0.3 * arm * (-1) ** number
                for number, kind in enumerate(ERRORS)
            }
            for arm, name in enumerate(names)
        },
        "calibration": {name: calibration(arm) for arm, name in enumerate(names)},
        "image_gains": [
            {
                "candidate": name,
                "image_id": 139 + 7 * number,
                "baseline": 40.0,
                "candidate_ap": 40.0 + points,
                "gain": points,
            }
            for name in names[1:]
            for number, points in enumerate((22.5, 14.0, 8.8, 3.0, 0.0, -2.5, -7.0, -18.2))
        ],
    }


def calibration(arm):
    bins = []
    for number in range(10):
        low = number / 10
        count = 0 if number == 9 else 9000 // (1 + number) ** 3
        score = low + 0.05 if count else None
        precision = (low + 0.05) ** (1.3 + 0.2 * arm) if count else None
        bins.append(
            {"low": low, "high": low + 0.1, "count": count, "score": score, "precision": precision}
        )
    return {"error": 0.061 + 0.01 * arm, "bins": bins}


def objects(seeds):
    return [
        {
            "iou": iou,
            "scores": scores,
            "thresholds": None if scores == "any" else [0.31, 0.35],
            "seed": seed,
            "both": 24811 + seed,
            "only_baseline": 1410,
            "only_candidate": 1502 + seed,
            "neither": 8611,
            "statistic": 2.91,
            "p_value": 0.088,
            "clustered_statistic": 2.05,
            "clustered_p_value": 0.152,
        }
        for iou in (0.5, 0.75)
        for scores in ("any", "best F1")
        for seed in range(1, seeds + 1)
    ]


def optional_parts(names, seeds):
    iterations = list(range(19, 3000, 20))
    return {
        "costs": {
            name: {
                "parameters": 1.234e7,
                "gflops": 0.69,
                "inference_ms": 18.8 + 0.4 * arm,
                "train_seconds": 320.0 + 11 * arm,
                "peak_memory_bytes": 1.21e9,
                "device": "NVIDIA H100 80GB HBM3",
            }
            for arm, name in enumerate(names)
        },
        "training": {
            name: [
                {
                    "seed": seed,
                    "iterations": iterations,
                    "losses": {
                        key: [
                            share
                            * (
                                0.3
                                + math.exp(-step / 700)
                                + 0.05 * math.sin(step * seed)
                                + 0.04 * arm
                            )
                            for step in iterations
                        ]
                        for key, share in (
                            ("loss_cls", 0.6),
                            ("loss_box_reg", 0.4),
                            ("total_loss", 1.0),
                        )
                    },
                }
                for seed in seeds
            ]
            for arm, name in enumerate(names)
        },
        "config_difference": {
            name: "--- stock\n+++ " + name + "\n@@ -101,7 +101,7 @@\n   STEM_POOL:\n"
            "-    NAME: MaxPool2d\n+    NAME: SoftPool2d\n     PADDING: 1\n"
            for name in names[1:]
        },
        "provenance": {
            "command": "python tools/compare.py --output output/demo/digits_retinanet --baseline "
            "configs/demo/digits_retinanet_R_18_FPN.yaml --seeds 1 2 3",
            "versions": {"torch": "2.11.0", "detectron2": "0.7.2", "hotcoco": "1.3.0"},
            "hardware": {"cpu": "Intel(R) Xeon(R) Platinum 8481C", "cores": 2, "gpu": None},
            "date": "2026-11-24",
            "git_commit": "2496216a0b1c-dirty",
            "files": [
                {
                    "path": "datasets/digit_scenes/val.json",
                    "sha256": "0f" * 32,
                    "what": "ground truth",
                },
                {
                    "path": "output/demo/stock/seed_1/coco_instances_results.json",
                    "sha256": "a9" * 32,
                    "what": "results of stock, seed 1",
                },
            ],
        },
    }


def scene(number, noise=0):
    """A PNG that is worth looking at: garden variety shapes."""
    image = Image.new("RGB", (320, 240), (210, 220, 200 - 20 * (number % 3)))
    draw = ImageDraw.Draw(image)
    for step in range(6):
        x, y = (37 * (step + number)) % 260, (53 * step + 11 * number) % 180
        draw.rectangle((x, y, x + 44, y + 40), outline=(180 - 20 * step, 40 * step, 90), width=3)
        draw.ellipse((x + 6, y + 6, x + 36 + noise, y + 34), fill=(40 * step, 90, 160))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pictures(names, rows=4):
    labels = ["input", *names]
    return [
        PictureRow(
            f"Channel {number}",
            "Bright is 0.5 in every panel.",
            [(label, scene(number, 3 * place)) for place, label in enumerate(labels)],
        )
        for number in range(rows)
    ]


def gallery(names, rows=4, categories=COCO_LIKE, masks=False):
    """Objects where `scene` draws shapes, and detections that are less sure one after the other."""
    found = []
    for number, points in zip(range(rows), (22.5, 14.0, -7.0, -18.2), strict=False):
        panels = [Panel("ground truth", shapes(number, categories, masks))]
        for arm, name in enumerate(names):
            threshold = Threshold(0.312 + 0.04 * arm)
            panels.append(Panel(name, shapes(number, categories, masks, threshold, arm), threshold))
        title, caption = f"Image {139 + number}: {points:+.1f} AP", "AP of this image alone: 40.0."
        photograph = embed_image("", Image.open(io.BytesIO(scene(number))))
        found.append(GalleryRow(title, caption, photograph, frame_of(320, 240), panels))
    return found


def shapes(number, categories, masks=False, threshold=None, arm=0):
    found, frame = [], frame_of(320, 240)
    for step in range(6):
        category, shift = step % len(categories), 0 if threshold is None else 3 + arm
        box = ((37 * (step + number)) % 260 + shift, (53 * step + 11 * number) % 180, 44, 40)
        mask = None
        if masks:
            mask = np.zeros((240, 320), dtype=np.uint8)
            mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
        drawn = (*outline(box, mask, frame, 2), label_place(box, frame, 2))
        shape = Shape(*drawn, category, categories[category])
        if threshold is not None:
            score, right = 0.95 - 0.15 * step, step % 3 != 1
            shape = replace(shape, score=score, right=right, last=threshold.last(score))
        found.append(shape)
    return found
