r"""Say whether one detector beats another, and how sure that is.

Result files of any framework are compared as they are; the first is the baseline, and files of one
detector, one for each of its training seeds, are joined by commas. Configs are trained first,
checkpoints are evaluated first.

Examples:
    # result files
    softpool-compare --gt instances_val2017.json stock=a1.json,a2.json other=b1.json,b2.json

    # configs
    softpool-compare --output output/r50 --seeds 1 2 3 \
        --baseline configs/COCO-Detection/retinanet_R_50_FPN_1x.yaml \
        --candidate configs/COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml

    # stock and SoftPool on your data, with a split, a model and a schedule that are chosen for it
    softpool-compare --auto --train-json boxes.json --train-images photos --output output/mine

    # a plan, by what such detectors differed by in an earlier comparison
    softpool-compare --plan --known-spread output/r50/comparison.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from softpool_det.cli.folders import FOLDER_OPTIONS, add_folder_options, use_folders
from softpool_det.cli.program import (
    DATA_OPTIONS,
    OWN_DATA,
    add_data_options,
    add_limit,
    add_output,
    add_trust_lazy_config,
    data_overrides,
    new_parser,
    run_program,
)

if TYPE_CHECKING:
    from softpool_det.comparison.arms import Arm

NAMES = ("stock", "SoftPool")
# Options that mean nothing beside --gt.
OF_CONFIGS = ["baseline", "candidate", "baseline_weights", "candidate_weights"]
OF_CONFIGS += ["names", "arm", "seeds", "trust_lazy_config", "auto", "masks", "limit_images"]
OF_CONFIGS += ["workers", *DATA_OPTIONS, *FOLDER_OPTIONS]
# What --auto chooses.
OF_ARMS = ["baseline", "candidate", "baseline_weights", "candidate_weights", "arm"]


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    files = parser.add_argument_group("result files")
    files.add_argument("--gt", type=Path, metavar="FILE", help="ground truth, COCO's JSON")
    files.add_argument("--images", type=Path, metavar="FOLDER", help="for the report's pictures")
    configs = parser.add_argument_group("configs")
    configs.add_argument("--baseline", metavar="CONFIG", help="YAML or LazyConfig")
    configs.add_argument("--candidate", metavar="CONFIG", help="YAML or LazyConfig")
    configs.add_argument(
        "--names",
        nargs=2,
        metavar="NAME",
        help="of the two in the report (default: stock SoftPool)",
    )
    evaluated = "evaluate this, do not train; {seed} in it is the run's seed"
    configs.add_argument("--baseline-weights", metavar="FILE", help=evaluated)
    configs.add_argument("--candidate-weights", metavar="FILE", help=evaluated)
    configs.add_argument(
        "--arm",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "CONFIG"),
        help="instead of the above, two or more times: NAME CONFIG [KEY VALUE ...]",
    )
    configs.add_argument(
        "--auto",
        action="store_true",
        help="instead of the above: stock and SoftPool with settings that fit your data; without "
        "a set to test on, one image in five is kept for that",
    )
    configs.add_argument("--masks", action="store_true", help="with --auto: Mask R-CNN")
    configs.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="one training each (default: 1)"
    )
    configs.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="runs at a time, which share the cores (default: 1)",
    )
    add_trust_lazy_config(configs)
    own_data = parser.add_argument_group(*OWN_DATA)
    add_data_options(own_data)
    add_folder_options(own_data)
    add_limit(own_data)
    statistics = parser.add_argument_group("statistics")
    statistics.add_argument(
        "--known-spread",
        type=Path,
        metavar="FILE",
        help="comparison.json of such detectors over several seeds, to judge one seed by",
    )
    statistics.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="for the intervals"
    )
    statistics.add_argument(
        "--margin",
        type=float,
        metavar="AP",
        help="largest difference that would not matter: is the candidate equivalent within it?",
    )
    statistics.add_argument(
        "--plan",
        action="store_true",
        help="run nothing; say how many seeds would show a difference, from --known-spread",
    )
    add_output(parser, "output/comparison")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="with --gt: [NAME=]FILE[,FILE...]; else config overrides for all arms, after --",
    )
    # Options may stand between inputs; what is behind -- is taken as it is.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_intermixed_args(words[:end])
    args.inputs += words[end + 1 :]
    if args.plan:
        if args.known_spread is None:
            parser.error("--plan needs --known-spread FILE, a comparison with two seeds or more")
        return args
    if args.gt is None and args.images is not None:
        parser.error("--images goes with --gt; of configs the data sets' own images are taken")
    given = [f"--{key.replace('_', '-')}" for key in OF_CONFIGS if getattr(args, key)]
    if args.gt is not None and given:
        parser.error(f"{', '.join(given)} goes with configs, not with --gt and result files")
    if args.auto:
        given = [f"--{key.replace('_', '-')}" for key in OF_ARMS if getattr(args, key)]
        if given:
            parser.error(f"{', '.join(given)} is what --auto chooses: leave one of them out")
        if not any(getattr(args, name) for name in ("train_json", *FOLDER_OPTIONS)):
            parser.error("--auto needs --train-json and --train-images, --yolo or --voc")
        if len(args.inputs) % 2:
            parser.error(f"KEY VALUE pairs belong behind --, got {' '.join(args.inputs)}")
        return args
    if args.masks:
        parser.error("--masks goes with --auto; else the configs say what is trained")
    if args.gt is None and not args.arm and not (args.baseline and args.candidate):
        parser.error(
            "give --gt and result files, --baseline and --candidate, --arm twice, or --auto"
        )
    return args


def parse_arms(args: argparse.Namespace) -> list[Arm]:
    from softpool_det.comparison.arms import Arm

    trust = args.trust_lazy_config
    if args.arm:
        return [
            Arm(
                spec[0],
                spec[1],
                (*data_overrides(args, spec[1]), *spec[2:], *args.inputs),
                trust_lazy_config=trust,
            )
            for spec in checked(args.arm)
        ]
    configs = (args.baseline, args.candidate)
    weights = (args.baseline_weights, args.candidate_weights)
    return [
        Arm(name, config, (*data_overrides(args, config), *args.inputs), weight, trust)
        for name, config, weight in zip(args.names or NAMES, configs, weights, strict=True)
    ]


def checked(specs: list[list[str]]) -> list[list[str]]:
    for spec in specs:
        if len(spec) < 2:
            raise ValueError(f"--arm takes NAME CONFIG [KEY VALUE ...], got {' '.join(spec)!r}")
    return specs


def parse_results(inputs: list[str]) -> dict[str, list[Path]]:
    """[NAME=]FILE[,FILE...] by name; without one, see :func:`default_names`.

    Files may have "=" in their paths, and names "/": what is there as it stands has no name.
    """
    parsed = []
    for text in inputs:
        name, separator, files = text.partition("=")
        if not separator or _files(text) is not None:
            name, files = "", text
        parsed.append((name, _files(files) or [Path(file) for file in files.split(",")]))
    defaults = iter(default_names([paths[0] for name, paths in parsed if not name]))
    results: dict[str, list[Path]] = {}
    for name, paths in parsed:
        name = name or next(defaults)
        if name in results:
            raise ValueError(f"two inputs are called {name!r}; write NAME=FILE")
        results[name] = paths
    return results


def default_names(files: list[Path]) -> list[str]:
    """Return the files' stems; if two are equal, the nearest folders that differ, or numbers."""
    stems = [file.name.removesuffix(".gz").removesuffix(".json") for file in files]
    depths = range(2, max((len(file.parts) for file in files), default=0) + 1)
    folders = [
        [f.parts[-depth] if len(f.parts) >= depth else s for f, s in zip(files, stems, strict=True)]
        for depth in depths
    ]
    numbered = [f"{stem} ({number})" for number, stem in enumerate(stems, 1)]
    return next(names for names in (stems, *folders, numbered) if len(set(names)) == len(names))


