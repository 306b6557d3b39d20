r"""Draw a trained model's detections on an image, on a folder of images or on a video.

--config-file also takes what softpool-export wrote.

Examples:
    softpool-visualize --config-file output/trees/SoftPool/seed_1 --input photo.jpg \
        --output drawn.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detectron2.utils.logger import setup_logger

from softpool_det.cli.program import add_predictor_options, data_overrides, new_parser, run_program
from softpool_det.comparison.visualize import files_to_draw, visualize
from softpool_det.training.predictor import Predictor


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_predictor_options(parser)
    pictures = parser.add_argument_group("pictures")
    pictures.add_argument(
        "--input", required=True, type=Path, metavar="PATH", help="image, folder or video"
    )
    pictures.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="file, or folder for a folder"
    )
    pictures.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="lowest score drawn, 0 to 1",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    # Before the seconds that a model takes to load.
    files_to_draw(args.input, args.output, args.score_threshold)
    setup_logger(name="fvcore")
    options = [*data_overrides(args, args.config_file), *args.opts]
    predictor = Predictor(
        args.config_file, args.weights, options, trust_lazy_config=args.trust_lazy_config
    )
    visualize(predictor, predictor.metadata, args.input, args.output, args.score_threshold)


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
