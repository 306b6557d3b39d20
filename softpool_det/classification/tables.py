"""The paper's Tables 2, 4, 5, 6 and 7: their runs, and what there is of them beside the paper's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import distributed

from softpool_det.classification import paper, run
from softpool_det.classification.config import Config, identity, load_config
from softpool_det.classification.networks import complexity
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL, SWAPPED, Arm
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.table_report import Cell, Table
from softpool_det.datasets.cache import datasets_root
from softpool_det.io.errors import error_text
from softpool_det.model_zoo import get_config_file

_RECIPES = {name: f"classification/{name}" for name in ("digits", "fashion_mnist")}
_RECIPES |= {"imagenet": "classification/imagenet_paper", "hacs": "video/hacs_paper"}
_RECIPES |= {name: f"video/{name}" for name in ("moving_digits", "ucf101")}
_RECIPES["kinetics700"] = "video/kinetics700_paper"
_LEAST_SIZES = {"inception_v3": 75, "densenet": 32}  # sides of images in pixels
_TOPS = ("top-1", "top-5")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runs:
    """Where the runs are, and how they are made."""

    data: str  # "digits", "imagenet", ... (_RECIPES), or a folder with train/ and val/
    output: Path  # the folder for all runs
    seeds: Sequence[int] = (1,)
    epochs: int | None = None  # of a run; None for the recipe's
    recipe: str | None = None  # a config that replaces the data's own
    overrides: Sequence[str] = ()  # "key=value", of all runs

    @property
    def folder(self) -> Path:
        """Where the runs on this data are."""
        return self.output / Path(self.data).name

    def config(self, arm: Arm, seed: int) -> Config:
        """Build the config of a run; raises ValueError if its network does not take the data."""
        name = _RECIPES.get(self.data, _RECIPES["imagenet"])
        is_video = arm.network.startswith("video/")
        recipe = self.recipe or get_config_file(f"{name}.yaml")
        cfg = load_config(recipe, self.overrides)
        least = max((s for name, s in _LEAST_SIZES.items() if name in arm.network), default=0)
        if cfg.size < least:
            # Read again, for the transforms refer to it.
            cfg = load_config(recipe, [*self.overrides, f"size={least}"])
        folder = self.path(arm, seed)
        cfg.network, cfg.replace = arm.network, arm.replacements()
        cfg.seed, cfg.output = seed, str(folder)
        if self.epochs is not None:
            cfg.epochs = self.epochs
        if self.data not in _RECIPES and not is_video:
            cfg.train_data, cfg.val_data = (str(self._root() / part) for part in ("train", "val"))
        if arm.pool == SWAPPED:
            if cfg.epochs or not cfg.weights:  # else Original is only evaluated, with these
                cfg.weights = str(folder.resolve().with_name(run.WEIGHTS_FILE))
            cfg.epochs, cfg.allow_other_stem_pool = 0, True
        return cfg

    def _root(self) -> Path:
        for folder in (Path(self.data), datasets_root() / self.data):
            if (folder / "val").is_dir():
                return folder.resolve()
        known = (*_RECIPES, "a folder with train/ and val/")
        raise ValueError(f"data must be one of {', '.join(known)}, got {self.data!r}")

    def path(self, arm: Arm, seed: int) -> Path:
        """Return the folder of a run."""
        if arm.pool == SWAPPED:  # with the weights that it is about
            return self.path(Arm(arm.network, ORIGINAL), seed) / SWAPPED
        return Path(self.folder, arm.network, arm.pool, f"seed_{seed}")

    def train(
        self, arms: Sequence[Arm], expected: tuple[type[Exception], ...] = ()
    ) -> dict[str, list[str]]:
        """Train what is missing or interrupted; return `expected` errors, each with its runs."""
        wanted = [(arm, seed) for seed in self.seeds for arm in arms]
        failed: dict[str, list[str]] = defaultdict(list)
        for number, (arm, seed) in enumerate(wanted, start=1):
            logger.info("run %d/%d: %s, seed %d", number, len(wanted), arm, seed)
            try:
                run.train(self.config(arm, seed), resume=True)
            except expected as error:
                if distributed.is_initialized():
                    raise  # the others may still be in this run
                failed[error_text(error)].append(f"{arm}, seed {seed}")
        return failed

    def missing(self, arms: Sequence[Arm]) -> list[str]:
        """Return a line for each arm with runs that are not finished."""
        lacking = {arm: sorted({*self.seeds} - self.found(arm).keys()) for arm in arms}
        return [f"{arm}, seed {', '.join(map(str, s))}" for arm, s in lacking.items() if s]

    def found(self, arm: Arm) -> dict[int, Predictions]:
        """Read the predictions of an arm's finished runs of this config, by seed."""
        found = {}
        # How a swapped one's weights were trained is in Original's config.
        seeds = self.found(Arm(arm.network, ORIGINAL)) if arm.pool == SWAPPED else self.seeds
        for seed in seeds:
            folder = self.path(arm, seed)
            is_there, file = (folder / run.RESULT_FILE).is_file(), folder / run.CONFIG_FILE
            # Those of another config, of other epochs for example, do not count.
            if is_there and file.read_text() == identity(self.config(arm, seed)):
                found[seed] = Predictions.load(folder / run.PREDICTIONS_FILE)
        return found

    def cell(self, arm: Arm, top: str, data: str | None = None) -> Cell:
        """Return an arm's "top-1" or "top-5" on `data` and the paper's, compared with Original's.

        Without `data`: the paper's on ImageNet, and ours on any.
        """

        def figures(arm: Arm) -> tuple[float | None, dict[int, float]]:
            printed = paper.ACCURACIES.get((arm.key, arm.pool, data or "imagenet"), [None] * 2)
            found = self.found(arm) if data in (None, self.data) else {}
            ours = {seed: found[seed].accuracies()[top.replace("-", "")] for seed in found}
            return printed[_TOPS.index(top)], ours

        stock = Arm(arm.network, ORIGINAL)
        return Cell(*figures(arm), None if arm == stock else figures(stock), ".2f")


