#!/usr/bin/env python3
"""`softpool-export` in a checkout; `--help` describes it."""

from softpool_det.cli.export import main

if __name__ == "__main__":
    main()
