"""The paper's Tables 2, 4, 5, 6 and 7: their runs, and what there is of them beside the paper's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from softpool_det.classification import paper
from softpool_det.classification.config import Config, identity, load_config
from softpool_det.classification.networks import build_network, complexity
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL, SWAPPED
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.run import (
    CONFIG_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    train,
)
from softpool_det.classification.table_7 import TABLE_7, table_7
from softpool_det.classification.table_report import NOTE, Cell, Table
from softpool_det.io.errors import error_text
from softpool_det.layers import pooling_name
from softpool_det.model_zoo import get_config_file
from softpool_det.video import NETWORKS

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
SIZES = "Parameters and GFLOP: of 1,000 classes and 224 pixels, whatever the data are."

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
        """The network's name in tables; the paper's are torchvision's."""
        return self.network.removeprefix("torchvision/").removeprefix("video/")

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
        changes: dict[str, Any] = {"network": arm.network, "replace": arm.replacements()}
        changes |= {"seed": seed, "output": str(self.path(arm, seed))}
        if self.data not in _RECIPES and not is_video:
            changes |= {f"{split}_data": f"{self.data}/{split}" for split in ("train", "val")}
        if arm.pool == SWAPPED:
            weights = self.path(Arm(arm.network, ORIGINAL), seed, WEIGHTS_FILE)
            changes |= {"weights": str(weights), "allow_other_stem_pool": True, "epochs": 0}
        elif self.epochs is not None:
            changes["epochs"] = self.epochs
        return replace(cfg, **changes)

    def path(self, arm: Arm, seed: int, *file: str) -> Path:
        if arm.pool == SWAPPED:
            # With the weights that it is about.
            return self.path(Arm(arm.network, ORIGINAL), seed, SWAPPED, *file)
        return Path(self.folder, arm.network, arm.pool, f"seed_{seed}", *file)

    def train(
        self, arms: Sequence[Arm], expected: tuple[type[Exception], ...] = ()
    ) -> dict[str, list[str]]:
        """Train what is missing or was interrupted, each run whatever becomes of the others.

        Returns:
            Errors of the `expected` types, and the runs that they ended.
        """
        wanted = [(arm, seed) for seed in self.seeds for arm in arms]
        failed: dict[str, list[str]] = defaultdict(list)
        for number, (arm, seed) in enumerate(wanted, start=1):
            logger.info("run %d/%d: %s, seed %d", number, len(wanted), arm, seed)
            try:
                train(self.config(arm, seed), resume=True)
            except expected as error:
                failed[error_text(error)].append(f"{arm}, seed {seed}")
        return failed

    def is_finished(self, arm: Arm, seed: int) -> bool:
        """Whether there is a result, and of this config: not of other epochs, for example."""
        config, result = (self.path(arm, seed, name) for name in (CONFIG_FILE, RESULT_FILE))
        return result.is_file() and config.read_text() == identity(self.config(arm, seed))

    def missing(self, arms: Sequence[Arm]) -> list[str]:
        """A line for each arm with runs that are not finished."""
        lines = []
        for arm in arms:
            seeds = [seed for seed in self.seeds if not self.is_finished(arm, seed)]
            lines += [f"{arm}, seed {', '.join(map(str, seeds))}"] if seeds else []
        return lines

    def found(self, network: str, pool: str) -> dict[int, Predictions]:
        """The predictions of an arm's finished runs, by seed."""
        arm = Arm(network, pool)
        return {
            seed: Predictions.load(self.path(arm, seed, PREDICTIONS_FILE))
            for seed in self.seeds
            if self.is_finished(arm, seed)
        }

    def cell(
        self, metric: str, network: str, pool: str, printed: float | None, stock: float | None
    ) -> Cell:
        """An arm's "top1" or "top5" beside the paper's, both compared with Original's."""
        ours, baseline = (
            {seed: found.accuracies()[metric] for seed, found in self.found(network, name).items()}
            for name in (pool, ORIGINAL)
        )
        return Cell(printed, ours, None if pool == ORIGINAL else (stock, baseline), "accuracy")


def arms_of(number: int, networks: Sequence[str], poolings: Sequence[str]) -> list[Arm]:
    """The arms of a table, without `networks` and `poolings` the paper's.

    Raises:
        KeyError, ValueError: a name is not known, or the table takes none.
    """
    if number == 6 and networks:
        raise ValueError("Table 6 is of InceptionV3: leave out --networks")
    if number in (2, 6) and poolings:
        raise ValueError(f"Table {number} is of SoftPool: leave out --poolings")
    if number == 6:
        return [Arm("torchvision/inception_v3", pool) for pool in paper.POOLS_6]
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
    names = [n if "/" in n else f"torchvision/{n}" for n in networks or defaults[number]]
    for name in names if networks else ():
        # An unknown one is found before the others have trained for hours.
        with torch.device("meta"):
            build_network(name, num_classes=1000)
    return [
        Arm(name, pool)
        for name in names
        for pool in (ORIGINAL, *pools, *([SWAPPED] if number == 2 else []))
    ]