def without_scratch(number: int, runs: Runs, arms: Sequence[Arm]) -> Sequence[Arm]:
    """Drop what the paper trains from scratch unless these runs do; ValueError if that is all."""
    cfg = runs.config(arms[0], runs.seeds[0])
    given = cfg.weights or any(cfg.network_options.get(key) for key in ("weights", "pretrained"))
    if not cfg.epochs and not given:
        raise ValueError("--epochs 0 evaluates weights: give weights or network_options.weights")
    if cfg.epochs and not given:
        return arms
    if number in (4, 5, 6):
        raise ValueError(
            f"Table {number} is of networks trained from scratch: leave out --epochs 0, weights "
            "and network_options.weights (Table 2 takes them)"
        )
    return [arm for arm in arms if number != 2 or arm.pool != SOFTPOOL]


def _sizes(arm: Arm) -> dict[str, Cell]:
    printed = paper.SIZES.get((arm.key, arm.pool), [None, None])
    pairs = zip(("parameters, M", "GFLOP"), printed, complexity(arm.network), strict=True)
    return {name: Cell(theirs, {0: ours}) for name, theirs, ours in pairs}


def table_2(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 2: trained networks, SoftPool put into them, and SoftPool from scratch."""
    settings = {"original": ORIGINAL, "swapped": SWAPPED, "scratch": SOFTPOOL}
    rows = {}
    for arm in (arm for arm in arms if arm.pool == ORIGINAL):
        rows[arm.key] = _sizes(arm)
        for top in _TOPS:
            for name, pool in settings.items():
                rows[arm.key][f"{name}, {top}"] = runs.cell(Arm(arm.network, pool), top)
    return Table(*paper.TEXTS[2], rows)


def table_4(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 4: McNemar's test of each pooling against the original."""
    rows = {}
    for arm in (arm for arm in arms if arm.pool != ORIGINAL):
        first, second = runs.found(Arm(arm.network, ORIGINAL)), runs.found(arm)
        tests = {seed: mcnemar_test(first[seed], second[seed]) for seed in first if seed in second}
        known = paper.TABLE_4.get(arm.key) if arm.pool == SOFTPOOL else None
        statistic, p_value = known or (None, None)
        rows[str(arm)] = {
            name: Cell(printed, {s: tests[s][key] for s in tests}, form=form, by_seed=True)
            for name, key, printed, form in (
                ("Original alone right", "only_baseline", None, "d"),
                ("other alone right", "only_candidate", None, "d"),
                ("chi-squared", "statistic", statistic, ".2f"),
                ("p", "p_value", p_value, ".3g"),
                ("exact p", "exact_p_value", None, ".3g"),
            )
        }
    return Table(*paper.TEXTS[4], rows)


def table_5(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 5: a row for each pooling, a column for each network."""
    rows: dict[str, dict[str, Cell]] = defaultdict(dict)
    for arm in arms:
        rows[arm.pool][arm.key] = runs.cell(arm, "top-1")
    return Table(*paper.TEXTS[5], rows)


def table_6(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 6: InceptionV3 with more and more of its poolings replaced."""
    levels = zip(paper.TABLE_6, arms, strict=True)
    rows = {level: {top: runs.cell(arm, top) for top in _TOPS} for level, arm in levels}
    return Table(*paper.TEXTS[6], rows)


def table_7(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 7: networks for videos."""
    rows = {}
    for arm in arms:
        row = rows[f"{arm.key}, {arm.pool}"] = _sizes(arm)
        for data in dict.fromkeys([*paper.VIDEO_DATA, runs.data]):
            name = paper.VIDEO_DATA.get(data, data)
            row |= {f"{name}, {top}": runs.cell(arm, top, data) for top in _TOPS}
    # Networks that the paper lacks leave its columns empty.
    kept = {column for row in rows.values() for column, cell in row.items() if any(cell.texts())}
    rows = {label: {c: row[c] for c in row if c in kept} for label, row in rows.items()}
    return Table(*paper.TEXTS[7], rows)


TABLES = {2: table_2, 4: table_4, 5: table_5, 6: table_6, 7: table_7}
