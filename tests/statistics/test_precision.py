"""Against pycocotools, and, for images that count several times, against copies of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scenes import hotcoco_evaluation, pycocotools_evaluation, scene

from softpool_det.coco.protocol import METRICS
from softpool_det.statistics.average_precision import (
    evaluate,
    object_totals,
    weighted_metrics,
)
from softpool_det.statistics.ranking import merged_ranking, ranking

STATS = (0, 1, 2, 3, 4, 5, 8)


def reference_metrics(stats) -> np.ndarray:
    values = np.array([stats[i] for i in STATS])
    return np.where(values < 0, np.nan, values)


def assert_equals_references(matched, truth, found, task="bbox"):
    evaluation = evaluate(matched(truth, found, task))
    reference = pycocotools_evaluation(truth, found, task)
    np.testing.assert_array_equal(evaluation.precision, reference.eval["precision"][..., -1])
    np.testing.assert_array_equal(evaluation.recall, reference.eval["recall"][..., -1])
    metrics = np.array(list(evaluation.metrics().values()))
    np.testing.assert_array_equal(metrics, reference_metrics(reference.stats))
    fast = hotcoco_evaluation(truth, found, task)
    np.testing.assert_array_equal(metrics, reference_metrics(fast.stats))
    for k, value in enumerate(evaluation.per_class()):
        table = reference.eval["precision"][:, :, k, 0, -1]
        expected = table[table > -1].mean() if (table > -1).any() else np.nan
        np.testing.assert_array_equal(value, expected)


scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "images": st.integers(1, 12),
        "categories": st.integers(1, 4),
        "objects": st.integers(1, 8),
        "detections": st.integers(1, 25),
        "scores": st.sampled_from([None, 1, 4, 20]),
        "crowds": st.sampled_from([0.0, 0.2, 0.6]),
    }
)


@hypothesis_settings(max_examples=60)
@given(scenes, st.booleans())
def test_equals_pycocotools_and_hotcoco(matched, arguments, masks):
    truth, found = scene(**arguments, masks=masks)
    if truth["annotations"] and found:
        assert_equals_references(matched, truth, found, "segm" if masks else "bbox")


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_equals_pycocotools_on_a_large_scene(matched, task):
    truth, found = scene(0, images=60, objects=10, detections=40, scores=50, masks=task == "segm")
    assert_equals_references(matched, truth, found, task)


def test_of_more_than_100_detections_the_best_count(matched):
    truth, found = scene(1, images=2, categories=1, objects=30, detections=400, scores=30)
    assert max(sum(e["image_id"] == i["id"] for e in found) for i in truth["images"]) > 100
    assert_equals_references(matched, truth, found)


def copies(truth: dict, found: list[dict], weights: np.ndarray) -> tuple[dict, list[dict]]:
    """The data set with every image as often as its weight says, under new ids."""
    images = sorted(truth["images"], key=lambda image: image["id"])
    new: dict = {"categories": truth["categories"], "images": [], "annotations": []}
    entries = []
    for image, weight in zip(images, weights, strict=True):
        for _ in range(weight):
            place = {"image_id": len(new["images"]) + 1}
            new["images"].append({**image, "id": place["image_id"]})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    number = {"id": len(new["annotations"]) + 1}
                    new["annotations"].append({**copy.deepcopy(annotation), **place, **number})
            entries += [{**e, **place} for e in found if e["image_id"] == image["id"]]
    return new, entries


def without_ties_in_an_image(found: list[dict]) -> list[dict]:
    """Of detections of one image, category and score, the first."""
    first = {(e["image_id"], e["category_id"], e["score"]): e for e in reversed(found)}
    return list(first.values())


@hypothesis_settings(max_examples=60)
@given(scenes, st.integers(0, 2**32 - 1))
def test_weights_are_copies_of_images(matched, arguments, seed):
    """Also with ties between images; ties in an image and category are the exception."""
    truth, found = scene(**arguments)
    found = without_ties_in_an_image(found)
    weights = np.random.default_rng(seed).poisson(1.3, len(truth["images"]))
    copied, entries = copies(truth, found, weights)
    if not copied["annotations"] or not entries:
        return
    reference = pycocotools_evaluation(copied, entries)
    matches = matched(truth, found)
    evaluation = evaluate(matches, weights)
    np.testing.assert_array_equal(evaluation.precision, reference.eval["precision"][..., -1])
    np.testing.assert_array_equal(evaluation.recall, reference.eval["recall"][..., -1])
    batch = weights[None].astype(np.int32)
    metrics, per_class = weighted_metrics(ranking(matches), batch, object_totals(matches, batch))
    np.testing.assert_allclose(metrics[0], reference_metrics(reference.stats), rtol=0, atol=1e-12)
    np.testing.assert_allclose(per_class[0], evaluation.per_class(), rtol=0, atol=1e-12)


def test_ties_in_an_image_take_turns_in_copies_and_go_together_here(matched):
    """Two detections of one score, the first wrong, in an image that counts three times."""
    box = [10.0, 10.0, 20.0, 20.0]
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400}],
    }
    truth["annotations"][0]["iscrowd"] = 0
    entry = {"image_id": 1, "category_id": 1, "score": 0.5}
    found = [{**entry, "bbox": [90.0, 90.0, 20.0, 20.0]}, {**entry, "bbox": box}]
    reference = pycocotools_evaluation(*copies(truth, found, np.array([3])))
    evaluation = evaluate(matched(truth, found), np.array([3]))
    # Precision after the last is 3 of 6 either way; in turns it never is higher than that.
    assert evaluation.metrics()["AP50"] == reference.stats[1] == 0.5
    reference = pycocotools_evaluation(*copies(truth, found[::-1], np.array([3])))
    evaluation = evaluate(matched(truth, found[::-1]), np.array([3]))
    assert evaluation.metrics()["AP50"] == 1.0
    # In turns: 1 of 1, then 2 of 3, then 3 of 5, at the recalls of thirds.
    expected = (34 * 1 + 33 * 2 / 3 + 34 * 3 / 5) / 101
    assert reference.stats[1] == pytest.approx(expected, abs=1e-12)


@hypothesis_settings(max_examples=30)
@given(scenes, st.integers(0, 2**32 - 1))
def test_a_mixture_of_two_runs_is_evaluated_like_its_own_result_file(matched, arguments, seed):
    truth, first = scene(**arguments)
    _, second = scene(**{**arguments, "seed": seed})
    rng = np.random.default_rng(seed)
    ids = sorted(image["id"] for image in truth["images"])
    of_second = rng.integers(0, 2, len(ids))
    chosen = dict(zip(ids, of_second, strict=True))
    mixture = [e for e in first if not chosen[e["image_id"]]]
    mixture += [e for e in second if chosen[e["image_id"]]]
    if not truth["annotations"] or not (first and second and mixture):
        return
    baseline, candidate = matched(truth, first), matched(truth, second)
    weights = np.concatenate([1 - of_second, of_second])[None].astype(np.int32)
    totals = object_totals(baseline, np.ones((1, len(ids)), dtype=np.int32))
    metrics, _ = weighted_metrics(merged_ranking(baseline, candidate), weights, totals)
    reference = pycocotools_evaluation(truth, mixture)
    np.testing.assert_allclose(metrics[0], reference_metrics(reference.stats), rtol=0, atol=1e-12)


def test_metrics_have_the_schema_names(matched):
    assert tuple(evaluate(matched(*scene(3))).metrics()) == METRICS


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"shape \(3,\), must end in 8"),
        (np.full(8, 0.5), "whole numbers from 0"),
        (np.full(8, -1), "whole numbers from 0"),
    ],
)
def test_bad_weights_are_refused(matched, weights, message):
    with pytest.raises(ValueError, match=message):
        evaluate(matched(*scene(3)), weights)
