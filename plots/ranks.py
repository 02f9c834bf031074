"""Mean rank over datasets against the share of each that has been seen, the best on top, a line an algorithm,
and the band of its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import aggregate

from . import style


def plot(
    frame: pd.DataFrame, ax: Axes | None = None, looks: Mapping[tuple[str, str], style.Line] | None = None
) -> Axes:
    """What `aggregate.ranks` gives. `looks` are by variant and study."""
    ax = style.axes(*style.PANEL) if ax is None else ax
    last = frame.groupby(["variant", "study"]).ngroups
    for line, look in style.each_line(frame, looks):
        style.draw(ax, "share", line, look)
    style.shares_on_x(ax, frame["share"])
    ax.set(ylabel="mean rank (1: best)", ylim=(last + 0.1, 0.9))
    ax.set_yticks(range(1, last + 1, -(-last // 6)))
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The ranks of complete rows, and a note for each thing to know of what is in them."""
    looks = style.lines_over_datasets(rows)
    rows, notes = aggregate.comparable(rows)
    table = aggregate.ranks(rows, style.transitions(studies))
    return style.panel(plot, table, looks, style.counts(rows)), notes
