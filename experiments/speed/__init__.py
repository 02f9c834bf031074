"""What `benchmark.py` measures: a file for each kind of work."""
