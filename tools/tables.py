#!/usr/bin/env python3
"""`softpool-tables` in a checkout; `--help` describes it."""

from softpool_det.cli.tables import main

if __name__ == "__main__":
    main()
