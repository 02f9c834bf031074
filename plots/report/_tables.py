"""A table as the page shows it (HTML), and as it is copied (CSV, LaTeX)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import pandas as pd

from seqeval.analysis.tables import latex_engine, latex_row, latex_text

MINUS, NEVER, NOTHING = "\u2212", "never", "\u2014"


class Cell(NamedTuple):
    """`order` is what the column is sorted by; NaN goes last, whichever way."""

    text: str
    interval: str = ""
    order: float | str = math.nan


@dataclass(frozen=True)
class Table:
    """`tidy` is what is copied as CSV: all digits, a row a number."""

    title: str
    about: str  # what the numbers are, in a sentence or two
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]  # the first cell of a row says what it is of
    tidy: pd.DataFrame
    texts: int = 1  # columns in front that hold words
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Missing:
    """A table that there is not, and why."""

    title: str
    why: str


def number(value: float, decimals: int) -> str:
    """With narrow spaces for every three digits, and a proper minus."""
    if math.isinf(value):
        return NEVER
    text = f"{value:,.{decimals}f}".replace(",", "\u202f")
    nought = not text.strip("-0.\u202f")
    return text.removeprefix("-") if nought else text.replace("-", MINUS)


def interval(estimate: float, low: float, high: float, decimals: int) -> Cell:
    """A number and its interval; where that is a point, as of one seed, the number alone."""
    ends = "" if low == high else f"{number(low, decimals)} to {number(high, decimals)}"
    return Cell(number(estimate, decimals), ends, estimate)


def html(key: str, table: Table) -> str:
    """`key` is the table's id; columns are sorted by the buttons in their heads."""
    head = "".join(
        f'<th scope="col"{_number_class(place >= table.texts)} aria-sort="none">'
        f'<button type="button" class="sort">{escape(name)}</button></th>'
        for place, name in enumerate(table.head)
    )
    body = "".join(
        f"<tr>{''.join(_html(c, i, table.texts) for i, c in enumerate(r))}</tr>" for r in table.body
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    copies = "".join(
        f'<button type="button" class="copy" data-table="{key}" data-as="{kind.lower()}" '
        f'aria-label="Copy {kind} of {escape(table.title)}">{kind}</button>'
        for kind in ("CSV", "LaTeX")
    )
    return (
        f'<div class="statistic" id="{key}"><div class="heading"><h3>{escape(table.title)}</h3>'
        f'<span class="copies">{copies}<span class="said" role="status"></span></span></div>'
        f"<p>{escape(table.about)}</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}</div>"
    )


def _number_class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _html(cell: Cell, place: int, texts: int) -> str:
    inner = escape(cell.text)
    if cell.interval:
        inner += f'<span class="interval">{escape(cell.interval)}</span>'
    if place == 0:
        return f'<th scope="row">{inner}</th>'
    missing = isinstance(cell.order, float) and math.isnan(cell.order)
    order = "" if missing or isinstance(cell.order, str) else f' data-order="{cell.order!r}"'
    kind = "missing number" if missing else "number"
    return f"<td>{inner}</td>" if place < texts else f'<td class="{kind}"{order}>{inner}</td>'


def latex(table: Table) -> str:
    """For the package booktabs, as the page shows it."""
    columns = "l" * table.texts + "r" * (len(table.head) - table.texts)
    text = "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            latex_row(map(latex_text, table.head)),
            r"\midrule",
            *(latex_row(map(_latex_cell, row)) for row in table.body),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
    return latex_engine(text) + text


def _latex_cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    return rf"{text} {{\scriptsize [{latex_text(cell.interval)}]}}" if cell.interval else text
