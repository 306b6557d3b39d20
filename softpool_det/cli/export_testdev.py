r"""Write a model's detections on COCO's test-dev, or check such a result file.

The output is the result file and the zip that the evaluation server took. An existing result file
can be written so, too. Exit status 1 if a file is not valid, 2 for a wrong command line.

Examples:
    softpool-export-testdev --validate detections_test-dev2017_softpool_results.zip \
        --image-info image_info_test-dev2017.json
    softpool-export-testdev --config-file config.yaml --weights model_final.pth --alg softpool
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from softpool_det.cli.program import add_output, add_trust_lazy_config, new_parser, run_program
from softpool_det.testdev import (
    TESTSET,
    read_image_info,
    report_text,
    result_stem,
    validate_results,
    write_submission,
)


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    detections = parser.add_argument_group("detections", "one of the first three is required")
    source = detections.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="FILE", help="run this YAML or LazyConfig")
    source.add_argument("--results", type=Path, metavar="FILE", help="take these results")
    source.add_argument("--validate", type=Path, metavar="FILE", help="only check this JSON or zip")
    detections.add_argument("--weights", metavar="FILE", help="checkpoint to run the config with")
    detections.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs to use")
    add_trust_lazy_config(detections)
    images = parser.add_argument_group("data set and check")
    images.add_argument(
        "--dataset", default="coco_2017_test-dev", metavar="NAME", help="as Detectron2 knows it"
    )
    images.add_argument(
        "--image-info", type=Path, metavar="FILE", help="its JSON (default: that of --dataset)"
    )
    images.add_argument(
        "--max-reported", type=int, default=20, metavar="N", help="violations that are printed"
    )
    output = add_output(parser, "output/testdev")
    output.add_argument("--alg", metavar="NAME", help="the algorithm's name in the file names")
    output.add_argument(
        "--testset", default=TESTSET, metavar="NAME", help="the set's name in the file names"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="config overrides at the end, as for train_net.py"
    )
    args = parser.parse_args()
    if args.validate is None and args.alg is None:
        parser.error("--alg is missing: the name that becomes part of the file names")
    if (args.config_file is None) != (args.weights is None):
        parser.error("--config-file and --weights go together")
    if args.config_file is None and args.opts:
        parser.error(f"{' '.join(args.opts)}: overrides need --config-file")
    return args


def check(path: Path, args: argparse.Namespace, check_name: bool) -> bool:
    """Print what is in a result file and what is wrong with it; True if nothing is."""
    image_info = args.image_info
    if image_info is None:
        # Imported where needed: neither Detectron2 nor its catalog is part of checking a file.
        from softpool_det.training.inference import image_info_file

        image_info = image_info_file(args.dataset)
    report = validate_results(
        path, read_image_info(image_info), args.testset, check_name, args.max_reported
    )
    print(report_text(report))
    return report.violations.total == 0


def run(args: argparse.Namespace) -> int:
    if args.validate is not None:
        return 0 if check(args.validate, args, check_name=True) else 1
    # A name that will not do is better known before the model runs for hours.
    result_stem(args.alg, args.testset)
    results = args.results
    if results is None:
        from softpool_det.training.inference import detect

        results = detect(
            args.config_file,
            args.weights,
            args.dataset,
            args.output,
            args.opts,
            args.num_gpus,
            args.trust_lazy_config,
        )
    if not check(results, args, check_name=False):
        print("Nothing was written.")
        return 1
    for path in write_submission(results, args.output, args.alg, args.testset):
        print(f"written: {path}")
    return 0


def main() -> None:
    run_program(lambda: sys.exit(run(parse_args())))


if __name__ == "__main__":
    main()