def _files(text: str) -> list[Path] | None:
    """FILE or FILE,FILE...; None where one of them is not there."""
    if Path(text).is_file():
        return [Path(text)]
    paths = [Path(file) for file in text.split(",")]
    return paths if all(path.is_file() for path in paths) else None


# Each of the two needs what the other does not: result files are compared without Detectron2.
def compare_result_files(args: argparse.Namespace) -> dict:
    from softpool_det.comparison.compare_files import compare_files

    return compare_files(
        args.gt,
        parse_results(args.inputs),
        args.output,
        images=args.images,
        resamples=args.resamples,
        known_spread=args.known_spread,
        margin=args.margin,
    )


def compare_configs(args: argparse.Namespace) -> dict:
    from softpool_det.cli.automatic import automatic_arms
    from softpool_det.comparison.compare import compare

    use_folders(args, args.output)
    return compare(
        automatic_arms(args, args.names or NAMES) if args.auto else parse_arms(args),
        args.seeds or [1],
        args.output,
        known_spread=args.known_spread,
        resamples=args.resamples,
        margin=args.margin,
        workers=1 if args.workers is None else args.workers,
    )


def run(args: argparse.Namespace) -> None:
    from softpool_det.comparison.output import REPORT_FILE
    from softpool_det.comparison.planning import plan_notes
    from softpool_det.report import comparison_text, printable

    if args.plan:
        for note in plan_notes(args.known_spread):
            print(printable(note))
        return
    data = compare_result_files(args) if args.gt is not None else compare_configs(args)
    print(comparison_text(data))
    print(f"Report: {args.output / REPORT_FILE}")
    for results in data["tasks"].values():
        for difference in results["differences"]:
            print(printable(difference["verdict"]))


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
