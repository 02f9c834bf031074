"""A statistic over all datasets against the share of each that has been seen, a line an algorithm, and the
band of its 95 % interval.

The figure is one panel of the IQM and not four: mean, median and optimality gap along the data mostly repeat
it, and one panel can be read at the width of a column. `plot` draws any of them from its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis

from . import style

NAMES = {"mean": "mean", "median": "median", "iqm": "IQM", "optimality_gap": "optimality gap"}


def plot(
    frame: pd.DataFrame, ax: Axes | None = None, looks: Mapping[tuple[str, str], style.Line] | None = None
) -> Axes:
    """One statistic of `analysis.aggregate_curves`. `looks` are by variant and study."""
    ax = style.axes(*style.PANEL) if ax is None else ax
    (statistic,) = set(frame["estimator"])
    for line, look in style.each_line(frame, looks):
        style.draw(ax, "share", line, look)
    style.shares_on_x(ax, frame["share"])
    ax.set_ylabel(f"{NAMES[statistic]} of scores")
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The IQM of complete rows, and a note for each thing to know of what is in it."""
    looks = style.lines_over_datasets(rows)
    rows, notes = analysis.comparable_rows(rows)
    table = analysis.aggregate_curves(rows, style.transitions(studies), ["iqm"])
    return style.panel(plot, table, looks, style.counts(rows)), notes
