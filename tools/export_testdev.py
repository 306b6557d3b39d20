#!/usr/bin/env python3
"""`softpool-export-testdev` in a checkout; `--help` describes it."""

from softpool_det.cli.export_testdev import main

if __name__ == "__main__":
    main()
