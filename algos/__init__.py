"""One file per algorithm; files that start with `_` are shared parts."""
