"""The parts of bench_compare.py."""
