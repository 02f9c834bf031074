"""Interval estimates over all datasets: mean, median, IQM and optimality gap, a panel each, with a bar for
the 95 % interval and a tick for the estimate, at the end of the data and, hollow, of areas under the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seqeval import analysis

from . import style

# The arrow says which way is better.
TITLES = {"mean": "mean ↑", "median": "median ↑", "iqm": "IQM ↑", "optimality_gap": "optimality gap ↓"}
# Each measure's place within a line, from its middle downwards, and how dense its bars are.
MEASURES = {"end of the data": (-0.19, 0.6), "area under the curve": (0.19, 0.12)}
HEIGHT = 0.3  # of a bar, where lines are 1 apart


def plot(
    frame: pd.DataFrame, ax: Axes | None = None, looks: Mapping[tuple[str, str], style.Line] | None = None
) -> Axes:
    """One statistic of `analysis.aggregate`, of measures that its column `measure` names. `looks` are by
    variant and study; the first is on top."""
    ax = style.axes(style.TEXT_WIDTH / 2, 1.8) if ax is None else ax
    ax.use_sticky_edges = False  # a bar's end needs its margin too
    names = []
    for place, (line, look) in enumerate(style.each_line(frame, looks)):
        names.append(look.label)
        for each in line.to_dict("records"):
            offset, density = MEASURES[each["measure"]]
            middle, width = place + offset, each["high"] - each["low"]
            ax.barh(middle, width, HEIGHT, each["low"], color=look.colour, alpha=density, lw=0)
            ax.barh(middle, width, HEIGHT, each["low"], fill=False, edgecolor=look.colour, lw=0.7)
            ax.vlines(
                each["estimate"], middle - HEIGHT / 2, middle + HEIGHT / 2, color="#000000", linewidth=1.3
            )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The intervals of complete rows, and a note for each thing to know of what is in them."""
    looks = style.lines_over_datasets(rows)
    rows, notes = analysis.comparable_rows(rows)
    measures = zip(MEASURES, (analysis.final_values(rows), analysis.areas(rows)), strict=True)
    table = pd.concat([analysis.aggregate(values).assign(measure=name) for name, values in measures])
    lines = table.groupby(["variant", "study"]).ngroups
    with style.context():
        drawn = Figure(figsize=(style.TEXT_WIDTH, 0.95 + 0.26 * lines))
        axes = drawn.subplots(1, len(TITLES), sharey=True)
        for ax, (statistic, title) in zip(axes, TITLES.items(), strict=True):
            plot(table[table["estimator"] == statistic], ax, looks)
            ax.set_title(title)
        patches = [
            Patch(facecolor=(0, 0, 0, density), edgecolor="#000000", linewidth=0.7, label=name)
            for name, (_, density) in MEASURES.items()
        ]
        drawn.legend(handles=patches, loc="outside upper center", ncols=2, frameon=False)
        drawn.supxlabel(f"score ({style.counts(rows)})", fontsize=7)
    return drawn, notes
