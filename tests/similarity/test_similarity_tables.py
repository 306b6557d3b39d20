"""Tables beside the paper's, and how much of its order is found again."""

import pytest

from softpool_det.similarity.paper import TITLES, order, paper_figure
from softpool_det.similarity.poolings import POOLINGS


def entry(value):
    return {"ssim": {"nearest": value}, "psnr": {"nearest": value}, "paper_like_ssim": value}


@pytest.mark.parametrize("dataset", TITLES)
def test_softpool_is_the_papers_best(dataset):
    for kernel in (2, 3, 5):
        for measure in ("ssim", "psnr"):
            values = {
                pooling.key: paper_figure(dataset, pooling.key, kernel, measure)
                for pooling in POOLINGS
            }
            given = [value for value in values.values() if value is not None]
            # Eleven rows: one for three ranges of values, and Table 1's DPP for two layers.
            assert len(given) == (13 if dataset == "flickr2k" else 14)
            assert max(given) == values["softpool-unit"]


def test_figures_of_the_paper():
    assert paper_figure("div2k", "avg", 2, "psnr") == 51.247
    assert paper_figure("manga109", "s3", 5, "ssim") == 0.232
    assert paper_figure("flickr2k", "dpp", 3, "ssim") == 0.534
    assert paper_figure("flickr2k", "litedpp", 3, "ssim") is None
    assert paper_figure("div2k", "avg", 4, "ssim") is None
    assert paper_figure("div2k", "ada", 2, "ssim") is None


def test_orders():
    means = {
        "avg": entry(0.9),
        "max": entry(0.8),
        "ada": entry(0.1),
        "softpool-unit": entry(0.85),
        "softpool-bytes": entry(0.1),
    }
    found = order(means, "div2k", 2, "ssim", "nearest")
    assert found == (2, 3, [("softpool-unit", "avg")])
    assert order(means, "div2k", 2, "ssim", "paper-like") == found
    assert order(means, "div2k", 4, "ssim", "nearest") is None
    means["avg"] = entry(None)
    assert order(means, "div2k", 2, "psnr", "nearest") == (1, 1, [])
