import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from softpool_det.classification.predictions import Predictions, mcnemar_test

counts = st.integers(0, 60)


def predictions(labels, correct):
    predicted = np.where(correct, labels, (labels + 1) % 10)
    return Predictions(labels, predicted, correct)


def pair(both, baseline_alone, candidate_alone, neither):
    """Two classifiers that are right together, alone and not at all on so many images."""
    sizes = (both, baseline_alone, candidate_alone, neither)
    labels = np.arange(sum(sizes)) % 10
    baseline = np.repeat([True, True, False, False], sizes)
    candidate = np.repeat([True, False, True, False], sizes)
    return predictions(labels, baseline), predictions(labels, candidate)


@given(counts, counts, counts, counts)
def test_is_the_formula(both, b, c, neither):
    found = mcnemar_test(*pair(both, b, c, neither))
    assert (found["only_baseline"], found["only_candidate"]) == (b, c)
    if b + c == 0:
        assert (found["statistic"], found["p_value"], found["exact_p_value"]) == (0, 1, 1)
        return
    statistic = (abs(b - c) - 1) ** 2 / (b + c)
    assert found["statistic"] == pytest.approx(statistic, rel=1e-12)
    # Chi-squared with one degree of freedom is the square of a normal variable.
    assert found["p_value"] == pytest.approx(math.erfc(math.sqrt(statistic / 2)), rel=1e-9)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert found["exact_p_value"] == pytest.approx(min(1, 2 * tail), rel=1e-9)


def test_other_images():
    first, _ = pair(3, 2, 1, 0)
    with pytest.raises(ValueError, match=r"same images.*6 and 5 images"):
        mcnemar_test(first, pair(2, 2, 1, 0)[0])


def test_file(tmp_path):
    written, _ = pair(3, 2, 1, 4)
    path = tmp_path / "new" / "predictions.safetensors"
    written.save(path)
    read = Predictions.load(path)
    for name in ("labels", "predicted", "in_top5"):
        assert np.array_equal(getattr(read, name), getattr(written, name))
    assert read.accuracies() == {"top1": 50.0, "top5": 50.0}
    assert [entry.name for entry in path.parent.iterdir()] == ["predictions.safetensors"]


@pytest.mark.parametrize("content", ["bytes", "tensors"])
def test_no_predictions(content, tmp_path):
    path = tmp_path / "other.safetensors"
    if content == "bytes":
        path.write_bytes(b"nothing of the kind")
    else:
        save_file({"labels": np.arange(3)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors holds no predictions"):
        Predictions.load(path)
