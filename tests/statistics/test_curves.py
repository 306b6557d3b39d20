import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_scenes import ground_truth, random_scenes, write

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.calibration import calibration
from softpool_det.statistics.curves import class_precision, precision_recall_curves
from softpool_det.statistics.image_gains import image_gains
from softpool_det.statistics.matches import IGNORED, TRUE_POSITIVE, match


def run(folder, truth, results, task):
    truth_file, result_file = write(folder, truth=truth, results=results)
    read = read_ground_truth(truth_file)
    # pycocotools' order of equal scores.
    return match(read, read_detections(result_file, read), task, file_order=True)


def pycocotools_precision(folder, task, images=None):
    """eval["precision"] of area "all" and 100 detections, -1 as NaN: (T, R, K)."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(folder / "truth.json")
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), task)
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return np.where(precision < 0, np.nan, precision)


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("tied_scores", [False, True])
def test_curves_are_those_of_pycocotools(tmp_path, task, tied_scores):
    # Class 5 has detections and no objects, class 6 neither.
    truth, results = random_scenes(1, masks=task == "segm", tied_scores=tied_scores, categories=4)
    truth["categories"] += [{"id": 5, "name": "e"}, {"id": 6, "name": "f"}]
    results[0]["category_id"] = 5
    matches = run(tmp_path, truth, results, task)
    expected = pycocotools_precision(tmp_path, task)
    assert np.isnan(expected[0, 0]).tolist() == [False] * 4 + [True] * 2
    np.testing.assert_array_equal(class_precision(matches), expected)

    curves = precision_recall_curves([matches])
    means = np.nanmean(expected, axis=2)
    assert curves["recall"] == np.linspace(0, 1, 101).tolist()
    np.testing.assert_allclose(curves["precision"]["0.50"], means[0], rtol=1e-14)
    np.testing.assert_allclose(curves["precision"]["0.75"], means[5], rtol=1e-14)
    np.testing.assert_allclose(curves["precision"]["mean"], means.mean(axis=0), rtol=1e-14)


def test_curves_are_means_over_seeds(tmp_path):
    truth, results = random_scenes(2)
    first = run(tmp_path, truth, results, "bbox")
    second = run(tmp_path, truth, results[::2], "bbox")
    curves = [precision_recall_curves(runs)["precision"] for runs in ([first], [second])]
    both = precision_recall_curves([first, second])["precision"]
    for name, curve in both.items():
        np.testing.assert_allclose(curve, np.mean([one[name] for one in curves], axis=0))


def test_no_objects_and_no_runs(tmp_path):
    crowd = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81}
    truth = ground_truth(1, 1, [crowd | {"iscrowd": 1}])
    results = [{"image_id": 1, "category_id": 1, "bbox": [50, 50, 9, 9], "score": 0.5}]
    matches = run(tmp_path, truth, results, "bbox")
    assert np.isnan(precision_recall_curves([matches])["precision"]["mean"]).all()
    assert image_gains([matches], [matches], "b") == []
    with pytest.raises(ValueError, match="one run at least"):
        precision_recall_curves([])


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_gains_are_those_of_each_image_alone(tmp_path, task):
    truth, results = random_scenes(5, masks=task == "segm", tied_scores=True)
    first = run(tmp_path, truth, results, task)
    images = [image["id"] for image in truth["images"]]
    baseline = {i: pycocotools_precision(tmp_path, task, [i]) for i in images}
    second = run(tmp_path, truth, results[::2], task)
    candidate = {i: pycocotools_precision(tmp_path, task, [i]) for i in images}

    rows = image_gains([first], [second], "half")
    assert [row["gain"] for row in rows] == sorted((row["gain"] for row in rows), reverse=True)
    with_objects = {a["image_id"] for a in truth["annotations"] if not a["iscrowd"]}
    assert {row["image_id"] for row in rows} == with_objects
    assert len(with_objects) < len(images)
    for row in rows:
        image = row["image_id"]
        assert row["candidate"] == "half"
        assert row["baseline"] == pytest.approx(100 * np.nanmean(baseline[image]))
        assert row["candidate_ap"] == pytest.approx(100 * np.nanmean(candidate[image]))
        assert row["gain"] == pytest.approx(row["candidate_ap"] - row["baseline"])


def test_gains_are_means_over_seeds(tmp_path):
    truth, results = random_scenes(6)
    runs = [run(tmp_path, truth, results[start::2], "bbox") for start in (0, 1)]
    full = run(tmp_path, truth, results, "bbox")
    both = {row["image_id"]: row for row in image_gains(runs, [full, full], "full")}
    alone = [{row["image_id"]: row for row in image_gains([r], [full], "full")} for r in runs]
    for image, row in both.items():
        mean = np.mean([rows[image]["gain"] for rows in alone])
        assert row["gain"] == pytest.approx(mean)


def test_calibration_is_the_definition(tmp_path):
    truth, results = random_scenes(7, images=60)
    runs = [run(tmp_path, truth, results[start::2], "bbox") for start in (0, 1)]
    errors, pooled = [], []
    for matches in runs:
        counted = matches.state[0, 0] != IGNORED
        score = matches.score[counted]
        right = matches.state[0, 0][counted] == TRUE_POSITIVE
        pooled.append((score, right))
        bins = np.minimum((score * 10).astype(int), 9)
        gaps = [
            (bins == b).sum() * abs(score[bins == b].mean() - right[bins == b].mean())
            for b in range(10)
            if (bins == b).any()
        ]
        errors.append(sum(gaps) / len(score))
    found = calibration(runs)
    assert found["error"] == pytest.approx(np.mean(errors))
    score, right = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    bins = np.minimum((score * 10).astype(int), 9)
    for b, entry in enumerate(found["bins"]):
        assert entry["low"] == pytest.approx(b / 10)
        assert entry["high"] == pytest.approx((b + 1) / 10)
        assert entry["count"] == (bins == b).sum()
        assert entry["score"] == pytest.approx(score[bins == b].mean())
        assert entry["precision"] == pytest.approx(right[bins == b].mean())


def test_calibration_of_scores_that_are_no_probabilities(tmp_path):
    truth, results = random_scenes(8)
    results[0]["score"] = 3.5
    assert calibration([run(tmp_path, truth, results, "bbox")]) == {"error": None, "bins": []}


def test_empty_bins_have_no_values(tmp_path):
    truth, results = random_scenes(9, tied_scores=True)
    bins = calibration([run(tmp_path, truth, results, "bbox")])["bins"]
    assert [bool(entry["count"]) for entry in bins] == [b in (2, 5, 8) for b in range(10)]
    assert bins[0]["score"] is bins[0]["precision"] is None
