"""Measure what pooling leaves of images: SSIM and PSNR, beside the paper's Table 1.

The images are photographs that installed packages ship, those of a folder, or one of the paper's
data sets. The output folder gets similarity.json (all figures), similarity.md and similarity.html
(tables), and pooled.png (pictures as in the paper's figures 3, 5 and 6).

Examples:
    softpool-similarity
    softpool-similarity --images photographs --poolings softpool max avg --kernel-sizes 2
    softpool-similarity --dataset urban100 --root datasets --jobs 8
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from softpool_det.cli.program import add_output, new_parser, run_program

if TYPE_CHECKING:
    from softpool_det.similarity.photographs import Photograph

PROTOCOLS = ("nearest", "bilinear", "bicubic", "down")
DATASETS = ("div2k", "urban100", "manga109", "flickr2k")


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    source = parser.add_argument_group("images (default: photographs of installed packages)")
    source.add_argument("--images", type=Path, metavar="FOLDER", help="a folder of images")
    source.add_argument("--dataset", choices=DATASETS, help="with --root; never downloaded")
    source.add_argument("--root", type=Path, metavar="FOLDER", help="where the data set lies")
    source.add_argument("--limit", type=_positive, metavar="N", help="N images, evenly spread")
    measured = parser.add_argument_group("what is measured")
    measured.add_argument(
        "--poolings",
        nargs="+",
        metavar="NAME",
        help="softpool (in three ranges of values), max, avg ... (default: all, which an "
        "unknown name lists)",
    )
    measured.add_argument(
        "--kernel-sizes",
        nargs="+",
        type=_kernel,
        default=[2, 3, 5],
        metavar="K",
        help="window sizes, which are the strides, too",
    )
    measured.add_argument(
        "--protocol",
        nargs="+",
        choices=PROTOCOLS,
        default=["nearest", "bilinear"],
        help="how image and pooled image get one size: enlarge the pooled one by repeating pixels "
        "(nearest), bilinearly or bicubically, or reduce the original (down)",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--seed", type=int, default=0, metavar="N", help="of draws and training")
    training.add_argument(
        "--train-steps",
        type=_whole,
        default=200,
        metavar="N",
        help="for poolings with parameters, on the first half of the images; the other half is "
        "measured; 0: measure all images, with the parameters' initial values",
    )
    training.add_argument("--jobs", type=_positive, default=1, metavar="N", help="processes")
    output = add_output(parser, "output/similarity")
    output.add_argument("--pdf", action="store_true", help="write pooled.pdf, too")
    args = parser.parse_args()
    if (args.dataset is None) != (args.root is None):
        parser.error("--dataset and --root go together")
    if args.dataset is not None and args.images is not None:
        parser.error("give --images or --dataset, not both")
    return args


def _number(text: str, least: int) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def _whole(text: str) -> int:
    return _number(text, 0)


def _positive(text: str) -> int:
    return _number(text, 1)


def _kernel(text: str) -> int:
    return _number(text, 2)


def find_photographs(args: argparse.Namespace) -> list[Photograph]:
    from softpool_det.similarity.datasets import dataset_photographs
    from softpool_det.similarity.photographs import (
        folder_photographs,
        installed_photographs,
        spread,
    )

    if args.dataset is not None:
        found = dataset_photographs(args.dataset, args.root)
    elif args.images is not None:
        found = folder_photographs(args.images)
    else:
        found = installed_photographs()
    return spread(found, args.limit)


def run(args: argparse.Namespace) -> None:
    from softpool_det.similarity.poolings import select_poolings

    poolings = select_poolings(args.poolings)
    photographs = find_photographs(args)
    # skimage, Matplotlib and scipy are loaded behind what is likely to fail.
    from softpool_det.similarity.run import Settings, run_experiment
    from softpool_det.similarity.table import markdown

    settings = Settings(
        poolings,
        list(dict.fromkeys(args.kernel_sizes)),
        list(dict.fromkeys(args.protocol)),
        args.seed,
        args.train_steps,
        args.dataset,
    )
    result = run_experiment(photographs, settings, args.output, jobs=args.jobs, pdf=args.pdf)
    print(markdown(result))
    print(f"Written to {args.output}: similarity.html shows tables and pictures")


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
