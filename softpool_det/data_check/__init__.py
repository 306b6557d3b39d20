"""Data sets in COCO's format looked at before a training: every fault, counts, sizes, pictures."""
