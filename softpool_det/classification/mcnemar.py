"""McNemar's test of two classifiers on the same images, as in the paper's Table 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softpool_det.classification.predictions import Predictions
from softpool_det.statistics.object_tests import corrected_mcnemar, exact_mcnemar


@dataclass(frozen=True)
class McNemar:
    """The test's outcome.

    Args:
        only_baseline, only_candidate: images that one classifier alone has right.
        statistic: (|only_baseline - only_candidate| - 1)^2 / (only_baseline + only_candidate).
        p_value: of chi-squared with one degree of freedom.
        exact_p_value: of the binomial test, which holds for few disagreements as well.
    """

    only_baseline: int
    only_candidate: int
    statistic: float
    p_value: float
    exact_p_value: float


def mcnemar_test(baseline: Predictions, candidate: Predictions) -> McNemar:
    """Test whether two classifiers are right equally often, by the images that they disagree on.

    It is about these two sets of weights: what another training run would give is not in it.

    Args:
        baseline, candidate: predictions for the same images in the same order.

    Raises:
        ValueError: the labels differ, so the images do.
    """
    if not np.array_equal(baseline.labels, candidate.labels):
        raise ValueError(
            "McNemar's test needs predictions for the same images: the labels differ "
            f"({len(baseline.labels)} and {len(candidate.labels)} images)"
        )
    first, second = baseline.correct, candidate.correct
    only_baseline, only_candidate = int(np.sum(first & ~second)), int(np.sum(~first & second))
    if only_baseline + only_candidate == 0:
        # Nothing to test by; the statistic would be 1 / 0.
        return McNemar(0, 0, 0.0, 1.0, 1.0)
    statistic, p_value = corrected_mcnemar(only_baseline, only_candidate)
    exact = exact_mcnemar(only_baseline, only_candidate)
    return McNemar(only_baseline, only_candidate, statistic, p_value, exact)
