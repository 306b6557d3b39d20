"""similarity.json as tables: in Markdown, and as cells for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from softpool_det.similarity.measure import figure
from softpool_det.similarity.metrics import PROTOCOLS
from softpool_det.similarity.paper import TITLES, order, paper_figure
from softpool_det.similarity.poolings import POOLINGS

LABELS = {pooling.key: pooling.label for pooling in POOLINGS}
PAPER_LIKE = "paper-like"
DIGITS = {"ssim": 3, "psnr": 2}
NAMES = {"ssim": "SSIM", "psnr": "PSNR"}
NOTES = (
    "SSIM as Wang et al. (2004), PSNR in dB, both of images in 0 to 1; means over the images. "
    "Bold: the best of a column.",
    "Paper-like SSIM: enlarged bicubically, 8-bit pixels, with SSIM's constants of a range of 1. "
    "It comes nearest to the level of the paper's SSIM, and is a guess.",
    "The paper's columns are of other images, by a protocol that it does not describe, and its "
    "PSNR for k = 2 and 3 is far above that of any protocol tried: compare orders, not levels.",
)


@dataclass(frozen=True)
class Cell:
    """A cell's text, and whether it is the best of its column."""

    text: str
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """A table: title, columns, and rows of cells, the first of which is the row's name."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


def all_tables(result: Mapping[str, Any]) -> list[Table]:
    """Build the tables of a result: one for each kernel size, and those about all of them.

    Args:
        result: the content of similarity.json.
    """
    kernels = result["settings"]["kernel_sizes"]
    tables = [_figures(result, kernel) for kernel in kernels]
    tables += [_against_average(result), _orders(result), _training(result)]
    return [table for table in tables if table.rows]


def markdown(result: Mapping[str, Any]) -> str:
    """Write the tables in Markdown, and what was measured."""
    parts = ["# Images and their pooled versions", scope(result), *NOTES]
    for table in all_tables(result):
        rows = [[f"**{c.text}**" if c.is_best else c.text for c in row] for row in table.rows]
        parts += [
            f"## {table.title}",
            tabulate(rows, headers=table.columns, tablefmt="github", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def scope(result: Mapping[str, Any]) -> str:
    """Describe what was measured, in a sentence or two."""
    measured, trained = (len(result["images"][key]) for key in ("measured", "training"))
    text = f"{measured} image{'s' if measured != 1 else ''} measured"
    steps = result["settings"]["train_steps"]
    if trained:
        text += f"; poolings with parameters trained on {trained} others, {steps} steps"
    protocols = (f"{name}: {PROTOCOLS[name]}" for name in result["settings"]["protocols"])
    return f"{text}. {'; '.join(protocols).capitalize()}."


def means_of(result: Mapping[str, Any], kernel: int) -> dict[str, Mapping[str, Any]]:
    """Return the mean figures of one kernel size, by the poolings' keys."""
    found = [entry for entry in result["means"] if entry["kernel_size"] == kernel]
    return {entry["pooling"]: entry for entry in found}


def columns_of(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(protocol, "ssim" or "psnr") of each measured column."""
    protocols = result["settings"]["protocols"]
    pairs = [(protocol, measure) for protocol in protocols for measure in NAMES]
    return [*pairs, (PAPER_LIKE, "ssim")]


def _figures(result: Mapping[str, Any], kernel: int) -> Table:
    means, columns = means_of(result, kernel), columns_of(result)
    dataset = result["settings"]["dataset"]
    papers = [dataset] if dataset else list(TITLES)
    rows = [[Cell(LABELS[key])] for key in means]
    for protocol, measure in columns:
        values = [figure(entry, measure, protocol) for entry in means.values()]
        best = max((_height(value) for value in values), default=0)
        for row, value in zip(rows, values, strict=True):
            row.append(Cell(_number(value, measure), _height(value) == best))
    for key, row in zip(means, rows, strict=True):
        row += [Cell(_paper_cell(paper, key, kernel)) for paper in papers]
    heads = [f"{protocol} {NAMES[measure]}" for protocol, measure in columns]
    heads += [f"paper, {TITLES[paper]}" for paper in papers]
    return Table(f"k = {kernel}", ["pooling", *heads], rows)


def _height(value: float | None) -> float:
    return float("inf") if value is None else value


def _number(value: float | None, measure: str) -> str:
    return "inf" if value is None else f"{value:.{DIGITS[measure]}f}"


def _paper_cell(dataset: str, key: str, kernel: int) -> str:
    values = {name: paper_figure(dataset, key, kernel, name) for name in NAMES}
    if None in values.values():
        return ""
    return ", ".join(_number(value, name) for name, value in values.items())


def _against_average(result: Mapping[str, Any]) -> Table:
    """In how many pairs of image and kernel size each SoftPool is above the average."""
    columns, results = columns_of(result), result["results"]
    average = {(r["image"], r["kernel_size"]): r for r in results if r["pooling"] == "avg"}
    rows = []
    for key in (key for key in result["settings"]["poolings"] if key.startswith("softpool")):
        own = [r for r in results if r["pooling"] == key] if average else []
        cells = []
        for protocol, measure in columns:
            wins = sum(
                _height(figure(r, measure, protocol))
                > _height(figure(average[r["image"], r["kernel_size"]], measure, protocol))
                for r in own
            )
            cells.append(Cell(f"{wins} of {len(own)}"))
        rows += [[Cell(LABELS[key]), *cells]] if own else []
    heads = [f"{protocol} {NAMES[measure]}" for protocol, measure in columns]
    title = "Pairs of image and k where SoftPool is above the average"
    return Table(title, ["pooling", *heads], rows)


def _orders(result: Mapping[str, Any]) -> Table:
    dataset = result["settings"]["dataset"] or "div2k"
    rows = []
    for kernel in result["settings"]["kernel_sizes"]:
        means = means_of(result, kernel)
        for protocol, measure in columns_of(result):
            found = order(means, dataset, kernel, measure, protocol)
            if found is not None:
                wrong = (f"{LABELS[a]} > {LABELS[b]}" for a, b in found.wrong)
                cells = (f"{kernel}", f"{protocol} {NAMES[measure]}")
                agreeing = f"{found.agreeing} of {found.pairs}"
                rows.append([Cell(text) for text in (*cells, agreeing, "; ".join(wrong))])
    title = f"Pairs of poolings in the paper's order ({TITLES[dataset]})"
    return Table(title, ["k", "column", "pairs", "in the paper, but not here"], rows)


def _training(result: Mapping[str, Any]) -> Table:
    rows = [
        [Cell(LABELS[entry["pooling"]]), Cell(str(entry["kernel_size"]))]
        + [Cell(f"{1000 * entry[key]:.4f}") for key in _ERRORS]
        for entry in result["training"]
    ]
    title = "Training: mean squared error of the crops, in thousandths"
    return Table(title, ["pooling", "k", "before", "after", "of the average"], rows)


_ERRORS = ("mse_before", "mse_after", "mse_of_average")
