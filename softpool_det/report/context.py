"""From comparison.json to what the templates show: which sections there are, and their charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from softpool_det.report.charts.bars import error_chart, error_difference_chart, reliability_chart
from softpool_det.report.charts.curves import precision_recall_chart, training_chart
from softpool_det.report.charts.forest import Row, forest_chart, shared_limits
from softpool_det.report.formatting import excludes_zero, has_interval, is_number
from softpool_det.report.overlay import GalleryRow, classes_of
from softpool_det.report.pictures import PictureRow, embed
from softpool_det.report.wording import (
    ERRORS,
    METRICS,
    TASKS,
    has_simultaneous,
    heading,
    joined,
    provenance_line,
    scope,
    seed_note,
)

GIB = 1024**3
# Classes in one chart, at most: COCO's 80 make three, side by side on a wide screen.
CLASSES_A_CHART = 27
# Images listed at each end, where there are more.
LISTED_IMAGES = 5
_FOREST_AXIS = "AP points, candidate minus baseline"
_SIZES = ("APs", "APm", "APl")
_THRESHOLDS = {"0.50": "IoU 0.50", "0.75": "IoU 0.75", "mean": "mean over IoU 0.50 to 0.95"}
# Key of "costs" -> name, what it is divided by, digits.
_COSTS = {
    "parameters": ("Parameters (millions)", 1e6, 2),
    "gflops": ("GFLOPs of one image (1e9 multiply-adds)", 1, 2),
    "inference_ms": ("Inference (ms an image)", 1, 1),
    "train_seconds": ("Training (minutes)", 60, 1),
    "peak_memory_bytes": ("Peak memory (GiB)", GIB, 2),
}
_SECTIONS = {
    "ap": "Average precision",
    "differences": "Differences",
    "curves": "Precision and recall",
    "objects": "Objects that one alone finds (McNemar)",
    "errors": "Kinds of error (TIDE)",
    "calibration": "Calibration",
    "training": "Training",
    "costs": "Speed, memory and size",
    "gallery": "Images that gained and lost most",
    "activations": "Activation maps of the stem",
    "softness": "Softness of the stem's pooling",
    "configs": "What differs between the configs",
    "provenance": "Where this comes from",
}


def build_view(
    comparison: Mapping[str, Any],
    gallery: Sequence[GalleryRow],
    activations: Sequence[PictureRow],
) -> dict[str, Any]:
    """Build the variables of the templates; `sections` leaves out those without data."""
    names = list(comparison["names"])
    tasks = [
        _task_view(task, results, names, len(comparison["tasks"]) > 1, comparison["confidence"])
        for task, results in comparison["tasks"].items()
    ]
    view = {
        "comparison": comparison,
        "names": names,
        "title": heading(names),
        "scope": scope(comparison),
        "seed_note": seed_note(comparison),
        "provenance_line": provenance_line(comparison),
        "percent": f"{100 * comparison['confidence']:g} %",
        "tasks": tasks,
        "training": _training_charts(comparison.get("training") or {}, names),
        "costs": _cost_rows(comparison.get("costs") or {}, names),
        "devices": _devices(comparison.get("costs") or {}),
        "gallery": gallery,
        "classes": classes_of(gallery),
        "activations": [(row, embed(row)) for row in activations],
        "softness": comparison.get("softness") or {},
        "configs": _config_lines(comparison.get("config_difference") or {}),
        "provenance": comparison.get("provenance") or {},
    }
    view["sections"] = {key: title for key, title in _SECTIONS.items() if _is_there(key, view)}
    return view


def _is_there(section: str, view: Mapping[str, Any]) -> bool:
    if section in ("ap", "differences") or view.get(section):
        return True
    return any(task.get(section) for task in view["tasks"])


def _task_view(
    task: str, results: Mapping[str, Any], names: list[str], several: bool, confidence: float
) -> dict[str, Any]:
    label = TASKS[task]
    return {
        "key": task,
        "label": label,
        "several": several,
        "metrics": results["metrics"],
        "per_class": results.get("per_class") or {},
        "differences": results["differences"],
        "simultaneous": has_simultaneous(results),
        "forests": _forests(results["differences"], names, label),
        "class_forests": _class_forests(results["differences"], names, label),
        "curves": _curve_charts(results.get("curves") or {}, names, label),
        "objects": [d for d in results["differences"] if d.get("objects")],
        "errors": _error_charts(results.get("errors") or {}, names, label),
        "error_values": results.get("errors") or {},
        "calibration": _calibration(results.get("calibration") or {}, names, label, confidence),
        "gallery": _gains(results.get("image_gains") or (), names),
    }


def _forests(differences: Sequence[Mapping[str, Any]], names: list[str], label: str) -> list:
    """Draw the overall figures and the sizes of each candidate as charts on one scale."""
    rows = [[(metric, d["metrics"][metric]) for metric in METRICS] for d in differences]
    limits = shared_limits([row for each in rows for row in each])
    charts = []
    for difference, each in zip(differences, rows, strict=True):
        arm = names.index(difference["candidate"])
        what = f"{difference['candidate']} minus {difference['baseline']}"
        parts = {
            "overall": [row for row in each if row[0] not in _SIZES],
            "by size": [(f"{name}: {METRICS[name]}", e) for name, e in each if name in _SIZES],
        }
        for part, chosen in parts.items():
            title = f"{label}: {what}, {part}"
            chart = forest_chart(chosen, limits, arm, _FOREST_AXIS, title)
            charts.append((title if len(names) > 2 else f"{part.capitalize()}", chart))
    return charts


def _class_forests(
    differences: Sequence[Mapping[str, Any]], names: list[str], label: str
) -> list[dict[str, Any]]:
    """For each candidate with numbers by class: the rows and their charts, all on one scale."""
    by_arm = {d["candidate"]: _largest_first(d.get("per_class") or {}) for d in differences}
    limits = shared_limits([row for rows in by_arm.values() for row in rows])
    views = []
    for name, rows in by_arm.items():
        if not rows:
            continue
        charts = []
        size = math.ceil(len(rows) / math.ceil(len(rows) / CLASSES_A_CHART))
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            what = f"by class, {first + 1} to {first + len(part)}"
            title = f"{label}: AP of {name} minus {names[0]} {what}"
            charts.append(forest_chart(part, limits, names.index(name), _FOREST_AXIS, title))
        entries = [entry for _, entry in rows]
        views.append(
            {
                "candidate": name,
                "rows": rows,
                "charts": charts,
                "intervals": sum(map(has_interval, entries)),
                "outside": sum(map(excludes_zero, entries)),
            }
        )
    return views


def _largest_first(per_class: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Those without a number (no object of the class) come last."""

    def key(row: Row) -> tuple[bool, float]:
        value = row[1]["value"]
        return (True, value) if is_number(value) else (False, 0.0)

    return sorted(per_class.items(), key=key, reverse=True)


