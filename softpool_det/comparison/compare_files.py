"""A comparison of result files, whatever made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softpool_det.comparison.output import gallery, write_figures, write_report
from softpool_det.comparison.provenance import provenance
from softpool_det.statistics.known_spread import read_known_spread
from softpool_det.statistics.result_files import compare_matched, match_files
from softpool_det.statistics.verdict import check_margin


def compare_files(
    ground_truth: Path,
    results: Mapping[str, Sequence[Path]],
    folder: Path,
    *,
    images: Path | None = None,
    resamples: int = 1000,
    known_spread: Path | None = None,
    margin: float | None = None,
) -> dict:
    """Compare COCO result files with each other, and write the report.

    Args:
        ground_truth: COCO's annotations.
        results: by the arm's name, a result file for each seed; the n-th files of all arms belong
            together. Differences are to the first arm.
        folder: of the comparison, which is written as :func:`compare` does.
        images: the folder of the images, for pictures of the largest gains and losses.
        resamples: of the images, for the intervals; as many permutations are drawn.
        known_spread, margin: as for :func:`compare`.

    Returns:
        What comparison.json holds (docs/compare.md).

    Raises:
        OSError: a file cannot be read or written.
        ValueError: fewer than two arms, two of one name, one file as two seeds, or a file is not
            what it should be.
    """
    check_names(list(results))
    check_margin(margin)
    if images is not None and not images.is_dir():
        raise NotADirectoryError(f"images: {images} is not a folder")
    spread = None if known_spread is None else read_known_spread(known_spread)
    runs = match_files(ground_truth, results)
    data = compare_matched(
        runs,
        resamples=resamples,
        permutations=resamples,
        known_spread=spread,
        margin=margin,
    )
    files = [(Path(ground_truth), "ground truth")]
    for name, paths in results.items():
        files += [(Path(p), f"results of {name}, seed {n}") for n, p in enumerate(paths, 1)]
    data["provenance"] = provenance(files)
    # Before the pictures: one that is missing must not cost the figures.
    write_figures(folder, data)
    rows = gallery(data, runs, images) if images is not None else []
    write_report(folder, data, rows)
    return data


def check_names(names: Sequence[str], folders: bool = False) -> None:
    """Raise ValueError unless two or more arms have different names (and such as folders have)."""
    if len(names) < 2:
        raise ValueError(f"a comparison needs two arms or more, got {list(names)}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two arms are called {name!r}; give each a name of its own")
        if not name.strip():
            raise ValueError(f"an arm's name must show, got {name!r}")
        if folders and ("/" in name or name.startswith(".")):
            raise ValueError(f"an arm's name is its folder's, too; {name!r} cannot be one")
