"""Numbers and lists as text."""

from __future__ import annotations

from collections.abc import Sequence


def capitalized(text: str) -> str:
    """The text with a capital first letter, the rest unchanged."""
    return text[0].upper() + text[1:]


def spaced(number: float) -> str:
    """A whole number with a narrow space between every three digits."""
    return f"{number:,.0f}".replace(",", "\u202f")


def counted(count: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{spaced(count)} {noun}{'' if count == 1 else 's'}"


def count_range(low: int, high: int) -> str:
    """`3`, or `2 to 3` where the ends differ."""
    return spaced(high) if low == high else f"{spaced(low)} to {spaced(high)}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
