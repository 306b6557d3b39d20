r"""Train a network of torchvision, timm or Detectron2, or one for videos, and evaluate it.

Detectors start from the weights that come out: Detectron2's as they are, torchvision's and timm's
by way of softpool-convert-weights.

Examples:
    softpool-train-classifier configs/classification/digits_softpool.yaml
    softpool-train-classifier configs/classification/fashion_mnist.yaml network=timm/resnet26 seed=2
    torchrun --nproc-per-node 8 -m softpool_det.cli.train_classifier --resume \
        configs/classification/imagenet_paper_softpool.yaml
    softpool-train-classifier configs/video/hacs_paper.yaml network=video/i3d
    softpool-train-classifier CONFIG.yaml epochs=0 weights=FILE.safetensors
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from softpool_det.classification import train
from softpool_det.classification.config import load_config
from softpool_det.cli.program import new_parser, run_program
from softpool_det.training.process_group import process_group


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("config", metavar="CONFIG.yaml", help="as in configs/classification/")
    parser.add_argument_group("training").add_argument(
        "--resume", action="store_true", help="continue a run in `output`, if there is one"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as in trainer.devices=2")
    return parser.parse_args()


def run_here(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Call `run` as one of torchrun's processes, or alone; on standard error it says how far it is.

    Lightning says only what is wrong.
    """
    logging.basicConfig(format="%(message)s")
    level = logging.WARNING if rank_zero_only.rank else logging.INFO
    logging.getLogger("softpool_det").setLevel(level)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with process_group("cuda" if torch.cuda.is_available() else "cpu"):
        run(args)


def run(args: argparse.Namespace) -> None:
    train(load_config(args.config, args.overrides), args.resume)


def main() -> None:
    run_program(run_here, run, parse_args())


if __name__ == "__main__":
    main()
