"""Draws against brute force, and the permutation test against an exact one."""

from __future__ import annotations

import copy
import itertools

import numba
import numpy as np
import pytest
from scenes import pycocotools_evaluation, scene
from test_precision import copies, reference_metrics, without_ties_in_an_image

from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.bootstrap import bootstrap, permutation_test


@pytest.fixture(scope="module")
def pair():
    """Ground truth and two detectors' results, the second with some misses made up for."""
    truth, first = scene(11, images=6, objects=6, detections=14, crowds=0.1)
    first = without_ties_in_an_image(first)
    second = copy.deepcopy(first)
    for annotation in truth["annotations"][::3]:
        place = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
        second.append({**place, "score": 0.901 + 0.0001 * annotation["id"]})
    return truth, first, second


def test_draws_are_what_pycocotools_gives_on_the_drawn_images(matched, pair):
    """Brute force: every drawn image as often as it was drawn, under new ids."""
    truth, first, second = pair
    arms = [[matched(truth, first)], [matched(truth, second)]]
    draws = bootstrap(arms, resamples=12, random_seed=5)
    rng = np.random.default_rng(5)
    images = len(truth["images"])
    # Drawn one batch at a time; the first row of the first batch gives way to the plain images.
    drawn = rng.integers(0, images, size=(13, images))
    for r in range(13):
        counts = np.bincount(drawn[r], minlength=images) if r else np.ones(images, dtype=int)
        for arm, found in enumerate((first, second)):
            reference = pycocotools_evaluation(*copies(truth, found, counts))
            expected = reference_metrics(reference.stats)
            np.testing.assert_allclose(draws.metrics[arm, 0, r], expected, rtol=0, atol=1e-12)


def test_draws_depend_on_the_seed_and_not_on_threads(matched, pair, monkeypatch):
    truth, first, second = pair
    arms = [[matched(truth, first)], [matched(truth, second)]]
    draws = bootstrap(arms, resamples=50, random_seed=1)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    again = bootstrap(arms, resamples=50, random_seed=1)
    with pytest.raises(ValueError, match="not initialized"):
        numba.threading_layer()  # which would set PyTorch's number of threads
    np.testing.assert_array_equal(draws.metrics, again.metrics)
    np.testing.assert_array_equal(draws.per_class, again.per_class)
    other = bootstrap(arms, resamples=50, random_seed=2)
    assert not np.array_equal(draws.metrics[0, 0, 1:, 0], other.metrics[0, 0, 1:, 0])


def mixture_ap(truth, first, second, of_second) -> float:
    ids = sorted(image["id"] for image in truth["images"])
    chosen = dict(zip(ids, of_second, strict=True))
    entries = [e for e in first if not chosen[e["image_id"]]]
    entries += [e for e in second if chosen[e["image_id"]]]
    return pycocotools_evaluation(truth, entries).stats[0]


def test_permutation_p_value_is_near_the_exact_one(matched, pair):
    """All 64 ways to swap, through pycocotools."""
    truth, first, second = pair
    differences = [
        mixture_ap(truth, first, second, 1 - np.array(swap))
        - mixture_ap(truth, first, second, np.array(swap))
        for swap in itertools.product((0, 1), repeat=len(truth["images"]))
    ]
    exact = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    found = permutation_test(
        [matched(truth, first)], [matched(truth, second)], permutations=2000, random_seed=0
    )
    assert 0 < exact < 0.5
    # Within four standard errors of 2,000 draws.
    assert abs(found[0] - exact) < 4 * np.sqrt(exact * (1 - exact) / 2000) + 1 / 2000


def test_a_detector_does_not_differ_from_itself(matched, pair):
    truth, first, _ = pair
    run = matched(truth, first)
    p_values = permutation_test([run], [run], permutations=20, random_seed=0)
    assert set(p_values[~np.isnan(p_values)]) == {1.0}


def test_seeds_are_averaged(matched, pair):
    """Two pairs of which the second is the first the other way round: no difference at all."""
    truth, first, second = pair
    a, b = matched(truth, first), matched(truth, second)
    p_values = permutation_test([a, b], [b, a], permutations=20, random_seed=0)
    assert set(p_values[~np.isnan(p_values)]) == {1.0}
    draws = bootstrap([[a, b], [b, a]], resamples=5, random_seed=0)
    np.testing.assert_array_equal(draws.metrics[0, 0], draws.metrics[1, 1])
    np.testing.assert_allclose(
        draws.metrics[0, 0, 0], list(evaluate(a).metrics().values()), rtol=0, atol=1e-12
    )


def test_a_single_image_says_nothing_about_others(matched):
    truth, first = scene(11, images=1, objects=30, detections=14)
    draws = bootstrap([[matched(truth, first)]], resamples=5, random_seed=1)
    assert np.isfinite(draws.metrics[0, 0, 0, 0])
    assert np.isnan(draws.metrics[0, 0, 1:]).all()
    assert np.isnan(draws.per_class[0, 0, 1:]).all()


def test_runs_must_go_together(matched, pair):
    truth, first, second = pair
    a, b = matched(truth, first), matched(truth, second)
    other = matched(*scene(12))
    with pytest.raises(ValueError, match="different ground truths"):
        bootstrap([[a], [other]], resamples=5, random_seed=0)
    with pytest.raises(ValueError, match="2, 1 runs"):
        bootstrap([[a, b], [b]], resamples=5, random_seed=0)
    with pytest.raises(ValueError, match="at least one run"):
        bootstrap([[], []], resamples=5, random_seed=0)
    with pytest.raises(ValueError, match="resamples=0"):
        bootstrap([[a], [b]], resamples=0, random_seed=0)
    with pytest.raises(ValueError, match="permutations=0"):
        permutation_test([a], [b], permutations=0, random_seed=0)
