"""The runs of the paper's Tables 2, 4, 5 and 6: which they are, and those that are missing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softpool_det.classification.config import Config, identity, load_config
from softpool_det.classification.mcnemar import mcnemar_test
from softpool_det.classification.networks import complexity
from softpool_det.classification.paper import (
    ORIGINAL,
    SOFTPOOL,
    TABLE_2,
    TABLE_4,
    TABLE_5,
    TABLE_5_NETWORKS,
    TABLE_6,
)
from softpool_det.classification.predictions import Predictions
from softpool_det.classification.run import (
    CONFIG_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    evaluate,
    train,
)
from softpool_det.classification.table_report import Cell, Table
from softpool_det.io.atomic import claim
from softpool_det.layers import pooling_name
from softpool_det.model_zoo import get_config_file

_RECIPES = {"digits": "digits", "fashion_mnist": "fashion_mnist", "imagenet": "imagenet_paper"}
# What a network needs, pixels a side.
_LEAST_SIZES = {"inception_v3": 75, "densenet": 32}
# Of the same weights with SoftPool in them.
SWAPPED_FILE = "swapped.npz"

MCNEMAR = (
    "paper: as printed, on ImageNet-1k. ours: continuity-corrected, one test for each seed. It says "
    "whether these two sets of weights are right equally often, not whether others would be."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """A network with one pooling.

    Args:
        network: as in `Config`.
        pool: `ORIGINAL`, a name of `softpool_det.layers.POOLINGS`, or a level of Table 6.
    """

    network: str
    pool: str

    @property
    def key(self) -> str:
        """The network's name in the paper's tables here."""
        return self.network.partition("/")[2]

    @property
    def label(self) -> str:
        """The network's name in short."""
        return self.network.removeprefix("torchvision/")

    @property
    def keeps_windows(self) -> bool:
        return self.key in ("googlenet", "inception_v3")

    def replacements(self) -> list[dict[str, Any]]:
        """Calls of `replace_pooling`.

        The SoftPool authors' ResNets have a window of 2x2 where the stem's was 3x3 with padding;
        here DenseNets, too, and any other pooling has the same window. All others keep theirs.
        """
        if self.pool == ORIGINAL:
            return []
        if self.pool in TABLE_6:
            levels = list(TABLE_6)
            names = [n for level in levels[: levels.index(self.pool) + 1] for n in TABLE_6[level][2]]
            return [{"where": names, "pool": SOFTPOOL}]
        window = {"kernel_size": 2, "padding": 0, "ceil_mode": True}
        stem = {"where": "stem", "pool": self.pool, **window}
        every = {"where": "all", "pool": self.pool}
        return [every] if self.keeps_windows else [stem, every]


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
        name = _RECIPES.get(self.data, "imagenet_paper")
        path = self.recipe or get_config_file(f"classification/{name}.yaml")
        cfg = load_config(str(path), self.overrides)
        if self.data not in _RECIPES:
            cfg = replace(cfg, train_data=f"{self.data}/train", val_data=f"{self.data}/val")
        least = max((s for key, s in _LEAST_SIZES.items() if arm.key.startswith(key)), default=0)
        if cfg.size < least:
            # Read again, for the transforms that refer to it.
            return replace(self, overrides=[*self.overrides, f"size={least}"]).config(arm, seed)
        output = self.folder / arm.network / arm.pool / f"seed_{seed}"
        epochs = self.epochs or cfg.epochs
        return replace(
            cfg,
            network=arm.network,
            replace=arm.replacements(),
            seed=seed,
            epochs=epochs,
            output=str(output),
        )

    def train(self, arms: Sequence[Arm]) -> None:
        """Train what is missing or was interrupted; raises what `train` does."""
        wanted = [(arm, seed) for seed in self.seeds for arm in arms]
        for number, (arm, seed) in enumerate(wanted, start=1):
            logger.info("run %d/%d: %s, %s, seed %d", number, len(wanted), *vars(arm).values(), seed)
            train(self.config(arm, seed), resume=True)

    def swap(self, network: str, published: bool) -> None:
        """Evaluate trained weights with SoftPool in them; torchvision's also as they are."""
        for seed in self.seeds:
            stock = self.config(Arm(network, ORIGINAL), seed)
            if published:
                options = {"weights": "IMAGENET1K_V1"}
                stock = replace(stock, network_options=options, output=self._published(network))
                self._evaluate(stock, PREDICTIONS_FILE)
            else:
                stock = replace(stock, weights=str(Path(stock.output, WEIGHTS_FILE)))
            soft = Arm(network, SOFTPOOL).replacements()
            self._evaluate(replace(stock, replace=soft, allow_other_stem_pool=True), SWAPPED_FILE)

    def _evaluate(self, cfg: Config, file: str) -> None:
        path = Path(cfg.output, file)
        if not path.is_file():
            logger.info("evaluating %s", path)
            evaluate(cfg).save(path)

    def _published(self, network: str) -> str:
        return str(self.folder / network / "published")

    def found(
        self, arm: Arm, file: str = PREDICTIONS_FILE, published: bool = False
    ) -> dict[int, Predictions]:
        """What there is of an arm's predictions, by seed.

        Raises:
            FileExistsError: they are of another config, of other epochs for example.
        """
        predictions = {}
        for seed in self.seeds:
            cfg = self.config(arm, seed)
            folder = Path(self._published(arm.network) if published else cfg.output)
            if (folder / RESULT_FILE).is_file():
                claim(folder / CONFIG_FILE, identity(cfg))
            if (folder / file).is_file():
                predictions[seed] = Predictions.load(folder / file)
        return predictions


