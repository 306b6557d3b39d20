"""Measurements as Markdown tables of at most 120 columns."""

from __future__ import annotations

from pooling.cases import Case
from pooling.names import BOTH, FORWARD

NOTE = """\
ms: median of the calls, +- half the distance between the quartiles. /base: of max pooling's time
(of the stock stem's for the fused one). /floor: of a copy that moves the bytes which have to move.
peak: most that a forward + backward allocates. saved: kept for the backward beyond the input."""

_COLUMNS = [
    (f"{'pooling':18}", "<"), (f"{'forward ms':>14}", ">"), ("/base", ">"), ("/floor", ">"),
    (f"{'both ms':>14}", ">"), ("/base", ">"), ("/floor", ">"), ("peak MiB", ">"),
    ("saved MiB", ">"),
]  # fmt: skip


def line(cells: list[str], widths: list[int], sides: list[str]) -> str:
    padded = [f"{c:{s}{w}}" for c, w, s in zip(cells, widths, sides, strict=True)]
    return "| " + " | ".join(padded) + " |"


def table(headers: list[str], sides: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; `sides` has "<" or ">" for each column."""
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    # A colon aligns a column to the right.
    rule = [
        "-" * (width - 1) + {"<": "-", ">": ":"}[side]
        for width, side in zip(widths, sides, strict=True)
    ]
    lines = [headers, rule, *rows]
    return "\n".join(line(cells, widths, sides) for cells in lines)


def title(case: Case, setting: str) -> str:
    return f"{case.group}, {case.shape}, {case.dtype} {case.layout}, {case.window}; {setting}"


def case_table(case: Case, setting: str, rows: list[dict]) -> str:
    cells = [
        [
            row["peer"],
            *_time(row[FORWARD]),
            *_time(row[BOTH]),
            _mebibytes(row["peak_bytes"]),
            _mebibytes(row["saved_bytes"]),
        ]
        for row in rows
    ]
    headers, sides = [header for header, _ in _COLUMNS], [side for _, side in _COLUMNS]
    return f"**{title(case, setting)}**\n\n{table(headers, sides, cells)}\n"


def targets_table(outcomes: list[dict], settings: list[str]) -> str:
    headers = ["target", "wanted", settings[0]]
    rows = []
    for outcome in outcomes:
        wanted = f"{outcome['sign']} {outcome['bound']:g}"
        row = [outcome["text"], wanted, _figure(outcome["measured"])]
        if len(settings) > 1:
            row.append(_figure(outcome["measured_default"]))
        verdict = {None: "not measured", True: "met", False: "MISSED"}[outcome["met"]]
        rows.append([*row, ("moonshot " if outcome["moonshot"] else "") + verdict])
    headers += [*settings[1:], "verdict"]
    return table(headers, ["<"] + [">"] * (len(headers) - 2) + ["<"], rows)


def verdicts(outcomes: list[dict]) -> str:
    """One line: how many targets were met."""
    plain = [outcome for outcome in outcomes if not outcome["moonshot"]]
    moonshots = [outcome for outcome in outcomes if outcome["moonshot"]]
    text = f"{sum(o['met'] is True for o in plain)} of {len(plain)} targets met"
    if moonshots:
        text += f", and {sum(o['met'] is True for o in moonshots)} of {len(moonshots)} moonshots"
    return text


def _time(times: dict) -> list[str]:
    median = times["median_ms"]
    spread = 50 * (times["q3_ms"] - times["q1_ms"]) / median
    base = times["to_baseline"]
    return [
        f"{median:.4g} +-{spread:.0f}%",
        "" if base is None else f"{base:.2f}",
        f"{times['to_floor']:.2f}",
    ]


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.1f}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"
