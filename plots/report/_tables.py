"""Tables of the page: their entries as text, and their LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from seqeval.analysis.tables import latex_engine, latex_row, latex_text

MINUS, NEVER, NOTHING = "\u2212", "never", "\u2014"


class Entry(NamedTuple):
    """One entry of a table. `order` is its sort key; entries without one come last in both directions."""

    text: str
    interval: str = ""
    order: float = math.nan

    @property
    def is_missing(self) -> bool:
        return math.isnan(self.order)


@dataclass(frozen=True)
class Table:
    """`tidy` is what is copied as CSV: one row per number, with all digits."""

    title: str
    description: str  # what the numbers are, in a sentence or two
    header: Sequence[str]
    body: Sequence[Sequence[Entry]]
    tidy: pd.DataFrame
    text_columns: int = 1  # leading columns that hold text
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Missing:
    """A table that cannot be computed, and the reason."""

    title: str
    reason: str


@dataclass(frozen=True)
class Plot:
    """Lines with bands over the share of the data, drawn by the page.

    `lines` are plain values: `label` as in the legend, `x`, `estimate`, `low` and `high`.
    """

    title: str
    description: str
    ylabel: str
    lines: Sequence[dict[str, Any]]
    reversed: bool = False  # the lowest value on top
    over_sizes: bool = False  # x is transitions, and lines have styles of their own, not those of the legend


Section = Table | Plot | Missing


def number(value: float, decimals: int) -> str:
    """A number with narrow spaces between every three digits and a typographic minus; infinity is `never`."""
    if math.isinf(value):
        return NEVER
    text = f"{value:,.{decimals}f}".replace(",", "\u202f")
    is_zero = not text.strip("-0.\u202f")
    return text.removeprefix("-") if is_zero else text.replace("-", MINUS)


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{number(seconds, 1 if seconds < 10 else 0)} s"
    return f"{number(seconds / 60, 0)} min" if seconds < 5400 else f"{number(seconds / 3600, 1)} h"


def interval(estimate: float, low: float, high: float, decimals: int) -> Entry:
    """A number with its interval, or without where the interval is a point, as for a single seed."""
    ends = "" if low == high else f"{number(low, decimals)} to {number(high, decimals)}"
    return Entry(number(estimate, decimals), ends, estimate)


def latex(table: Table) -> str:
    """The table as the page shows it, for the package booktabs."""
    columns = "l" * table.text_columns + "r" * (len(table.header) - table.text_columns)
    text = "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            latex_row(map(latex_text, table.header)),
            r"\midrule",
            *(latex_row(map(_latex_entry, row)) for row in table.body),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
    return latex_engine(text) + text


def _latex_entry(entry: Entry) -> str:
    text = latex_text(entry.text)
    return rf"{text} {{\scriptsize [{latex_text(entry.interval)}]}}" if entry.interval else text
