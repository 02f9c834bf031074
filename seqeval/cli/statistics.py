"""`seqeval table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqeval.errors import UserError
from seqeval.figure_options import FigureOptions

from ._terminal import print_notes
from .results import OPTIONS, read, write


def table(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    format: Literal["latex", "markdown", "csv"] = "markdown",
    leave_out_incomplete: bool = False,
    out: Path | None = None,
    figure: str | None = None,
    options: Annotated[FigureOptions, tyro.conf.arg(name="")] = OPTIONS,
) -> None:
    """Print tables for a paper, on every dataset and over all of them, with intervals: values at the end of
    the data and areas under the curve; with an online phase also the values at its end and the gains.

    Args:
        directories: Study directories.
        format: latex needs the package booktabs. csv has all numbers with all digits, one row each.
        leave_out_incomplete: Leave out seeds that failed or are not finished, instead of stopping with an
            error.
        out: Write to this file instead of printing.
        figure: The numbers of this figure at each size of the data instead: agreement, best-of-k, choice,
            setting or tuning-map. The options below are those of seqeval plot.
    """
    from seqeval import analysis, plots
    from seqeval.analysis import size_tables, tables

    rows = read("table", directories)
    print_notes(analysis.describe_absent(rows))
    if figure is None:
        rows, notes = plots.LINES.prepare(rows, options, leave_out_incomplete)
        table, more = tables.collect(rows)
        text = tables.FORMATS[format](table)
    else:
        kind = plots.find(figure)
        if kind.tables is None:
            raise UserError(f"table: {figure} has no numbers by size; leave out --figure for those of lines")
        rows, notes = kind.prepare(rows, options, leave_out_incomplete)
        if rows.empty:
            raise UserError(f"table: there are no numbers; {'; '.join(notes)}")
        text, more = size_tables.FORMATS[format](kind.tables(rows, options)), []
    print_notes([*notes, *more])
    if out is None:
        print(text, end="")
    else:
        write(text, out)
