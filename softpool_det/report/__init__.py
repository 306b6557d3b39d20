"""A comparison of detectors as a page to read: one HTML file, or a table in Markdown."""

from softpool_det.report.activations import activation_rows
from softpool_det.report.gallery import gallery_rows
from softpool_det.report.html import write_html
from softpool_det.report.markdown import comparison_markdown
from softpool_det.report.pictures import GalleryRow

__all__ = [
    "GalleryRow",
    "activation_rows",
    "comparison_markdown",
    "gallery_rows",
    "write_html",
]
