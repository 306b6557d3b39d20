"""Draw a trained model's detections on an image, on a folder of images or on a video."""

from __future__ import annotations

import argparse
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

from softpool_det.cli.program import (
    add_data_options,
    add_trust_lazy_config,
    data_overrides,
    run_program,
)
from softpool_det.comparison.visualize import build_predictor, dataset_metadata, visualize
from softpool_det.config import load_config
from softpool_det.datasets import register_datasets, use_json_files


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML or LazyConfig")
    parser.add_argument(
        "--weights", metavar="FILE", help="default: model_final.pth in the config's output folder"
    )
    parser.add_argument(
        "--input", required=True, type=Path, metavar="PATH", help="image, folder or video"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="file, or folder for a folder"
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.5, help="lowest score drawn, 0 to 1"
    )
    add_data_options(parser)
    add_trust_lazy_config(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="overrides at the end: KEY VALUE pairs, or key=value for a LazyConfig",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    setup_logger(name="fvcore")
    register_datasets()
    options = [*data_overrides(args, args.config_file), *args.opts]
    cfg = use_json_files(load_config(args.config_file, options, args.trust_lazy_config))
    folder = cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir
    weights = args.weights or str(Path(folder) / "model_final.pth")
    if "://" not in weights and not Path(weights).is_file():
        raise FileNotFoundError(
            f"weights {weights} do not exist; train them with softpool-train, or name a "
            "checkpoint of the detector with --weights"
        )
    predictor = build_predictor(cfg, weights)
    visualize(predictor, dataset_metadata(cfg), args.input, args.output, args.score_threshold)


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
