"""TIDE: cases whose error is known, AP worked out by hand, and the paper's rules written out."""

from itertools import groupby

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from random_scenes import ground_truth, random_scenes, write

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.error_types import KINDS, mean_errors, tide_errors
from softpool_det.statistics.matches import match


def annotation(box, category=1, image=1, crowd=0):
    area = box[2] * box[3]
    fields = {"image_id": image, "category_id": category, "bbox": box, "area": area}
    return fields | {"iscrowd": crowd}


def detection(box, score, category=1, image=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def files(folder, truth, results):
    truth_file, result_file = write(folder, truth=truth, results=results)
    read = read_ground_truth(truth_file)
    return read, read_detections(result_file, read)


def tide(folder, annotations, results, categories=1):
    for number, entry in enumerate(annotations, 1):
        entry["id"] = number
    truth, detections = files(folder, ground_truth(2, categories, annotations), results)
    return tide_errors(truth, detections, match(truth, detections, "bbox"), "bbox")


def nonzero(values):
    return {kind: pytest.approx(value) for kind, value in values.items() if abs(value) > 1e-9}


BOX = [0, 0, 10, 10]
FAR = [60, 60, 10, 10]
HALF = [0, 0, 10, 4]  # IoU 0.4 with BOX

# COCO's AP has 101 recalls: of one object found in two, 51 of them are reached.
HALF_RECALL = 100 * 51 / 101


def test_perfect(tmp_path):
    errors = tide(tmp_path, [annotation(BOX)], [detection(BOX, 0.9)])
    assert not any(errors.counts.values())
    assert nonzero(errors.costs) == {}


def test_localization(tmp_path):
    errors = tide(tmp_path, [annotation(BOX)], [detection(HALF, 0.9)])
    assert nonzero(errors.counts) == {"Loc": 1}
    assert nonzero(errors.costs) == {"Loc": 100}


def test_classification(tmp_path):
    """Corrected in the object's class; the wrong class has no objects and is not in the mean."""
    errors = tide(tmp_path, [annotation(BOX)], [detection(BOX, 0.9, category=2)], categories=2)
    assert nonzero(errors.counts) == {"Cls": 1}
    assert nonzero(errors.costs) == {"Cls": 100}


def test_classification_leaves_the_wrong_class(tmp_path):
    """The error stands before a right detection of its class: without it that is perfect, too."""
    annotations = [annotation(BOX), annotation(FAR, category=2)]
    results = [detection(BOX, 0.9, category=2), detection(FAR, 0.5, category=2)]
    errors = tide(tmp_path, annotations, results, categories=2)
    # Before: class 1 has AP 0, class 2 has 1/2. Afterwards both have 1.
    assert nonzero(errors.costs) == {"Cls": 75, "FalsePos": 25}


def test_both(tmp_path):
    errors = tide(
        tmp_path,
        [annotation(BOX, category=2), annotation(FAR)],
        [detection(HALF, 0.9), detection(FAR, 0.5)],
        categories=2,
    )
    assert nonzero(errors.counts) == {"Both": 1, "Miss": 1}
    # AP of class 1 goes from 1/2 to 1; class 2, whose only object was missed, keeps its 0.
    assert nonzero(errors.costs) == {"Both": 25, "FalsePos": 25}


def test_duplicate(tmp_path):
    results = [detection(BOX, 0.9), detection([0, 0, 10, 9], 0.8), detection(FAR, 0.7)]
    errors = tide(tmp_path, [annotation(BOX), annotation(FAR)], results)
    assert nonzero(errors.counts) == {"Dupe": 1}
    # Precision 1 up to recall 1/2 and 2/3 beyond.
    before = (51 + 50 * 2 / 3) / 101
    expected = 100 * (1 - before)
    assert nonzero(errors.costs) == {"Dupe": expected, "FalsePos": expected}


def test_background(tmp_path):
    results = [detection([90, 90, 5, 5], 0.9), detection(BOX, 0.8), detection(FAR, 0.7, image=2)]
    errors = tide(tmp_path, [annotation(BOX)], results)
    # The second lies in an image without objects, and behind all that is right.
    assert nonzero(errors.counts) == {"Bkg": 2}
    assert nonzero(errors.costs) == {"Bkg": 50, "FalsePos": 50}


def test_missed(tmp_path):
    """Precision stays what it is and recall is that of the other objects."""
    errors = tide(tmp_path, [annotation(BOX), annotation(FAR)], [detection(BOX, 0.9)])
    assert nonzero(errors.counts) == {"Miss": 1}
    gain = 100 - HALF_RECALL
    assert nonzero(errors.costs) == {"Miss": gain, "FalseNeg": gain}


def test_one_correction_for_an_object(tmp_path):
    """Of two poor boxes on an object one is made right, and the other is taken away."""
    annotations = [annotation(BOX), annotation(FAR)]
    results = [detection(HALF, 0.9), detection([0, 6, 10, 4], 0.8), detection(FAR, 0.7)]
    errors = tide(tmp_path, annotations, results)
    assert errors.counts["Loc"] == 2
    # Before: recall 1/2 at precision 1/3.
    before = 51 / 3 / 101
    assert nonzero(errors.costs)["Loc"] == 100 * (1 - before)


def test_poor_box_on_a_found_object_is_taken_away(tmp_path):
    annotations = [annotation(BOX), annotation(FAR)]
    results = [detection(BOX, 0.9), detection(HALF, 0.8), detection(FAR, 0.7)]
    before = (51 + 50 * 2 / 3) / 101
    costs = tide(tmp_path, annotations, results).costs
    assert nonzero(costs) == {"Loc": 100 * (1 - before), "FalsePos": 100 * (1 - before)}


def test_crowds_are_no_objects(tmp_path):
    """A detection in a crowd is no error, and nobody misses a crowd."""
    annotations = [annotation([0, 0, 40, 40], crowd=1), annotation(FAR)]
    results = [detection([5, 5, 10, 10], 0.9), detection(FAR, 0.8)]
    assert not any(tide(tmp_path, annotations, results).counts.values())


def test_limits_belong_to_localization(tmp_path):
    """IoU of exactly 0.5 that came too late for the object, and of exactly 0.1."""
    results = [detection(BOX, 0.9), detection([0, 0, 10, 5], 0.8), detection([0, 0, 10, 1], 0.7)]
    assert tide(tmp_path, [annotation(BOX)], results).counts["Loc"] == 2


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_errors_are_the_papers(tmp_path, task, seed):
    truth, results = random_scenes(seed, images=40, masks=task == "segm")
    read, detections = files(tmp_path, truth, results)
    errors = tide_errors(read, detections, match(read, detections, task), task)
    counts, costs = papers_errors(truth, results, task)
    assert list(errors.costs) == list(KINDS)
    assert all(value > 0.05 for value in costs.values())
    assert errors.costs == pytest.approx(costs, abs=1e-9)
    assert errors.counts == counts


def test_means_over_seeds(tmp_path):
    truth, results = random_scenes(5)
    read, first = files(tmp_path, truth, results)
    _, second = files(tmp_path, truth, results[::2])
    runs = [match(read, each, "bbox") for each in (first, second)]
    alone = [
        mean_errors(read, [each], [r], "bbox")
        for each, r in zip((first, second), runs, strict=True)
    ]
    both = mean_errors(read, [first, second], runs, "bbox")
    assert both == pytest.approx({k: (alone[0][k] + alone[1][k]) / 2 for k in KINDS})
    with pytest.raises(ValueError, match="1 files and 2 runs"):
        mean_errors(read, [first], runs, "bbox")


def papers_errors(truth, results, task):
    """The paper's rules, an image, a detection and an object at a time."""
    shape = "bbox" if task == "bbox" else "segmentation"
    objects = [dict(a) for a in truth["annotations"]]
    ranked = sorted((dict(r) for r in results), key=lambda r: -r["score"])
    for image in {a["image_id"] for a in objects} | {r["image_id"] for r in ranked}:
        classify(
            [r for r in ranked if r["image_id"] == image],
            [a for a in objects if a["image_id"] == image],
            shape,
        )
    counted = [a for a in objects if not a["iscrowd"]]
    before = precision(ranked, counted)
    unfound = [a for a in counted if not a.get("found")]
    covered = {r["target"]["id"] for r in ranked if r.get("target")}
    missed = [a for a in unfound if a["id"] not in covered]
    after = {
        "Miss": precision(ranked, counted, missed),
        "FalseNeg": precision(ranked, counted, unfound),
        "FalsePos": precision([r for r in ranked if r["what"] in ("TP", "ignored")], counted),
    }
    # The detection of highest score that an object can be corrected with.
    best = {}
    for r in ranked:
        if r.get("target") and not r["target"].get("found"):
            best.setdefault(r["target"]["id"], r)
    for kind in ("Cls", "Loc", "Both", "Dupe", "Bkg"):
        kept = [r for r in ranked if r["what"] != kind]
        right = [r for r in best.values() if r["what"] == kind]
        for r in right:
            kept.append({**r, "what": "TP", "category_id": r["target"]["category_id"]})
        after[kind] = precision(kept, counted)
    counts = {kind: sum(r["what"] == kind for r in ranked) for kind in KINDS[:5]}
    counts["Miss"] = len(missed)
    return counts, {kind: 100 * (value - before) for kind, value in after.items()}


def classify(ranked, objects, shape):
    """Give every detection of an image its "what", and "target" to Loc and Cls."""
    if not ranked:
        return
    crowd = [a["iscrowd"] for a in objects]
    shapes = [[entry[shape] for entry in entries] for entries in (ranked, objects)]
    ious = mask_utils.iou(*shapes, crowd) if objects else np.zeros((len(ranked), 0))
    for i, r in enumerate(ranked):
        own = [
            (ious[i, j], a)
            for j, a in enumerate(objects)
            if a["category_id"] == r["category_id"] and ious[i, j] >= 0.5
        ]
        free = [(iou, a) for iou, a in own if not a["iscrowd"] and not a.get("found")]
        if free:
            max(free, key=lambda pair: pair[0])[1]["found"] = True
            r["what"] = "TP"
        else:
            r["what"] = "ignored" if any(a["iscrowd"] for _, a in own) else "FP"
    for i, r in enumerate(ranked):
        if r["what"] == "FP":
            pairs = [(ious[i, j], a) for j, a in enumerate(objects) if not a["iscrowd"]]
            r["what"], r["target"] = kind_of(r, pairs)


def kind_of(r, pairs):
    nothing = (0.0, None)
    own = [p for p in pairs if p[1]["category_id"] == r["category_id"]]
    same = max(own, key=lambda p: p[0], default=nothing)
    others = [p for p in pairs if p[1]["category_id"] != r["category_id"]]
    other = max(others, key=lambda p: p[0], default=nothing)
    if 0.1 <= same[0] <= 0.5:
        return "Loc", same[1]
    if other[0] >= 0.5:
        return "Cls", other[1]
    if any(iou >= 0.5 and a.get("found") for iou, a in own):
        return "Dupe", None
    return ("Bkg" if max(same[0], other[0]) <= 0.1 else "Both"), None


def precision(ranked, counted, uncounted=()):
    """AP50: the mean over classes of the largest precision at or beyond each of 101 recalls."""
    without = {a["id"] for a in uncounted}
    by_class = groupby(sorted(counted, key=category_of), key=category_of)
    found = []
    for category, members in by_class:
        objects = sum(a["id"] not in without for a in members)
        points, true, false = [], 0, 0
        for r in sorted(ranked, key=lambda r: -r["score"]):
            if r["category_id"] == category and r["what"] != "ignored":
                true, false = true + (r["what"] == "TP"), false + (r["what"] != "TP")
                points.append((true / objects if objects else 0.0, true / (true + false)))
        recalls = np.linspace(0, 1, 101)
        found.append(
            np.mean([max((p for recall, p in points if recall >= x), default=0) for x in recalls])
        )
    return np.mean(found)


def category_of(entry):
    return entry["category_id"]
