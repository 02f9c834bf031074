"""Probability of improvement at the end of the data: how likely a run of the row's algorithm has a higher
score than one of the column's on the same dataset, as a mean over datasets, and beneath it its 95 % interval
(Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError

from . import style

COLOURS = "RdBu"  # apart for colour-blind readers too; white is one half
DARK = 0.32  # distance from one half beyond which a cell is so dark that its text is white


def plot(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What `analysis.probability_of_improvement` gives."""
    names = list(dict.fromkeys(frame["first"]))
    ax = style.axes(*_size(names)) if ax is None else ax
    small = 6 if len(names) < 8 else 4.8  # points, of intervals: ten lines fit the width of a page
    places = {name: place for place, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    for each in frame.to_dict("records"):
        row, column = places[each["first"]], places[each["second"]]
        values[row, column] = each["estimate"]
        ink = "#FFFFFF" if abs(each["estimate"] - 0.5) > DARK else "#000000"
        ax.text(
            column, row - 0.12, f"{each['estimate']:.2f}", ha="center", va="center", fontsize=7, color=ink
        )
        if np.isfinite(each["low"]):  # one seed has no interval
            ends = f"{each['low']:.2f}–{each['high']:.2f}"
            ax.text(column, row + 0.22, ends, ha="center", va="center", fontsize=small, color=ink)
    ax.imshow(values, cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if _long(names) else {}
    ax.set_xticks(range(len(names)), names, **turned)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_facecolor("#E6E6E6")  # of the diagonal
    ax.set_title("P(row better than column)")
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The matrix of complete rows, and a note for each thing to know of what is in it. Raises UserError where
    there is one line alone."""
    rows, notes = analysis.comparable_rows(rows)
    order = [look.label for look in style.lines_over_datasets(rows).values()]
    if len(order) == 1:
        raise UserError(f"improvement: {order[0]} is the only line; name what to compare it with")
    table = analysis.probability_of_improvement(analysis.final_values(rows))
    table = table.sort_values("first", key=lambda names: names.map(order.index), kind="stable")
    with style.context():
        drawn = Figure(figsize=_size(list(dict.fromkeys(table["first"]))))
        plot(table, drawn.subplots())
        drawn.supxlabel(style.counts(rows), fontsize=7)
    return drawn, notes


def _size(names: list[str]) -> tuple[float, float]:
    """Inches of width and height."""
    longest = 0.055 * max(map(len, names))
    width = max(2.5, min(style.TEXT_WIDTH, 0.3 + longest + 0.62 * len(names)))
    return width, 0.6 + (0.7 * longest if _long(names) else 0.15) + 0.36 * len(names)


def _long(names: list[str]) -> bool:
    """Whether names are too long to stand side by side beneath their columns."""
    return max(map(len, names)) > 8
