"""The measurements of `benchmark.py`, one file per kind of work."""
