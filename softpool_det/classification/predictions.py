"""What a classifier predicts for every image of a data set, and McNemar's test of two (Table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from softpool_det.io.atomic import replacing
from softpool_det.statistics.object_tests import corrected_mcnemar, exact_mcnemar


@dataclass(frozen=True)
class Predictions:
    """Of the N images of a data set, in its order."""

    labels: np.ndarray  # (N,) int64, the true classes
    predicted: np.ndarray  # (N,) int64, the classes with the highest score
    in_top5: np.ndarray  # (N,) bool, whether the true class is among the five highest

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction is right, (N,) bool."""
        return self.labels == self.predicted

    def accuracies(self) -> dict[str, float]:
        """Return top-1 and top-5 accuracy in percent."""
        return {"top1": 100 * float(self.correct.mean()), "top5": 100 * float(self.in_top5.mean())}

    def save(self, path: Path) -> None:
        """Write a .safetensors file, atomically."""
        with replacing(path) as temporary:
            save_file(vars(self), temporary)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote; raises ValueError for something else."""
        try:
            return cls(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path} holds no predictions of a classifier: {error}") from error


def mcnemar_test(baseline: Predictions, candidate: Predictions) -> dict[str, float]:
    """Test whether two classifiers are right equally often, by the images that they disagree on.

    It is about these two sets of weights, not other trainings. Raises ValueError if labels differ.

    Returns:
        "only_baseline" and "only_candidate": b and c images that one alone has right;
        "statistic": (|b - c| - 1)^2 / (b + c), and its "p_value" by chi-squared with one degree of
        freedom; "exact_p_value": of the binomial test, which holds for few disagreements as well.
    """
    if not np.array_equal(baseline.labels, candidate.labels):
        raise ValueError(
            "McNemar's test needs predictions for the same images: the labels differ "
            f"({len(baseline.labels)} and {len(candidate.labels)} images)"
        )
    b = int(np.sum(baseline.correct & ~candidate.correct))
    c = int(np.sum(~baseline.correct & candidate.correct))
    # Without disagreement there is nothing to test by; the statistic would be 1 / 0.
    statistic, p_value = corrected_mcnemar(b, c) if b + c else (0.0, 1.0)
    tests = {"statistic": statistic, "p_value": p_value, "exact_p_value": exact_mcnemar(b, c)}
    return {"only_baseline": b, "only_candidate": c, **tests}
