r"""Export a trained detector: ONNX, TorchScript, torch.export or AOTInductor, and a manifest.

With --check their detections are compared with PyTorch's.

Examples:
    softpool-export --config-file output/trees/SoftPool/seed_1 --output exported --check
    softpool-export --config-file config.yaml --weights model_final.pth --output exported \
        --format onnx --format torchscript
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detectron2.utils.logger import setup_logger
from tabulate import tabulate

from softpool_det.cli.program import add_predictor_options, data_overrides, new_parser, run_program
from softpool_det.export.parity import check_export, load_files, table, test_images
from softpool_det.export.write import FORMATS, export_detector
from softpool_det.io.images import check_header
from softpool_det.training.exported import Detector, find_manifest
from softpool_det.training.predictor import Predictor


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_predictor_options(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="of the files and model.json"
    )
    files.add_argument(
        "--format",
        action="append",
        choices=FORMATS,
        help="may be given again (default: onnx)",
    )
    check = parser.add_argument_group("check")
    check.add_argument(
        "--check",
        action="store_true",
        help="compare the files with PyTorch on the config's test images: boxes, scores, AP, time",
    )
    check.add_argument(
        "--images",
        action="append",
        type=Path,
        metavar="FILE",
        help="compare on this image, without AP; may be given again",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    setup_logger(name="fvcore")
    if find_manifest(Path(args.config_file)) is not None:
        raise ValueError("the detector was exported already: name its run, or config and weights")
    device = ["train.device=cpu"] if args.config_file.endswith(".py") else ["MODEL.DEVICE", "cpu"]
    options = [*data_overrides(args, args.config_file), *args.opts, *device]
    predictor = Predictor(
        args.config_file, args.weights, options, trust_lazy_config=args.trust_lazy_config
    )
    # Before the minutes of an export.
    truth, images = _check_images(args, predictor)
    manifest = export_detector(predictor, args.output, args.format or ["onnx"])
    for entry in manifest["files"].values():
        print(f"written: {args.output / entry['file']}")
    if images:
        _compare(predictor, load_files(args.output, manifest), images, truth)


def _check_images(
    args: argparse.Namespace, predictor: Predictor
) -> tuple[Path | None, dict[int, Path]]:
    """Return the ground truth, if any, and the images to compare on; {} without a comparison."""
    truth, images = None, dict(enumerate(args.images or []))
    if args.check and not images:
        truth, images = test_images(predictor)
    for path in images.values():
        check_header(path)
    return truth, images


def _compare(
    predictor: Predictor, files: dict[str, Detector], images: dict[int, Path], truth: Path | None
) -> None:
    found = check_export(predictor, files, images, truth)
    print(f"{len(images)} images, largest differences to PyTorch, and medians of the time:")
    print(tabulate(table(found), headers="keys", disable_numparse=True))
    expected = found.pop("pytorch")
    if not expected.detections:
        print(
            "remark: PyTorch itself detects nothing in these images, so no box, score or mask was "
            "compared; name images with objects (--images)"
        )
    excess = [f"{name}: {x}" for name, item in found.items() for x in item.excess(expected.ap)]
    if excess:
        raise ValueError(f"the exported detector is not the trained one: {'; '.join(excess)}")


def main() -> None:
    run_program(run, parse_args())


if __name__ == "__main__":
    main()
