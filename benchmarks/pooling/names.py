"""What the peers and what is timed of them are called in reports."""

SOFT, EXACT, MAX, AVG = "softpool", "softpool exact", "max", "avg"
# With another temperature, and with a learned one for each channel.
BETA, LEARNED = "softpool beta 4", "softpool learned"
AUTHORS = "authors' kernel"
FLOOR = "copy (floor)"
# Of every layer, as in the paper's Table 3.
ZOO, MAX_LAYER = "every pooling", "MaxPool"
# Of the fused stem.
STOCK_STEM, UNFUSED, FUSED = "norm, ReLU, max", "norm, ReLU, soft", "fused softpool"

FORWARD, BOTH = "forward", "forward_backward"
DIRECTIONS = (FORWARD, BOTH)
