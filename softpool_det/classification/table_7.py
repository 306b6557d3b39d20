"""The paper's Table 7: networks for videos, beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from softpool_det.classification.networks import complexity
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL
from softpool_det.classification.table_report import Cell, Table
from softpool_det.video import NETWORKS

if TYPE_CHECKING:
    from softpool_det.classification.tables import Arm, Runs

# As printed: percent, top-1 and top-5 on HACS, Kinetics-700 and UCF-101.
TABLE_7: dict[tuple[str, str], tuple[float | None, ...]] = {
    ("r3d_50", ORIGINAL): (78.36, 93.76, 49.08, 72.54, 93.13, 96.29),
    ("r3d_101", ORIGINAL): (80.49, 95.18, 52.58, 74.63, 95.76, 98.42),
    ("r2plus1d_50", ORIGINAL): (81.34, 94.51, 49.93, 73.40, 93.92, 97.84),
    ("i3d", ORIGINAL): (79.95, 94.48, 53.01, 69.19, 92.45, 97.62),
    ("ir_csn_101_narrow", ORIGINAL): (None, None, 54.66, 73.78, 95.13, 97.85),
    ("mfnet", ORIGINAL): (78.31, 94.62, 54.25, 73.38, 93.86, 98.37),
    ("slowfast_r50_4x16", ORIGINAL): (None, None, 56.17, 75.57, 94.62, 98.75),
    ("srtg_r3d_50", ORIGINAL): (80.36, 95.55, 53.52, 74.17, 96.85, 98.26),
    ("srtg_r2plus1d_50", ORIGINAL): (83.77, 96.56, 54.17, 74.62, 95.99, 98.20),
    ("srtg_r3d_101", ORIGINAL): (81.66, 96.37, 56.46, 76.82, 97.32, 99.56),
    ("r3d_50", SOFTPOOL): (79.82, 94.64, 50.36, 73.72, 93.90, 97.02),
    ("srtg_r2plus1d_50", SOFTPOOL): (84.78, 97.72, 55.27, 75.44, 96.46, 98.73),
    ("srtg_r3d_101", SOFTPOOL): (83.28, 97.04, 57.76, 77.84, 98.06, 99.82),
}
DATA = {"hacs": "HACS", "kinetics700": "Kinetics-700", "ucf101": "UCF-101"}
NOTE = (
    "paper: as printed; its ir-CSN-101 has the accuracies of the real network and the GFLOP of the "
    "narrow one. ours: mean over seeds; in parentheses the difference from Original's runs of the "
    "same seeds, with a 95 % interval (Student's t) where there are two or more."
)


def table_7(runs: Runs, arms: Sequence[Arm]) -> Table:
    data = list(dict.fromkeys([*DATA, runs.data]))
    rows: dict[str, list[Cell]] = {}
    for arm in arms:
        printed, original = (TABLE_7.get((arm.key, pool)) for pool in (arm.pool, ORIGINAL))
        figures = complexity(arm.network)
        row = [
            Cell(None, {0: figures[0]}),
            Cell(NETWORKS[arm.key].gflops if printed else None, {0: figures[1]}),
        ]
        for i, name in enumerate(name for name in data for _ in range(2)):
            pair = [values[i] if values and i < 6 else None for values in (printed, original)]
            if name == runs.data:
                row.append(runs.cell(f"top{1 + 4 * (i % 2)}", arm.network, arm.pool, *pair))
            else:
                is_first = arm.pool == ORIGINAL
                row.append(Cell(pair[0], {}, None if is_first else (pair[1], {}), "accuracy"))
        rows[f"{arm.key}, {arm.pool}"] = row
    names = [f"{DATA.get(name, name)}, {top}" for name in data for top in ("top-1", "top-5")]
    columns = ["parameters, M", "GFLOP", *names]
    # Networks that the paper lacks leave its columns empty.
    kept = [i for i in range(len(columns)) if any(any(row[i].texts()) for row in rows.values())]
    rows = {label: [row[i] for i in kept] for label, row in rows.items()}
    return Table("Table 7: videos", [columns[i] for i in kept], rows, NOTE)