def _curve_charts(curves: Mapping[str, Any], names: list[str], label: str) -> list:
    if not curves:
        return []
    return [
        (
            text[0].upper() + text[1:],
            precision_recall_chart(curves, names, key, f"{label}: precision over recall at {text}"),
        )
        for key, text in _THRESHOLDS.items()
    ]


def _error_charts(errors: Mapping[str, Any], names: list[str], label: str) -> list:
    if not errors:
        return []
    types = {key: short for key, (short, _) in ERRORS.items()}
    differences = {
        name: {key: _minus(errors[name].get(key), errors[names[0]].get(key)) for key in types}
        for name in names[1:]
    }
    title = f"{label}: AP50 points lost by kind of error"
    minus = f"{joined(names[1:])} minus {names[0]}"
    return [
        ("Each arm", error_chart(errors, names, types, title)),
        (
            f"Difference to {names[0]} (less is better)",
            error_difference_chart(differences, names[1:], types, f"{title}, {minus}"),
        ),
    ]


def _minus(candidate: float | None, baseline: float | None) -> float | None:
    return candidate - baseline if is_number(candidate) and is_number(baseline) else None


def _calibration(
    calibration: Mapping[str, Any], names: list[str], label: str, confidence: float
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "arm": arm,
            "error": calibration[name]["error"],
            "bins": calibration[name]["bins"],
            "chart": reliability_chart(
                calibration[name]["bins"],
                arm,
                confidence,
                f"{label}: precision of {name} over the score of its detections",
            ),
        }
        for arm, name in enumerate(names)
        if name in calibration
    ]


def _gains(gains: Sequence[Mapping[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """For each candidate the images that gained most and those that lost most."""
    views = []
    for name in names[1:]:
        rows = [row for row in gains if row["candidate"] == name and is_number(row["gain"])]
        rows.sort(key=lambda row: row["gain"], reverse=True)
        gained = [row for row in rows if row["gain"] > 0][:LISTED_IMAGES]
        lost = [row for row in rows if row["gain"] < 0][-LISTED_IMAGES:]
        if gained or lost:
            views.append({"candidate": name, "rows": gained + lost})
    return views


def _training_charts(training: Mapping[str, Any], names: list[str]) -> list:
    """Total loss first, the others as they come."""
    losses = dict.fromkeys(
        loss for name in names for run in training.get(name, ()) for loss in run["losses"]
    )
    ordered = sorted(losses, key=lambda loss: loss != "total_loss")
    return [
        (loss, training_chart(training, names, loss, f"{loss} over the iterations of training"))
        for loss in ordered
    ]


def _cost_rows(costs: Mapping[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """Build a row for each cost of any arm: each arm's value and its ratio to the first arm's."""
    rows = []
    for key, (label, unit, digits) in _COSTS.items():
        values = [_value(costs.get(name, {}).get(key), unit) for name in names]
        if not any(map(is_number, values)):
            continue
        ratios = [
            value / values[0] if is_number(value) and is_number(values[0]) and values[0] else None
            for value in values
        ]
        cells = list(zip(values, ratios, strict=True))
        rows.append({"label": label, "digits": digits, "cells": cells})
    return rows


def _value(value: float | None, unit: float) -> float | None:
    return value / unit if is_number(value) else None


def _devices(costs: Mapping[str, Any]) -> list[str]:
    return sorted({cost["device"] for cost in costs.values() if cost.get("device")})


def _config_lines(differences: Mapping[str, str]) -> list[dict[str, Any]]:
    """By candidate the lines of its diff, each with "add", "remove", "place" or ""."""
    return [
        {"candidate": name, "lines": [(_kind(line), line) for line in text.splitlines()]}
        for name, text in differences.items()
    ]


def _kind(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "place"
    return {"+": "add", "-": "remove"}.get(line[:1], "")
