"""The paper's Tables 2, 4, 5, 6 and 7: their runs, and what there is of them beside the paper's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softpool_det.classification import paper
from softpool_det.classification.config import Config, identity, load_config
from softpool_det.classification.networks import complexity
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.run import (
    CONFIG_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    train,
)
from softpool_det.classification.table_7 import TABLE_7, table_7
from softpool_det.classification.table_report import Cell, Table
from softpool_det.io.atomic import claim
from softpool_det.layers import pooling_name
from softpool_det.model_zoo import get_config_file
from softpool_det.video import NETWORKS

# SoftPool in the weights that Original learned, without training.
SWAPPED = "swapped"
_RECIPES = {
    **{name: f"classification/{name}" for name in ("digits", "fashion_mnist")},
    "imagenet": "classification/imagenet_paper",
    **{name: f"video/{name}" for name in ("moving_digits", "ucf101")},
    **{name: f"video/{name}_paper" for name in ("hacs", "kinetics700")},
}
# Least sides of images in pixels.
_LEAST_SIZES = {"inception_v3": 75, "densenet": 32}
MCNEMAR = (
    "paper: as printed, on ImageNet-1k. ours: continuity-corrected, one test for each seed. It "
    "says whether these two sets of weights are right equally often, not whether others would be."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """A network (as in `Config`) with one pooling.

    `pool` is Original, swapped, a name of `softpool_det.layers.POOLINGS` or a level of Table 6.
    """

    network: str
    pool: str

    @property
    def key(self) -> str:
        """The network's name in the paper's tables here."""
        return self.network.partition("/")[2]

    def __str__(self) -> str:
        return f"{self.network.removeprefix('torchvision/')}, {self.pool}"

    def replacements(self) -> list[dict[str, Any]]:
        """Calls of `replace_pooling`.

        The SoftPool authors' ResNets have a window of 2x2 where the stem's was 3x3 with padding;
        here DenseNets, too, and any other pooling has the same window. All others keep theirs.
        """
        if self.pool == ORIGINAL:
            return []
        if self.network.startswith("video/"):
            return [NETWORKS[self.key].soft_pool(self.pool)]
        if self.pool in paper.TABLE_6:
            levels = list(paper.TABLE_6.values())[: list(paper.TABLE_6).index(self.pool) + 1]
            return [{"where": [n for level in levels for n in level.layers], "pool": SOFTPOOL}]
        pool = SOFTPOOL if self.pool == SWAPPED else self.pool
        window = {"kernel_size": 2, "padding": 0, "ceil_mode": True}
        has_their_stem = "res" in self.key or "dense" in self.key
        stem = [{"where": "stem", "pool": pool, **window}] if has_their_stem else []
        return [*stem, {"where": "all", "pool": pool}]


@dataclass(frozen=True)
class Runs:
    """Where the runs are, and how they are made.

    Args:
        data: "digits", "fashion_mnist", "imagenet", or a folder with train/ and val/.
        output: the folder for all runs.
        seeds: one run for each.
        epochs: of a run; None for the recipe's.
        recipe: a config to take in place of the data's own.
        overrides: "key=value", of all runs.
    """

    data: str
    output: Path
    seeds: Sequence[int] = (1,)
    epochs: int | None = None
    recipe: str | None = None
    overrides: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        return self.output / Path(self.data).name

    def config(self, arm: Arm, seed: int) -> Config:
        name = _RECIPES.get(self.data, _RECIPES["imagenet"])
        is_video = arm.network.startswith("video/")
        if not self.recipe and is_video != name.startswith("video/"):
            known = [key for key, of in _RECIPES.items() if of.startswith("video/") == is_video]
            raise ValueError(
                f"data must be one of {', '.join(known)} for {arm.network}, or come with a recipe "
                f"that has such data, got {self.data!r}"
            )
        recipe = self.recipe or get_config_file(f"{name}.yaml")
        cfg = load_config(recipe, self.overrides)
        least = max((s for name, s in _LEAST_SIZES.items() if name in arm.network), default=0)
        if cfg.size < least:
            # Read again, for the transforms refer to it.
            cfg = load_config(recipe, [*self.overrides, f"size={least}"])
        if self.data not in _RECIPES and not is_video:
            cfg = replace(cfg, train_data=f"{self.data}/train", val_data=f"{self.data}/val")
        if arm.pool == SWAPPED:
            weights = self.path(Arm(arm.network, ORIGINAL), seed, WEIGHTS_FILE)
            cfg = replace(cfg, weights=str(weights), allow_other_stem_pool=True)
        elif self.epochs is not None:
            cfg = replace(cfg, epochs=self.epochs)
        return replace(
            cfg,
            network=arm.network,
            replace=arm.replacements(),
            seed=seed,
            epochs=0 if arm.pool == SWAPPED else cfg.epochs,
            output=str(self.path(arm, seed)),
        )

    def path(self, arm: Arm, seed: int, *file: str) -> Path:
        return Path(self.folder, arm.network, arm.pool, f"seed_{seed}", *file)

    def train(self, arms: Sequence[Arm]) -> None:
        """Train what is missing or was interrupted; raises what `train` does."""
        wanted = [(arm, seed) for seed in self.seeds for arm in arms]
        for number, (arm, seed) in enumerate(wanted, start=1):
            logger.info("run %d/%d: %s, seed %d", number, len(wanted), arm, seed)
            train(self.config(arm, seed), resume=True)

    def missing(self, arms: Sequence[Arm]) -> list[str]:
        """A line for each arm with runs that are not finished."""
        lines = []
        for arm in arms:
            seeds = [s for s in self.seeds if not self.path(arm, s, RESULT_FILE).is_file()]
            if seeds:
                lines.append(f"{arm}, seed {', '.join(map(str, seeds))}")
        return lines

    def found(self, network: str, pool: str) -> dict[int, Predictions]:
        """What the finished runs of an arm said, by seed.

        Raises:
            FileExistsError: they are of another config, of other epochs for example.
        """
        arm, predictions = Arm(network, pool), {}
        for seed in self.seeds:
            if self.path(arm, seed, RESULT_FILE).is_file():
                claim(self.path(arm, seed, CONFIG_FILE), identity(self.config(arm, seed)))
                predictions[seed] = Predictions.load(self.path(arm, seed, PREDICTIONS_FILE))
        return predictions

    def cell(
        self, top: str, network: str, pool: str, told: float | None, against: float | None
    ) -> Cell:
        """The accuracy `top` of an arm beside the paper's, and beside Original's."""
        ours, first = (
            {seed: said.accuracies()[top] for seed, said in self.found(network, name).items()}
            for name in (pool, ORIGINAL)
        )
        return Cell(told, ours, None if pool == ORIGINAL else (against, first), style="accuracy")


def arms_of(number: int, networks: Sequence[str], poolings: Sequence[str]) -> list[Arm]:
    """The arms of a table, without `networks` and `poolings` the paper's."""
    if number == 6 and networks:
        raise ValueError("Table 6 is of InceptionV3: leave out --networks")
    if number in (2, 6) and poolings:
        raise ValueError(f"Table {number} is of SoftPool: leave out --poolings")
    if number == 6:
        return [Arm("torchvision/inception_v3", _level(level)) for level in paper.TABLE_6]
    if number == 7:
        if unknown := [name for name in networks if name not in NETWORKS]:
            raise ValueError(f"networks must be of {', '.join(NETWORKS)}, got {unknown[0]!r}")
        pools = [ORIGINAL, *(map(pooling_name, poolings) if poolings else [SOFTPOOL])]
        names = networks or dict.fromkeys(name for name, _ in TABLE_7)
        chosen = [(name, pool) for name in names for pool in pools]
        if not networks and not poolings:
            chosen = list(TABLE_7)
        return [Arm(f"video/{name}", pool) for name, pool in chosen]
    defaults = {2: tuple(paper.TABLE_2), 4: tuple(paper.TABLE_4), 5: paper.TABLE_5_NETWORKS}
    pools = [pooling_name(name) for name in poolings]
    pools = pools or (list(paper.TABLE_5)[1:] if number == 5 else [SOFTPOOL])
    arms = [
        Arm(name if "/" in name else f"torchvision/{name}", pool)
        for name in networks or defaults[number]
        for pool in (ORIGINAL, *pools, *([SWAPPED] if number == 2 else []))
    ]
    # Some of GoogLeNet's and InceptionV3's poolings have stride 1, which BlurPool has not.
    return [a for a in arms if a.pool != "BlurPool" or a.key not in ("googlenet", "inception_v3")]


