"""Numbers and lists as text."""

from __future__ import annotations

import re
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


def wrapped(text: str, width: int) -> str:
    """The text in as few lines of at most `width` characters as possible, of similar length.

    It is broken at spaces and after - _ / : , = if possible.
    """
    lines = _lines(text, width)
    while width > 1 and len(narrower := _lines(text, width - 1)) == len(lines):
        lines, width = narrower, width - 1
    return "\n".join(lines)


def _lines(text: str, width: int) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^ \-_/:,=]*[ \-_/:,=]?", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return [line.rstrip() for line in lines if line.strip()]
