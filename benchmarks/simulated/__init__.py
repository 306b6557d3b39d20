"""Pairs of detectors whose true difference is known."""
