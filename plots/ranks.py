"""Mean rank over datasets against the share of each that has been seen, the best on top, a line an algorithm,
and the band of its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis

from . import style


def plot(
    frame: pd.DataFrame, ax: Axes | None = None, looks: Mapping[tuple[str, str], style.Line] | None = None
) -> Axes:
    """What `analysis.mean_ranks` gives. `looks` are by variant and study. Lines that tie are drawn side by
    side, each moved by no more than its own width for each that it ties with, so that none hides another."""
    ax = style.axes(*style.PANEL) if ax is None else ax
    last = frame.groupby(["variant", "study"]).ngroups
    ax.set(ylabel="mean rank (1: best)", ylim=(last + 0.1, 0.9))
    for line, look in style.each_line(_side_by_side(frame, _width(ax)), looks):
        style.draw(ax, "share", line, look)
    style.shares_on_x(ax, frame["share"])
    ax.set_yticks(range(1, last + 1, -(-last // 6)))
    return ax


def _side_by_side(frame: pd.DataFrame, width: float) -> pd.DataFrame:
    """The table with estimates that are equal at an x put `width` apart, around where they were."""
    tied = frame.groupby(["share", "estimate"], sort=False)["estimate"]
    place = tied.cumcount() - (tied.transform("size") - 1) / 2
    return frame.assign(estimate=frame["estimate"] + width * place)


def _width(ax: Axes) -> float:
    """Ranks that are as high as a line is wide."""
    points = 72 * ax.get_window_extent().height / ax.get_figure(root=True).dpi
    low, high = ax.get_ylim()
    return style.RC["lines.linewidth"] * abs(high - low) / points


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The ranks of complete rows, and a note for each thing to know of what is in them."""
    looks = style.lines_over_datasets(rows)
    rows, notes = analysis.comparable_rows(rows)
    table = analysis.mean_ranks(rows, style.transitions(studies))
    return style.panel(plot, table, looks, style.counts(rows)), notes
