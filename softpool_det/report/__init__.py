"""A comparison of detectors as a page to read: an HTML file, or a table in Markdown or text."""

from softpool_det.report.gallery import gallery_rows
from softpool_det.report.html import write_html
from softpool_det.report.markdown import comparison_markdown, comparison_text, printable
from softpool_det.report.pictures import GalleryRow

__all__ = [
    "GalleryRow",
    "comparison_markdown",
    "comparison_text",
    "gallery_rows",
    "printable",
    "write_html",
]
