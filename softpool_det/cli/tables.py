r"""Print a table of the SoftPool paper with our figures beside the paper's; train what is missing.

Tables 2 (SoftPool in eleven networks, trained from scratch and put into trained ones), 4 (McNemar's
test), 5 (poolings), 6 (layers of InceptionV3) and 7 (videos). They share their runs. The program
can be stopped at any time; the same command continues.

Examples:
    softpool-tables 5 --data fashion_mnist --networks resnet18 --poolings softpool lip \
        --seeds 1 2 3 --epochs 2
    # trains nothing: puts SoftPool into torchvision's weights
    softpool-tables 2 --data imagenet --epochs 0 --set network_options.weights=IMAGENET1K_V1
    softpool-tables 7 --networks r3d_10 --seeds 1 2 3
    torchrun --nproc-per-node 8 -m softpool_det.cli.tables 6 --data imagenet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from softpool_det.classification.paper import Arm, arms_of
from softpool_det.classification.tables import TABLES, Runs, without_scratch
from softpool_det.cli.program import FAILURES, add_output, new_parser, run_program
from softpool_det.cli.train_classifier import run_here


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("table", type=int, choices=TABLES, help="number of the paper's table")
    rows = parser.add_argument_group("data and rows")
    rows.add_argument(
        "--data",
        metavar="NAME",
        help="digits, fashion_mnist, imagenet, or a folder with train/ and val/, each with one "
        "folder of images a class; for Table 7 moving_digits, hacs, kinetics700 or ucf101 "
        "(docs/video.md) (default: digits; for Table 7 moving_digits)",
    )
    rows.add_argument(
        "--networks",
        nargs="+",
        default=[],
        metavar="NAME",
        help="torchvision's names, or timm/NAME, detectron2/NAME; for Table 7 docs/video.md's "
        "(default: the paper's; for Table 7 without --data r3d_10)",
    )
    rows.add_argument(
        "--poolings",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of docs/poolings.md (default: the paper's)",
    )
    runs = parser.add_argument_group("trainings")
    runs.add_argument(
        "--seeds", type=int, nargs="+", default=[1], metavar="SEED", help="a run for each"
    )
    runs.add_argument("--epochs", type=int, metavar="N", help="of each run (default: the recipe's)")
    runs.add_argument(
        "--recipe",
        metavar="CONFIG.yaml",
        help="of all runs (default: that of configs/ for the data)",
    )
    runs.add_argument("--report", action="store_true", help="train nothing")
    add_output(parser, "output/tables")
    runs.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the recipe"
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    if args.table == 7 and not args.data and not args.report:
        # The paper's networks are not for small videos on a CPU.
        args.networks = args.networks or ["r3d_10"]
    args.data = args.data or ("moving_digits" if args.table == 7 else "digits")
    runs = Runs(args.data, args.output, args.seeds, args.epochs, args.recipe, args.set)
    all_arms = arms_of(args.table, args.networks, args.poolings)
    arms = without_scratch(args.table, runs, all_arms)
    failed = runs.train([] if args.report else arms, FAILURES)
    if not rank_zero_only.rank:
        report(args, runs, arms)
    for reason, names in failed.items():
        print(f"\n{len(names)} failed ({'; '.join(names)}):\n{reason}", file=sys.stderr)
    if failed:
        sys.exit(1)


def report(args: argparse.Namespace, runs: Runs, arms: Sequence[Arm]) -> None:
    table = TABLES[args.table](runs, arms)
    about = {key: vars(args)[key] for key in ("table", "data", "seeds", "epochs", "recipe", "set")}
    table.write(runs.folder, f"table_{args.table}", about)
    print(table.markdown())
    lacking = runs.missing(arms)
    if lacking:
        print("Not finished, or of another config:", *lacking, sep="\n- ")
    print(f"Written: {runs.folder}/table_{args.table}.md, .json and .png")


def main() -> None:
    run_program(run_here, run, parse_args())


if __name__ == "__main__":
    main()
