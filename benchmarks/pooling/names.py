"""What the peers and what is timed of them are called in reports."""

SOFT, EXACT, MAX, AVG = "softpool", "softpool exact", "max", "avg"
AUTHORS = "authors' kernel"
FLOOR = "copy (floor)"
# Of the fused stem.
STOCK_STEM, UNFUSED, FUSED = "norm, ReLU, max", "norm, ReLU, soft", "fused softpool"

FORWARD, BOTH = "forward", "forward_backward"
DIRECTIONS = (FORWARD, BOTH)