def _level(level: str) -> str:
    """Table 6's first and last are in Table 4, too."""
    return {"N": ORIGINAL, "VII": SOFTPOOL}.get(level, level)


def table_2(runs: Runs, arms: Sequence[Arm]) -> Table:
    settings = {"original": ORIGINAL, "swapped": SWAPPED, "scratch": SOFTPOOL}
    columns = [f"{name}, {top}" for top in ("top-1", "top-5") for name in settings]
    rows = {}
    for arm in (arm for arm in arms if arm.pool == ORIGINAL):
        told = paper.TABLE_2.get(arm.key)
        sizes = (told.parameters, told.gflop) if told else (None, None)
        row = [Cell(s, {0: ours}) for s, ours in zip(sizes, complexity(arm.network), strict=True)]
        for place, top in enumerate(("top1", "top5")):
            for name, pool in settings.items():
                pair = (getattr(told, name)[place], told.original[place]) if told else (None, None)
                row.append(runs.cell(top, arm.network, pool, *pair))
        rows[arm.key] = row
    title = "Table 2: SoftPool in networks, and put into trained ones"
    return Table(title, ["parameters, M", "GFLOP", *columns], rows)


def table_4(runs: Runs, arms: Sequence[Arm]) -> Table:
    columns = {
        "only_baseline": "Original alone right",
        "only_candidate": "other alone right",
        "statistic": "chi-squared",
        "p_value": "p",
        "exact_p_value": "exact p",
    }
    rows = {}
    for arm in (arm for arm in arms if arm.pool != ORIGINAL):
        first, second = (runs.found(arm.network, pool) for pool in (ORIGINAL, arm.pool))
        tests = {seed: mcnemar_test(first[seed], second[seed]) for seed in first if seed in second}
        known = paper.TABLE_4.get(arm.key) if arm.pool == SOFTPOOL else None
        told = dict(zip(("statistic", "p_value"), known or (), strict=False))
        rows[str(arm)] = [
            Cell(told.get(key), {seed: test[key] for seed, test in tests.items()}, style="each")
            for key in columns
        ]
    return Table("Table 4: McNemar's test", list(columns.values()), rows, MCNEMAR)


