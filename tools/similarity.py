#!/usr/bin/env python3
"""`softpool-similarity` in a checkout; `--help` describes it."""

from softpool_det.cli.similarity import main

if __name__ == "__main__":
    main()