def arms_of(number: int, networks: Sequence[str], poolings: Sequence[str]) -> list[Arm]:
    """The arms of a table, without `networks` and `poolings` the paper's."""
    full = [name if "/" in name else f"torchvision/{name}" for name in networks]
    if number == 6:
        if networks or poolings:
            raise ValueError("Table 6 has one network and one pooling: leave out both options")
        return [_level(level) for level in TABLE_6]
    defaults = {2: TABLE_2, 4: TABLE_4, 5: TABLE_5_NETWORKS}[number]
    full = full or [f"torchvision/{name}" for name in defaults]
    pools = list(map(pooling_name, poolings)) or (list(TABLE_5)[1:] if number == 5 else [SOFTPOOL])
    arms = [Arm(network, pool) for network in full for pool in (ORIGINAL, *pools)]
    # Some of these networks' poolings have stride 1.
    return [arm for arm in arms if not (arm.pool == "BlurPool" and arm.keeps_windows)]


def _level(level: str) -> Arm:
    """Table 6's first and last are in Table 4, too."""
    pool = {"N": ORIGINAL, "VII": SOFTPOOL}.get(level, level)
    return Arm("torchvision/inception_v3", pool)


def missing(runs: Runs, arms: Sequence[Arm]) -> list[str]:
    """A line for each arm with runs that are not finished."""
    lines = []
    for arm in arms:
        folders = {seed: Path(runs.config(arm, seed).output) for seed in runs.seeds}
        seeds = [str(seed) for seed, f in folders.items() if not (f / RESULT_FILE).is_file()]
        if seeds:
            lines.append(f"{arm.label}, {arm.pool}: seed {', '.join(seeds)}")
    return lines


def table(number: int, runs: Runs, arms: Sequence[Arm], published: bool = False) -> Table:
    """A table with what there is of its runs."""
    if number == 2:
        return _table_2(runs, arms, published)
    return {4: _table_4, 5: _table_5, 6: _table_6}[number](runs, arms)


