#!/usr/bin/env python3
"""`softpool-compare` in a checkout; `--help` describes it."""

from softpool_det.cli.compare import main

if __name__ == "__main__":
    main()
