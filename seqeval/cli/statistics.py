"""`seqeval table`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

from .results import read, write


def table(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    format: Literal["latex", "markdown", "csv"] = "markdown",
    leave_out_incomplete: bool = False,
    out: Path | None = None,
) -> None:
    """Tabulate run directories for a paper: values at the end of the data and areas under the curve, with
    intervals, on every dataset and over them; where there is an online phase its end and its gain too.

    Args:
        directories: Run directories.
        format: latex wants the package booktabs alone. csv has every number in full, a row each.
        leave_out_incomplete: Leave seeds out that failed or are not finished, instead of stopping there.
        out: A file; by default the table is printed.
    """
    from seqeval import analysis
    from seqeval.analysis import tables

    rows, studies = read("table", directories)
    rows, left_out = analysis.complete(analysis.with_planned(rows, studies), leave_out_incomplete)
    found, notes = tables.collect(rows)
    text = tables.FORMATS[format](found)
    for note in [*left_out, *notes]:
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        print(text, end="")
    else:
        write(text, out)
