#!/usr/bin/env python3
"""`softpool-check-data` in a checkout; `--help` describes it."""

from softpool_det.cli.check_data import main

if __name__ == "__main__":
    main()
