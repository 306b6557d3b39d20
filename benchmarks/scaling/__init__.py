"""What scaling.py computes: steps of data-parallel training on many GPUs, on paper."""
