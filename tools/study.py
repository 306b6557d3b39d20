#!/usr/bin/env python3
"""`softpool-study` in a checkout; `--help` describes it."""

from softpool_det.cli.study import main

if __name__ == "__main__":
    main()
