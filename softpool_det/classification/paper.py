"""The paper's Tables 2, 4, 5, 6 and 7, as printed (`paper.yaml`), and the arms they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softpool_det import video
from softpool_det.classification.networks import build_network
from softpool_det.config.safe_yaml import read_yaml
from softpool_det.layers import pooling_name

ORIGINAL, SOFTPOOL = "Original", "SoftPool"
SWAPPED = "swapped"  # SoftPool in the weights that Original learned, without training
# Data sets of Table 7, by the names of recipes.
VIDEO_DATA = {"hacs": "HACS", "kinetics700": "Kinetics-700", "ucf101": "UCF-101"}

_PRINTED = read_yaml(str(Path(__file__).with_name("paper.yaml")))
TABLE_2, TABLE_4, TABLE_5, TABLE_6 = (_PRINTED[f"table_{number}"] for number in (2, 4, 5, 6))
# A title and a note for each table.
TEXTS = {number: (title, " ".join(note)) for number, (title, *note) in _PRINTED["texts"].items()}
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
ACCURACIES: dict[tuple[str, str, str], list[float | None]] = {}
for _pool, _row in TABLE_5.items():
    for _name, _top1 in zip(NETWORKS[5], _row, strict=True):
        ACCURACIES[_name, _pool, "imagenet"] = [_top1, None]
for _name, _row in TABLE_2.items():
    for _pool, _place in ((ORIGINAL, 2), (SWAPPED, 4), (SOFTPOOL, 6)):
        ACCURACIES[_name, _pool, "imagenet"] = _row[_place : _place + 2]
for _pool, _row in zip(POOLS_6, TABLE_6.values(), strict=True):
    ACCURACIES["inception_v3", _pool, "imagenet"] = _row[:2]
for _arm, _row in TABLE_7.items():
    for _data, _place in zip(VIDEO_DATA, (1, 3, 5), strict=True):
        ACCURACIES[(*_arm, _data)] = _row[_place : _place + 2]


@dataclass(frozen=True)
class Arm:
    """A network with one pooling."""

    network: str  # as in `Config`
    pool: str  # Original, swapped, a name of `softpool_det.layers.POOLINGS`, a level of Table 6

    @property
    def key(self) -> str:
        """The network's name in tables; the paper's are torchvision's."""
        return self.network.removeprefix("torchvision/").removeprefix("video/")

    def __str__(self) -> str:
        return f"{self.network.removeprefix('torchvision/')}, {self.pool}"

    def replacements(self) -> list[dict[str, Any]]:
        """Return the calls of `replace_pooling`.

        The SoftPool authors' ResNets have a window of 2x2 where the stem's was 3x3 with padding;
        here DenseNets, too, and any other pooling has the same window. All others keep theirs.
        """
        if self.pool == ORIGINAL:
            return []
        if self.network.startswith("video/"):
            return [video.NETWORKS[self.key].soft_pool(self.pool)]
        if self.pool in TABLE_6:
            levels = list(TABLE_6.values())[: list(TABLE_6).index(self.pool) + 1]
            return [{"where": [name for *_, names in levels for name in names], "pool": SOFTPOOL}]
        pool = SOFTPOOL if self.pool == SWAPPED else self.pool
        window = {"kernel_size": 2, "padding": 0, "ceil_mode": True}
        has_their_stem = "res" in self.key or "dense" in self.key
        stem = [{"where": "stem", "pool": pool, **window}] if has_their_stem else []
        return [*stem, {"where": "all", "pool": pool}]


def arms_of(number: int, networks: Sequence[str], poolings: Sequence[str]) -> list[Arm]:
    """List a table's arms, by default the paper's; KeyError or ValueError for names it refuses."""
    if number == 6 and networks:
        raise ValueError("Table 6 is of InceptionV3: leave out --networks")
    if number in (2, 6) and poolings:
        raise ValueError(f"Table {number} is of SoftPool: leave out --poolings")
    library = "video" if number == 7 else "torchvision"
    rows = {6: [("inception_v3", pool) for pool in POOLS_6], 7: [*TABLE_7]}
    if number in rows and not networks and not poolings:
        return [Arm(f"{library}/{name}", pool) for name, pool in rows[number]]
    names = [n if "/" in n else f"{library}/{n}" for n in networks or NETWORKS[number]]
    for name in names if networks else ():
        # An unknown one is found before the others have trained for hours.
        with torch.device("meta"):
            build_network(name, num_classes=1000)
    pools = [ORIGINAL, *map(pooling_name, poolings or [SOFTPOOL])]
    if not poolings:
        pools = {2: [*pools, SWAPPED], 5: [*TABLE_5]}.get(number, pools)
    return [Arm(name, pool) for name in names for pool in pools]
