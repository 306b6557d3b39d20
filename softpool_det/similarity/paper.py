"""The paper's figures, and how far measured ones are in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from softpool_det.similarity.measure import figure

KERNELS = (2, 3, 5)
MEASURES = ("ssim", "psnr")
TITLES = {
    "div2k": "DIV2K, Table 1",
    "urban100": "Urban100, Table 1",
    "manga109": "Manga109, Table 1",
    "flickr2k": "Flickr2K, Table 3",
}
# The paper's row for each of ours. It does not say of which range of values its SoftPool is.
ROWS = {
    **{
        key: key
        for key in ("avg", "max", "poweravg", "sum", "lp", "gated", "litedpp", "dpp", "lip")
    },
    **{key: key for key in ("stochastic", "s3")},
    "lites3dpp": "litedpp",
    **{f"softpool-{values}": "softpool" for values in ("unit", "imagenet", "bytes")},
}
# SSIM and PSNR (dB) for k = 2, 3 and 5. DPP is "Lite-S3DPP" in Table 1 and "DPP" in Table 3.
_TEXT = {
    "div2k": """
        avg .714 51.247 .578 44.704 .417 29.223
        max .685 49.826 .370 41.944 .358 22.041
        poweravg .419 35.587 .286 26.329 .178 16.567
        sum .408 35.153 .268 26.172 .193 17.315
        lp .686 49.912 .542 43.083 .347 25.139
        gated .689 50.104 .560 43.437 .353 25.672
        litedpp .702 50.598 .562 44.076 .396 27.421
        lip .711 50.831 .559 44.432 .401 28.285
        stochastic .631 45.362 .479 39.895 .295 21.314
        s3 .609 44.760 .454 39.326 .280 20.773
        softpool .729 51.436 .594 44.747 .421 29.583""",
    "urban100": """
        avg .691 50.380 .563 41.745 .372 28.270
        max .662 48.266 .528 40.709 .330 20.654
        poweravg .312 31.911 .219 24.698 .124 15.659
        sum .301 31.657 .208 24.735 .123 15.243
        lp .676 48.508 .534 39.986 .326 26.365
        gated .675 49.769 .537 40.422 .328 26.731
        litedpp .684 49.947 .551 40.813 .365 27.136
        lip .689 50.266 .558 41.159 .370 27.849
        stochastic .616 44.342 .463 37.223 .286 19.358
        s3 .608 44.239 .459 36.965 .272 19.645
        softpool .694 50.687 .578 41.851 .394 28.326""",
    "manga109": """
        avg .695 54.326 .582 43.657 .396 29.862
        max .671 50.085 .544 41.128 .324 22.307
        poweravg .381 29.248 .276 18.874 .160 9.266
        sum .374 30.169 .271 20.150 .168 13.081
        lp .675 51.721 .561 41.824 .367 27.469
        gated .679 51.980 .569 42.127 .374 27.754
        litedpp .691 52.646 .573 42.794 .386 28.598
        lip .689 53.537 .579 43.018 .391 29.331
        stochastic .583 46.274 .427 39.259 .255 22.953
        s3 .576 46.613 .426 39.866 .232 23.242
        softpool .704 54.563 .586 43.782 .403 30.114""",
    "flickr2k": """
        avg .709 51.786 .572 44.246 .408 28.957
        max .674 47.613 .385 40.735 .329 21.368
        poweravg .392 34.319 .271 26.820 .163 15.453
        sum .386 34.173 .265 26.259 .161 15.218
        lp .683 48.617 .437 42.079 .341 24.432
        gated .687 49.314 .449 42.722 .358 25.687
        dpp .691 50.586 .534 43.608 .385 27.430
        lip .696 50.947 .548 43.882 .390 28.134
        stochastic .625 46.714 .474 38.365 .264 21.428
        s3 .611 46.547 .476 37.706 .252 21.363
        softpool .721 52.356 .587 44.893 .416 29.341""",
}
_FIGURES = {
    dataset: {
        words[0]: tuple(map(float, words[1:])) for words in map(str.split, text.split("\n")[1:])
    }
    for dataset, text in _TEXT.items()
}


class Order(NamedTuple):
    """How many pairs of poolings are in the paper's order, and those (better, worse) that are not.

    Args:
        agreeing: pairs in the paper's order.
        pairs: all pairs.
        wrong: keys of ours, better and worse in the paper, but not here.
    """

    agreeing: int
    pairs: int
    wrong: list[tuple[str, str]]


def paper_figure(dataset: str, key: str, kernel: int, measure: str) -> float | None:
    """Return the paper's "ssim" or "psnr" (dB) for one of our rows; None where it has none."""
    if key not in ROWS or kernel not in KERNELS:
        return None
    row = _FIGURES[dataset].get(ROWS[key])
    place = 2 * KERNELS.index(kernel) + MEASURES.index(measure)
    return None if row is None else row[place]


def order(
    means: Mapping[str, Mapping[str, Any]], dataset: str, kernel: int, measure: str, protocol: str
) -> Order | None:
    """Compare the order of our means with the paper's.

    Args:
        means: of one kernel size, by key; of several SoftPools the first counts.
        dataset: a key of `TITLES`, whose order is the paper's.
        kernel: 2, 3 or 5.
        measure: "ssim" or "psnr".
        protocol: by which it was measured, or "paper-like".

    Returns:
        None where there is nothing to compare.
    """
    rows: dict[str, tuple[float, float, str]] = {}
    for key, entry in means.items():
        theirs = paper_figure(dataset, key, kernel, measure)
        ours = figure(entry, measure, protocol)
        if theirs is not None and ours is not None:
            rows.setdefault(ROWS[key], (theirs, ours, key))
    # Best in the paper first; its ties are in no order.
    ranked = sorted(rows.values(), reverse=True)
    pairs = [(a, b) for a, b in combinations(ranked, 2) if a[0] > b[0]]
    wrong = [(a[2], b[2]) for a, b in pairs if a[1] <= b[1]]
    return Order(len(pairs) - len(wrong), len(pairs), wrong) if pairs else None
