"""Detectors (`compare`) or their result files (`compare_files`), side by side; studies of many.

Nothing is imported here: result files are compared without Detectron2.
"""
