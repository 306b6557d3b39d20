#!/usr/bin/env python3
"""`softpool-train` in a checkout; `--help` describes it."""

from softpool_det.cli.train import main

if __name__ == "__main__":
    main()
