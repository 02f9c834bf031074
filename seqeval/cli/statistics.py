"""`seqeval table`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from ._terminal import print_notes
from .results import read, write


def table(
    directories: tyro.conf.Positional[tuple[Path, ...]],
    format: Literal["latex", "markdown", "csv"] = "markdown",
    leave_out_incomplete: bool = False,
    out: Path | None = None,
) -> None:
    """Print tables for a paper, on every dataset and over all of them, with intervals: values at the end of
    the data and areas under the curve; with an online phase also the values at its end and the gains.

    Args:
        directories: Study directories.
        format: latex needs the package booktabs. csv has all numbers with all digits, one row each.
        leave_out_incomplete: Leave out seeds that failed or are not finished, instead of stopping with an
            error.
        out: Write to this file instead of printing.
    """
    from seqeval import analysis
    from seqeval.analysis import tables

    rows = read("table", directories)
    print_notes(analysis.describe_absent(rows))
    rows = analysis.with_planned_end(rows, analysis.studies_of(rows))
    rows, left_out = analysis.complete_rows(rows, leave_out_incomplete)
    table, notes = tables.collect(rows)
    text = tables.FORMATS[format](table)
    print_notes([*left_out, *notes])
    if out is None:
        print(text, end="")
    else:
        write(text, out)
