"""The paper's Tables 2, 4, 5, 6 and 7: their runs, and what there is of them beside the paper's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softpool_det.classification import paper, run
from softpool_det.classification.config import Config, identity, load_config
from softpool_det.classification.networks import complexity
from softpool_det.classification.paper import ORIGINAL, SOFTPOOL, SWAPPED, Arm
from softpool_det.classification.predictions import Predictions, mcnemar_test
from softpool_det.classification.table_report import Cell, Table
from softpool_det.io.errors import error_text
from softpool_det.model_zoo import get_config_file

_RECIPES = {
    **{name: f"classification/{name}" for name in ("digits", "fashion_mnist")},
    "imagenet": "classification/imagenet_paper",
    **{name: f"video/{name}" for name in ("moving_digits", "ucf101")},
    **{name: f"video/{name}_paper" for name in ("hacs", "kinetics700")},
}
# Least sides of images in pixels.
_LEAST_SIZES = {"inception_v3": 75, "densenet": 32}
_TOPS = ("top-1", "top-5")
_PAPERS = "paper: as printed, on ImageNet-1k."
_MEANS = (
    "ours: mean over seeds. In parentheses the difference from Original, computed here for the "
    "paper's, too; ours is that of runs of the same seeds, with a 95 % interval (Student's t) "
    "where there are two or more."
)
_SIZES = "Parameters and GFLOP: of 1,000 classes and 224 pixels, whatever the data are."
_CSN = "paper: as printed; ir-CSN-101: accuracies of the real network, GFLOP of the narrow one."
_MCNEMAR = (
    "ours: continuity-corrected, one test for each seed. It says whether these two sets of weights "
    "are right equally often, not whether others would be."
)

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
        folder = self.path(arm, seed)
        cfg.network, cfg.replace = arm.network, arm.replacements()
        cfg.seed, cfg.output = seed, str(folder)
        if self.epochs is not None:
            cfg.epochs = self.epochs
        if self.data not in _RECIPES and not is_video:
            cfg.train_data, cfg.val_data = f"{self.data}/train", f"{self.data}/val"
        if arm.pool == SWAPPED:
            cfg.weights, cfg.epochs = str(folder.with_name(run.WEIGHTS_FILE)), 0
            cfg.allow_other_stem_pool = True
        return cfg

    def path(self, arm: Arm, seed: int) -> Path:
        """Return the folder of a run."""
        if arm.pool == SWAPPED:
            # With the weights that it is about.
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
                failed[error_text(error)].append(f"{arm}, seed {seed}")
        return failed

    def missing(self, arms: Sequence[Arm]) -> list[str]:
        """Return a line for each arm with runs that are not finished."""
        lacking = {arm: sorted({*self.seeds} - self.found(arm).keys()) for arm in arms}
        return [f"{arm}, seed {', '.join(map(str, s))}" for arm, s in lacking.items() if s]

    def found(self, arm: Arm) -> dict[int, Predictions]:
        """Read the predictions of an arm's finished runs of this config, by seed."""
        found = {}
        for seed in self.seeds:
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
    title = "Table 2: SoftPool in networks, and put into trained ones"
    return Table(title, rows, f"{_PAPERS} {_MEANS} {_SIZES}")


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
    return Table("Table 4: McNemar's test", rows, f"{_PAPERS} {_MCNEMAR}")


def table_5(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 5: a row for each pooling, a column for each network."""
    rows: dict[str, dict[str, Cell]] = defaultdict(dict)
    for arm in arms:
        rows[arm.pool][arm.key] = runs.cell(arm, "top-1")
    return Table("Table 5: poolings, top-1", rows, f"{_PAPERS} {_MEANS}")


def table_6(runs: Runs, arms: Sequence[Arm]) -> Table:
    """Build Table 6: InceptionV3 with more and more of its poolings replaced."""
    levels = zip(paper.TABLE_6, arms, strict=True)
    rows = {level: {top: runs.cell(arm, top) for top in _TOPS} for level, arm in levels}
    return Table("Table 6: InceptionV3, level by level", rows, f"{_PAPERS} {_MEANS}")


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
    return Table("Table 7: videos", rows, f"{_CSN} {_MEANS}")


TABLES = {2: table_2, 4: table_4, 5: table_5, 6: table_6, 7: table_7}
