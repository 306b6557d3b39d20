#!/usr/bin/env python3
"""`softpool-visualize` in a checkout; `--help` describes it."""

from softpool_det.cli.visualize import main

if __name__ == "__main__":
    main()
