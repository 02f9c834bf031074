"""Tables with a column per size of the data: what a figure over sizes draws, as numbers for a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .tables import csv, latex_engine, latex_row, latex_text, markdown_text

COLUMNS = 5  # sizes that a printed table shows
Line = Mapping[Any, Any]  # a row of a table of numbers, by column


@dataclass(frozen=True)
class SizeTable:
    """A table of estimates: a row per name, a column per size of the data.

    `numbers` has the columns `samples`, `estimate`, `low` and `high` (NaN without an interval) and the one
    that `rows` names, whose values are the names of the rows. All of its columns are in the CSV.
    """

    caption: str
    rows: str
    numbers: pd.DataFrame

    @property
    def digits(self) -> int:
        """Decimals that show about three digits of the largest number, at least one."""
        largest = self.numbers["estimate"].abs().max()
        return min(max(2 - math.floor(math.log10(largest)), 1), 6) if largest > 0 else 1

    def cells(self) -> tuple[list[str], list[str], list[list[Line | None]]]:
        """The headings of the columns, the names of the rows, and for each row the lines of `numbers` in its
        cells, None for an empty cell."""
        samples = np.sort(self.numbers["samples"].unique())
        chosen = samples[np.unique(np.linspace(0, len(samples) - 1, COLUMNS).round().astype(int))]
        names: list[str] = []
        body: list[list[Line | None]] = []
        for name, part in self.numbers.groupby(self.rows, sort=False):
            by_size = {line["samples"]: line for line in part.to_dict("records")}
            names.append(str(name))
            body.append([by_size.get(size) for size in chosen])
        return [f"n = {size:g}" for size in chosen], names, body

    def texts(self) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
        """Headings, and for each row its name and its cells: estimate and interval."""
        heads, names, body = self.cells()
        return heads, [
            (name, [_texts(line, self.digits) for line in lines])
            for name, lines in zip(names, body, strict=True)
        ]


def _texts(line: Line | None, digits: int) -> tuple[str, str]:
    if line is None or math.isnan(line["estimate"]):
        return "", ""
    estimate, low, high = (line[end] for end in ("estimate", "low", "high"))
    interval = "" if math.isnan(low) else f"{_number(low, digits)}, {_number(high, digits)}"
    return _number(estimate, digits), interval


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def to_csv(tables: Sequence[SizeTable]) -> str:
    """All numbers of all sizes, one row each."""
    return csv(pd.concat([table.numbers for table in tables], ignore_index=True))


def to_markdown(tables: Sequence[SizeTable]) -> str:
    """A GitHub Markdown table each, with its caption above it."""
    parts = []
    for table in tables:
        heads, body = table.texts()
        lines = [markdown_text(table.caption), "", f"| {table.rows} | {' | '.join(heads)} |"]
        lines.append("|:--|" + "--:|" * len(heads))
        for name, cells in body:
            texts = [f"{number} [{ends}]" if ends else number or "–" for number, ends in cells]
            lines.append(f"| {' | '.join([markdown_text(name), *texts])} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_latex(tables: Sequence[SizeTable]) -> str:
    """A LaTeX float each, for a document with the package booktabs; intervals stand below their numbers."""
    parts = []
    for table in tables:
        heads, body = table.texts()
        lines = [
            r"\begin{table}[t]  % \usepackage{booktabs}",
            r"\centering",
            r"\footnotesize",
            rf"\caption{{{latex_text(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
            r"\toprule",
            latex_row(map(latex_text, [table.rows, *heads])),
            r"\midrule",
        ]
        for name, cells in body:
            lines.append(latex_row([latex_text(name), *(f"${n}$" if n else "--" for n, _ in cells)]))
            if any(ends for _, ends in cells):
                ends = [rf"\scriptsize$[{low_high}]$" if low_high else "" for _, low_high in cells]
                lines.append(latex_row(["", *ends]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines) + "\n")
    text = "\n".join(parts)
    return latex_engine(text) + text


FORMATS: dict[str, Callable[[Sequence[SizeTable]], str]] = {
    "latex": to_latex,
    "markdown": to_markdown,
    "csv": to_csv,
}
