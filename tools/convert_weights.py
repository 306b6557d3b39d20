#!/usr/bin/env python3
"""`softpool-convert-weights` in a checkout; `--help` describes it."""

from softpool_det.cli.convert_weights import main

if __name__ == "__main__":
    main()
