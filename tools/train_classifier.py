#!/usr/bin/env python3
"""Train or evaluate Detectron2's ResNet as a classifier; detectors start from its weights.

    python tools/train_classifier.py --config-file configs/classification/digits_softpool_R_18.yaml
    torchrun --nproc-per-node 8 tools/train_classifier.py \\
        --config-file configs/classification/imagenet_paper_softpool_R_18.yaml
    python tools/train_classifier.py --eval-only --config-file ... MODEL.WEIGHTS FILE.safetensors
"""

from __future__ import annotations

import argparse

from softpool_det.classification import run
from softpool_det.cli import run_program


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run in OUTPUT_DIR stopped, if any"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides at the end"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_program(run, parse_args())
