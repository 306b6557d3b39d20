"""The networks and poolings that a table of the paper compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softpool_det import video
from softpool_det.classification import paper
from softpool_det.classification.networks import build_network
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL, SWAPPED
from softpool_det.layers import pooling_name


@dataclass(frozen=True)
class Arm:
    """A network (as in `Config`) with one pooling.

    `pool` is Original, swapped, a name of `softpool_det.layers.POOLINGS` or a level of Table 6.
    """

    network: str
    pool: str

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
        if self.pool in paper.TABLE_6:
            levels = list(paper.TABLE_6.values())[: list(paper.TABLE_6).index(self.pool) + 1]
            return [{"where": [name for *_, names in levels for name in names], "pool": SOFTPOOL}]
        pool = SOFTPOOL if self.pool == SWAPPED else self.pool
        window = {"kernel_size": 2, "padding": 0, "ceil_mode": True}
        has_their_stem = "res" in self.key or "dense" in self.key
        stem = [{"where": "stem", "pool": pool, **window}] if has_their_stem else []
        return [*stem, {"where": "all", "pool": pool}]


def arms_of(number: int, networks: Sequence[str], poolings: Sequence[str]) -> list[Arm]:
    """List the arms of a table, without `networks` and `poolings` the paper's.

    Raises:
        KeyError, ValueError: a name is not known, or the table takes none.
    """
    if number == 6 and networks:
        raise ValueError("Table 6 is of InceptionV3: leave out --networks")
    if number in (2, 6) and poolings:
        raise ValueError(f"Table {number} is of SoftPool: leave out --poolings")
    if number == 6:
        return [Arm("torchvision/inception_v3", pool) for pool in paper.POOLS_6]
    if number == 7 and not networks and not poolings:
        return [Arm(f"video/{name}", pool) for name, pool in paper.TABLE_7]
    library = "video" if number == 7 else "torchvision"
    names = [n if "/" in n else f"{library}/{n}" for n in networks or paper.NETWORKS[number]]
    for name in names if networks else ():
        # An unknown one is found before the others have trained for hours.
        with torch.device("meta"):
            build_network(name, num_classes=1000)
    pools = list(paper.TABLE_5) if number == 5 else [ORIGINAL, SOFTPOOL]
    if poolings:
        pools = [ORIGINAL, *map(pooling_name, poolings)]
    elif number == 2:
        pools.append(SWAPPED)
    return [Arm(name, pool) for name in names for pool in pools]
