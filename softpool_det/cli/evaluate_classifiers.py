"""Say how two classifiers differ: McNemar's test, or one's weights with another stem pooling.

Of predictions.npz files of softpool-train-classifier, one for each seed, the baseline first:

    softpool-evaluate-classifiers compare --arm max a/predictions.npz \\
        --arm SoftPool b/predictions.npz

Of trained weights, with the pooling of one config and then of another (the paper's Table 2,
"pre-trained"):

    softpool-evaluate-classifiers swap --weights resnet18.safetensors \\
        --trained configs/classification/imagenet_paper_R_18.yaml \\
        --swapped configs/classification/imagenet_paper_softpool_R_18.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from softpool_det.classification.compare import compare_predictions, markdown
from softpool_det.classification.config import load_config
from softpool_det.classification.swap import compare_swapped
from softpool_det.cli.program import run_program
from softpool_det.io.atomic import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="prediction files")
    compare.add_argument(
        "--arm",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "FILE"),
        help="two or more times: NAME FILE [FILE ...], a file for each seed",
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    swap = commands.add_parser("swap", help="weights with two stem poolings")
    swap.add_argument("--weights", required=True, metavar="FILE", help=".safetensors")
    swap.add_argument("--trained", required=True, metavar="CONFIG", help="that the weights fit")
    swap.add_argument("--swapped", required=True, metavar="CONFIG", help="with the other pooling")
    swap.add_argument("--output", type=Path, default=Path("output/swap"), metavar="FOLDER")
    swap.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of both configs"
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    if args.command == "swap":
        overrides = ["MODEL.WEIGHTS", args.weights, *args.opts]
        trained, swapped = (load_config(name, overrides) for name in (args.trained, args.swapped))
        comparison = compare_swapped(trained, swapped, args.output)
    else:
        comparison = compare_predictions(
            {name: list(map(Path, files)) for name, *files in args.arm}
        )
        if args.json is not None:
            write_json(args.json, comparison)
    print(markdown(comparison))


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