def _table_2(runs: Runs, arms: Sequence[Arm], published: bool) -> Table:
    columns = ["parameters, M", "GFLOP"]
    names = ("original", "swapped", "scratch")
    columns += [f"{name}, {top}" for top in ("top-1", "top-5") for name in names]
    rows = {}
    for network in dict.fromkeys(arm.network for arm in arms):
        stock, soft = Arm(network, ORIGINAL), Arm(network, SOFTPOOL)
        paper = TABLE_2.get(stock.key)
        found = [
            runs.found(stock),
            runs.found(stock, SWAPPED_FILE, published),
            runs.found(soft),
        ]
        bases = [None, runs.found(stock, published=True) if published else found[0], found[0]]
        known = (paper.parameters, paper.gflop) if paper else (None, None)
        row = [
            Cell(told, {0: value}) for told, value in zip(known, complexity(network), strict=True)
        ]
        for place, top in enumerate(("top1", "top5")):
            for name, predictions, base in zip(names, found, bases, strict=True):
                told = getattr(paper, name)[place] if paper else None
                against = paper.original[place] if paper else None
                row.append(_accuracy(top, predictions, base, told, against))
        rows[stock.label] = row
    return Table("Table 2: SoftPool in networks, and put into trained ones", columns, rows)


def _table_4(runs: Runs, arms: Sequence[Arm]) -> Table:
    rows = {}
    for stock in (arm for arm in arms if arm.pool == ORIGINAL):
        for soft in (a for a in arms if a.network == stock.network and a.pool != ORIGINAL):
            first, second = runs.found(stock), runs.found(soft)
            tests = {s: mcnemar_test(first[s], second[s]) for s in first if s in second}
            told = TABLE_4.get(stock.key, (None, None)) if soft.pool == SOFTPOOL else (None, None)
            rows[f"{stock.label}, {soft.pool}"] = [
                Cell(None, {s: t.only_baseline for s, t in tests.items()}, style="each"),
                Cell(None, {s: t.only_candidate for s, t in tests.items()}, style="each"),
                Cell(told[0], {s: t.statistic for s, t in tests.items()}, style="each"),
                Cell(told[1], {s: t.p_value for s, t in tests.items()}, style="each"),
                Cell(None, {s: t.exact_p_value for s, t in tests.items()}, style="each"),
            ]
    columns = ["original alone right", "other alone right", "chi-squared", "p", "exact p"]
    return Table("Table 4: McNemar's test", columns, rows, MCNEMAR)


def _table_5(runs: Runs, arms: Sequence[Arm]) -> Table:
    networks = list(dict.fromkeys(arm.network for arm in arms))
    rows: dict[str, list[Cell]] = {}
    for pool in dict.fromkeys(arm.pool for arm in arms):
        rows[pool] = []
        for network in networks:
            arm, stock = Arm(network, pool), Arm(network, ORIGINAL)
            told, against = (_table_5_value(arm.key, name) for name in (pool, ORIGINAL))
            base = None if pool == ORIGINAL else runs.found(stock)
            rows[pool].append(_accuracy("top1", runs.found(arm), base, told, against))
    labels = [Arm(network, ORIGINAL).label for network in networks]
    return Table("Table 5: poolings, top-1", labels, rows)


def _table_5_value(network: str, pool: str) -> float | None:
    if network not in TABLE_5_NETWORKS or pool not in TABLE_5:
        return None
    return TABLE_5[pool][TABLE_5_NETWORKS.index(network)]


def _table_6(runs: Runs, arms: Sequence[Arm]) -> Table:
    rows = {}
    base = runs.found(arms[0])
    for (level, told), arm in zip(TABLE_6.items(), arms, strict=True):
        found, against = runs.found(arm), None if level == "N" else base
        rows[level] = [
            _accuracy(top, found, against, told[place], TABLE_6["N"][place])
            for place, top in enumerate(("top1", "top5"))
        ]
    return Table("Table 6: InceptionV3 with ever more poolings replaced", ["top-1", "top-5"], rows)


def _accuracy(
    top: str,
    found: dict[int, Predictions],
    base: dict[int, Predictions] | None,
    told: float | None,
    against: float | None,
) -> Cell:
    ours, first = (
        {seed: predictions.accuracies()[top] for seed, predictions in (part or {}).items()}
        for part in (found, base)
    )
    return Cell(told, ours, None if base is None else (against, first), style="accuracy")
