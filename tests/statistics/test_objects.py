import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_scenes import ground_truth, random_scenes, write
from scipy.stats import binomtest, chi2

from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.statistics.matches import IGNORED, TRUE_POSITIVE, match
from softpool_det.statistics.object_tests import (
    best_f1_threshold,
    clustered_test,
    found_objects,
    mcnemar_test,
    object_tests,
)


def matched(folder, truth, results, task="bbox"):
    truth_file, result_file = write(folder, truth=truth, results=results)
    read = read_ground_truth(truth_file)
    # pycocotools' order of equal scores.
    return match(read, read_detections(result_file, read), task, file_order=True)


def square(image, x, side=10, **more):
    return {"image_id": image, "category_id": 1, "bbox": [x, 0, side, side], **more}


@pytest.fixture
def pair(tmp_path):
    """Five objects and a crowd in two images; what each detector finds is in the results."""
    places = [(1, 0), (1, 20), (1, 40), (2, 0), (2, 20)]
    objects = [
        square(image, x, id=i + 1, iscrowd=0, area=100) for i, (image, x) in enumerate(places)
    ]
    crowd = square(2, 60, side=40, id=6, iscrowd=1, area=1600)
    truth = ground_truth(2, 1, [*objects, crowd])
    # The third is at an IoU of 0.6; the last lies in the crowd.
    first = [square(1, 0, score=0.9), square(1, 20, score=0.8), square(2, 0, score=0.3)]
    second = [square(1, 20, score=0.7), square(2, 0, score=0.9), square(2, 65, score=0.95)]
    second.append({**square(2, 20, score=0.8), "bbox": [20, 0, 10, 6]})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return matched(tmp_path / "a", truth, first), matched(tmp_path / "b", truth, second)


def test_counts_by_hand(pair):
    rows = object_tests([pair[0]], [pair[1]], [7])
    by_key = {(row["iou"], row["scores"]): row for row in rows}
    assert len(rows) == 4
    names = ("both", "only_baseline", "only_candidate", "neither")
    loose, strict = by_key[0.5, "any"], by_key[0.75, "any"]
    assert [loose[name] for name in names] == [2, 1, 1, 1]
    assert [strict[name] for name in names] == [2, 1, 0, 2]
    assert loose["seed"] == 7
    assert loose["thresholds"] == [None, None]
    # One object lost in image 1, one won in image 2: 0^2 / 2.
    assert loose["clustered_statistic"] == 0.0
    assert loose["p_value"] == loose["clustered_p_value"] == 1.0
    # All are right, so the lowest score is the best threshold; the crowd's does not count.
    assert by_key[0.5, "best F1"]["thresholds"] == [0.3, 0.7]
    # At 0.75 the second's third find is a false positive, above which the threshold lies.
    assert by_key[0.75, "best F1"]["thresholds"] == [0.3, 0.7]


def test_unequal_runs_are_refused(pair):
    with pytest.raises(ValueError, match="1 and 1 runs and 2 seeds"):
        object_tests([pair[0]], [pair[1]], [1, 2])


def test_other_ground_truth_is_refused(pair, tmp_path):
    other = matched(tmp_path, *random_scenes(1))
    with pytest.raises(ValueError, match="seed 1 were matched with different ground truths"):
        object_tests([pair[0]], [other], [1])


@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_found_objects_are_those_of_pycocotools(tmp_path, iou, tied_scores):
    truth, results = random_scenes(3, tied_scores=tied_scores)
    found = matched(tmp_path, truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "truth.json")
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    t = round((iou - 0.5) / 0.05)
    expected = {
        object_id
        for image in evaluation.evalImgs
        if image is not None
        for object_id, taker, ignored in zip(
            image["gtIds"], image["gtMatches"][t], image["gtIgnore"], strict=True
        )
        if taker and not ignored
    }
    assert expected
    assert set(found.object_ids[found_objects(found, iou)]) == expected


@pytest.mark.parametrize("tied_scores", [False, True])
def test_threshold_is_the_best_and_filters_as_a_detector_would(tmp_path, tied_scores):
    truth, results = random_scenes(4, tied_scores=tied_scores)
    matches = matched(tmp_path, truth, results)
    state, objects = matches.state[0, 5], (~matches.object_ignored[0]).sum()
    f1 = {}
    for threshold in set(matches.score[state != IGNORED]):
        above = state[matches.score >= threshold]
        true = (above == TRUE_POSITIVE).sum()
        false = (above != IGNORED).sum() - true
        f1[threshold] = 2 * true / (2 * true + false + (objects - true))
    best = best_f1_threshold(matches, 0.75)
    assert best == max(t for t in f1 if f1[t] == max(f1.values()))

    kept = [entry for entry in results if entry["score"] >= best]
    alone = matched(tmp_path, truth, kept)
    same = found_objects(matches, 0.75, best) == found_objects(alone, 0.75)
    assert same.all()


def test_other_iou_is_refused(pair):
    with pytest.raises(ValueError, match=r"0\.50, 0\.55, \.\.\., 0\.95, got 0\.6[0-9]*1"):
        found_objects(pair[0], 0.61)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar(lost, won):
    result = mcnemar_test(lost, won)
    if lost + won < 25:
        expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
        assert (result["test"], result["statistic"]) == ("exact binomial", None)
        assert result["p_value"] == pytest.approx(expected)
    else:
        statistic = (abs(lost - won) - 1) ** 2 / (lost + won)
        assert result["test"] == "chi-square"
        assert result["statistic"] == pytest.approx(statistic)
        assert result["p_value"] == pytest.approx(chi2.sf(statistic, 1))


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1))
def test_clustered_is_mcnemar_where_images_have_one_object(differences):
    lost, won = differences.count(-1), differences.count(1)
    result = clustered_test(np.array(differences))
    expected = (won - lost) ** 2 / (won + lost) if won + lost else 0.0
    assert result["clustered_statistic"] == pytest.approx(expected)
    assert result["clustered_p_value"] == pytest.approx(chi2.sf(expected, 1))


@settings(max_examples=20)
@given(st.lists(st.integers(-5, 5), min_size=1), st.integers(2, 4))
def test_clustered_does_not_gain_from_repeated_objects(differences, times):
    """Objects that are found or missed together add no evidence; McNemar's own test grows."""
    once = clustered_test(np.array(differences))
    again = clustered_test(times * np.array(differences))
    assert again["clustered_statistic"] == pytest.approx(once["clustered_statistic"])


def test_level_where_objects_of_an_image_are_alike():
    """Without a difference p < 0.05 in 5 % of data sets; with McNemar's own test in far more."""
    random = np.random.default_rng(0)
    clustered, plain = [], []
    for _ in range(1000):
        sizes = random.integers(1, 12, 200)
        # In each image one of the detectors is a little better, for all objects.
        chance = random.beta(2, 2, 200)
        won = random.binomial(sizes, chance)
        differences = 2 * won - sizes
        clustered.append(clustered_test(differences)["clustered_p_value"])
        plain.append(mcnemar_test(int((sizes - won).sum()), int(won.sum()))["p_value"])
    share = np.mean(np.array(clustered) < 0.05)
    # Four standard errors of a share of 0.05 in 1,000.
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(np.array(plain) < 0.05) > 0.15
