"""A comparison of detectors as a page to read: one HTML file, or a table in Markdown."""

from softpool_det.report.html import write_html
from softpool_det.report.markdown import comparison_markdown
from softpool_det.report.pictures import GalleryRow

__all__ = ["GalleryRow", "comparison_markdown", "write_html"]
