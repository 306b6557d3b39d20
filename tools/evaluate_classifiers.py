#!/usr/bin/env python3
"""`softpool-evaluate-classifiers` in a checkout; `--help` describes it."""

from softpool_det.cli.evaluate_classifiers import main

if __name__ == "__main__":
    main()
