"""The paper's Tables 2, 4, 5, 6 and 7, as printed (`paper.yaml`)."""

from __future__ import annotations

from pathlib import Path

from softpool_det.config.safe_yaml import read_yaml

ORIGINAL, SOFTPOOL = "Original", "SoftPool"
# SoftPool in the weights that Original learned, without training.
SWAPPED = "swapped"
# Data sets of Table 7, by the names of recipes.
VIDEO_DATA = {"hacs": "HACS", "kinetics700": "Kinetics-700", "ucf101": "UCF-101"}

_PRINTED = read_yaml(str(Path(__file__).with_name("paper.yaml")))
TABLE_2, TABLE_4, TABLE_5, TABLE_6 = (_PRINTED[f"table_{number}"] for number in (2, 4, 5, 6))
# By network and pooling.
TABLE_7 = {
    (name, pool): row for pool, rows in _PRINTED["table_7"].items() for name, row in rows.items()
}
# The networks of a table.
NETWORKS = {2: list(TABLE_2), 4: list(TABLE_4), 5: _PRINTED["table_5_networks"]}
NETWORKS[7] = list(dict.fromkeys(name for name, _ in TABLE_7))
# Table 6's first and last poolings are in Table 4, too.
POOLS_6 = (ORIGINAL, *list(TABLE_6)[1:-1], SOFTPOOL)

# Of a network with a pooling: millions of parameters, and GFLOP.
SIZES = {(name, ORIGINAL): row[:2] for name, row in TABLE_2.items()}
SIZES |= {arm: [None, row[0]] for arm, row in TABLE_7.items()}

# Of a network with a pooling on a data set: top-1 and, but for Table 5's, top-5. Where two tables
# have one, they agree.
ACCURACIES: dict[tuple[str, str, str], list[float | None]] = {
    **{
        (network, pool, "imagenet"): [top1, None]
        for pool, row in TABLE_5.items()
        for network, top1 in zip(NETWORKS[5], row, strict=True)
    },
    **{
        (network, pool, "imagenet"): row[place : place + 2]
        for network, row in TABLE_2.items()
        for pool, place in ((ORIGINAL, 2), (SWAPPED, 4), (SOFTPOOL, 6))
    },
    **{
        ("inception_v3", pool, "imagenet"): row[:2]
        for pool, row in zip(POOLS_6, TABLE_6.values(), strict=True)
    },
    **{
        (*arm, data): row[place : place + 2]
        for arm, row in TABLE_7.items()
        for data, place in zip(VIDEO_DATA, (1, 3, 5), strict=True)
    },
}
