"""What bench_detector.py measures: stock detectors and their SoftPool twins."""