def table_5(runs: Runs, arms: Sequence[Arm]) -> Table:
    def told(network: str, pool: str) -> float | None:
        known = network in paper.TABLE_5_NETWORKS and pool in paper.TABLE_5
        return paper.TABLE_5[pool][paper.TABLE_5_NETWORKS.index(network)] if known else None

    networks = {arm.key: arm.network for arm in arms}
    rows = {
        pool: [
            runs.cell("top1", network, pool, told(key, pool), told(key, ORIGINAL))
            for key, network in networks.items()
        ]
        for pool in dict.fromkeys(arm.pool for arm in arms)
    }
    return Table("Table 5: poolings, top-1", list(networks), rows)


def table_6(runs: Runs, arms: Sequence[Arm]) -> Table:
    stock = paper.TABLE_6["N"]
    rows = {
        level: [
            runs.cell(top, arm.network, arm.pool, getattr(told, top), getattr(stock, top))
            for top in ("top1", "top5")
        ]
        for (level, told), arm in zip(paper.TABLE_6.items(), arms, strict=True)
    }
    return Table("Table 6: InceptionV3 with ever more poolings replaced", ["top-1", "top-5"], rows)


TABLES: dict[int, Callable[[Runs, Sequence[Arm]], Table]] = {
    2: table_2,
    4: table_4,
    5: table_5,
    6: table_6,
    7: table_7,
}
