"""What bench_pooling.py measures: cases, peers, targets and how they are shown."""
