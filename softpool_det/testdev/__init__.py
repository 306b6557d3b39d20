"""Result files for COCO's test-dev: written in the historic layout, and checked entry by entry."""

from softpool_det.testdev.image_info import ImageInfo, read_image_info
from softpool_det.testdev.layout import TESTSET, result_stem
from softpool_det.testdev.validate import ValidationReport, report_text, validate_results
from softpool_det.testdev.write import write_submission

__all__ = [
    "TESTSET",
    "ImageInfo",
    "ValidationReport",
    "read_image_info",
    "report_text",
    "result_stem",
    "validate_results",
    "write_submission",
]
