"""From rows to statistics: pure functions of the table that `storage.frame` gives."""

from .rows import LINE, curves, final, frozen, shortfalls, with_values

__all__ = ["LINE", "curves", "final", "frozen", "shortfalls", "with_values"]
