#!/usr/bin/env python3
"""`softpool-train-classifier` in a checkout; `--help` describes it."""

from softpool_det.cli.train_classifier import main

if __name__ == "__main__":
    main()
