r"""Train or evaluate a detector from a YAML config or a LazyConfig (.py).

Usage is that of Detectron2's own train_net.py; the data sets of softpool_det are known by name.
torchrun may start it, too: one process then is one of torchrun's.

Examples:
    softpool-train --config-file configs/demo/digits_retinanet_R_18_FPN.yaml SEED 2
    softpool-train --config-file configs/COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml \
        --train-json train.json --train-images photos --val-json val.json --val-images photos \
        OUTPUT_DIR output/one
    softpool-train --config-file output/one/config.yaml --eval-only \
        MODEL.WEIGHTS output/one/model_final.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch.distributed as dist
from detectron2.engine import default_argument_parser

from softpool_det.cli.folders import add_folder_options, use_folders
from softpool_det.cli.program import (
    OWN_DATA,
    add_data_options,
    add_limit,
    add_trust_lazy_config,
    data_overrides,
    new_parser,
    run_program,
)
from softpool_det.config import load_config
from softpool_det.training import EXPECTED, describe, run
from softpool_det.training.launching import launch_processes


def parse_args() -> argparse.Namespace:
    own = new_parser(__doc__)
    parser = default_argument_parser(own.epilog)
    parser.description, parser.formatter_class = own.description, own.formatter_class
    training = parser.add_argument_group("training")
    training.add_argument(
        "--progress",
        default="training" if sys.stderr.isatty() else "",
        metavar="LABEL",
        help="show a progress line with this label (default: training on a terminal, else none)",
    )
    training.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a .pkl of weights that is not of Detectron2's model zoo",
    )
    add_trust_lazy_config(training)
    own_data = parser.add_argument_group(*OWN_DATA)
    add_data_options(own_data)
    add_folder_options(own_data)
    add_limit(own_data)
    args = parser.parse_args()
    if not args.config_file:
        parser.error(
            "--config-file is missing, such as configs/demo/digits_retinanet_R_18_FPN.yaml"
        )
    return args


def use_data(args: argparse.Namespace) -> None:
    """Turn the options that name data sets into overrides."""
    if args.yolo or args.voc:
        cfg = load_config(args.config_file, args.opts, args.trust_lazy_config)
        use_folders(args, Path(cfg.train.output_dir if "train" in cfg else cfg.OUTPUT_DIR))
    args.opts = [*data_overrides(args, args.config_file), *args.opts]


def _run(args: argparse.Namespace) -> None:
    run_program(run, args, expected=EXPECTED, describe=describe)


def main() -> None:
    args = parse_args()
    run_program(use_data, args)
    if dist.is_torchelastic_launched():
        _run(args)
    else:
        launch_processes(_run, args)


if __name__ == "__main__":
    main()