def without_scratch(number: int, runs: Runs, arms: Sequence[Arm]) -> Sequence[Arm]:
    """The arms of a table without those that the paper trains from scratch, if these runs do not.

    Raises:
        ValueError: all of the table are.
    """
    cfg = runs.config(arms[0], runs.seeds[0])
    given = cfg.weights or any(cfg.network_options.get(key) for key in ("weights", "pretrained"))
    if cfg.epochs and not given:
        return arms
    if number in (4, 5, 6):
        raise ValueError(
            f"Table {number} is of networks trained from scratch: leave out --epochs 0, weights "
            "and network_options.weights (Table 2 takes them)"
        )
    return [arm for arm in arms if number != 2 or arm.pool != SOFTPOOL]


def _row(runs: Runs, arms: Sequence[Arm], metrics: Sequence[str] = ("top1", "top5")) -> list[Cell]:
    """Accuracies of arms, those of one metric together."""
    row = []
    for place, arm in ((place, arm) for place in range(len(metrics)) for arm in arms):
        accuracies = (paper.ACCURACIES.get((arm.key, pool)) for pool in (arm.pool, ORIGINAL))
        printed = [known[place] if known else None for known in accuracies]
        row.append(runs.cell(metrics[place], arm.network, arm.pool, *printed))
    return row


def table_2(runs: Runs, arms: Sequence[Arm]) -> Table:
    settings = {"original": ORIGINAL, "swapped": SWAPPED, "scratch": SOFTPOOL}
    columns = [f"{name}, {top}" for top in ("top-1", "top-5") for name in settings]
    rows = {}
    for arm in (arm for arm in arms if arm.pool == ORIGINAL):
        sizes = paper.TABLE_2.get(arm.key, (None, None))[:2]
        row = [Cell(s, {0: ours}) for s, ours in zip(sizes, complexity(arm.network), strict=True)]
        wanted = [Arm(arm.network, pool) for pool in settings.values()]
        cells = zip(wanted * 2, _row(runs, wanted), strict=True)
        rows[arm.key] = row + [c if a in arms else replace(c, ours={}) for a, c in cells]
    title = "Table 2: SoftPool in networks, and put into trained ones"
    return Table(title, ["parameters, M", "GFLOP", *columns], rows, f"{NOTE} {SIZES}")


def table_4(runs: Runs, arms: Sequence[Arm]) -> Table:
    columns = {
        "only_baseline": ("Original alone right", "count"),
        "only_candidate": ("other alone right", "count"),
        "statistic": ("chi-squared", "statistic"),
        "p_value": ("p", "p"),
        "exact_p_value": ("exact p", "p"),
    }
    rows = {}
    for arm in (arm for arm in arms if arm.pool != ORIGINAL):
        first, second = (runs.found(arm.network, pool) for pool in (ORIGINAL, arm.pool))
        tests = {seed: mcnemar_test(first[seed], second[seed]) for seed in first if seed in second}
        known = paper.TABLE_4.get(arm.key) if arm.pool == SOFTPOOL else None
        printed = dict(zip(("statistic", "p_value"), known or (), strict=False))
        rows[str(arm)] = [
            Cell(printed.get(key), {seed: test[key] for seed, test in tests.items()}, style=style)
            for key, (_, style) in columns.items()
        ]
    return Table("Table 4: McNemar's test", [name for name, _ in columns.values()], rows, MCNEMAR)


def table_5(runs: Runs, arms: Sequence[Arm]) -> Table:
    rows = {
        pool: _row(runs, [arm for arm in arms if arm.pool == pool], ["top1"])
        for pool in dict.fromkeys(arm.pool for arm in arms)
    }
    names = list(dict.fromkeys(arm.key for arm in arms))
    return Table("Table 5: poolings, top-1", names, rows)


def table_6(runs: Runs, arms: Sequence[Arm]) -> Table:
    rows = {level: _row(runs, [arm]) for level, arm in zip(paper.TABLE_6, arms, strict=True)}
    return Table("Table 6: InceptionV3, level by level", ["top-1", "top-5"], rows)


TABLES: dict[int, Callable[[Runs, Sequence[Arm]], Table]] = {
    2: table_2,
    4: table_4,
    5: table_5,
    6: table_6,
    7: table_7,
}
