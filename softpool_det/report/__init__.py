"""A comparison of detectors as a page to read: HTML, a picture, or a table in Markdown or text."""

from softpool_det.report.card import write_card
from softpool_det.report.gallery import gallery_rows
from softpool_det.report.html import write_html
from softpool_det.report.markdown import comparison_markdown, comparison_text, printable
from softpool_det.report.overlay import GalleryRow
from softpool_det.report.pictures import PictureRow

__all__ = [
    "GalleryRow",
    "PictureRow",
    "comparison_markdown",
    "comparison_text",
    "gallery_rows",
    "printable",
    "write_card",
    "write_html",
]
