"""Probability of improvement at the end of the data: how likely a run of the row's algorithm has a higher
score than a run of the column's algorithm on the same dataset, as a mean over datasets, with its 95 %
interval (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError

from . import FigureKind, style

COLOURS = "RdBu"  # distinct for colour-blind readers; white is 0.5
DARK = 0.32  # distance from 0.5 above which the background is so dark that the text is white


def plot(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws a table of `analysis.probability_of_improvement`."""
    names = list(dict.fromkeys(table["first"]))
    ax = style.new_axes(*_size(names)) if ax is None else ax
    small = 6 if len(names) < 8 else 4.8  # points: intervals of ten lines fit the width of a page
    places = {name: place for place, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    centred = {"ha": "center", "va": "center"}
    for pair in table.to_dict("records"):
        row, column = places[pair["first"]], places[pair["second"]]
        values[row, column] = pair["estimate"]
        ink = "#FFFFFF" if abs(pair["estimate"] - 0.5) > DARK else "#000000"
        ax.text(column, row - 0.12, f"{pair['estimate']:.2f}", fontsize=7, color=ink, **centred)
        if np.isfinite(pair["low"]):  # a single seed has no interval
            ends = f"{pair['low']:.2f}–{pair['high']:.2f}"
            ax.text(column, row + 0.22, ends, fontsize=small, color=ink, **centred)
    ax.imshow(values, cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    rotated = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if _are_long(names) else {}
    ax.set_xticks(range(len(names)), names, **rotated)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_facecolor("#E6E6E6")  # shows on the diagonal
    ax.set_title("P(row better than column)")
    return ax


def figure(rows: pd.DataFrame) -> Figure:
    """The matrix over all pairs of lines. Raises UserError if there is only one line."""
    order = [line_style.label for line_style in style.line_styles_over_datasets(rows).values()]
    if len(order) == 1:
        raise UserError(f"plot: improvement needs two lines to compare, and {order[0]} is the only line")
    table = analysis.probability_of_improvement(analysis.final_values(rows))
    table = table.sort_values("first", key=lambda names: names.map(order.index), kind="stable")
    with style.context():
        drawn = Figure(figsize=_size(list(dict.fromkeys(table["first"]))))
        plot(table, drawn.subplots())
        drawn.supxlabel(style.sample_sizes(rows), fontsize=7)
    return drawn


def _size(names: list[str]) -> tuple[float, float]:
    """Width and height in inches."""
    longest = 0.055 * max(map(len, names))
    width = max(2.5, min(style.TEXT_WIDTH, 0.3 + longest + 0.62 * len(names)))
    return width, 0.6 + (0.7 * longest if _are_long(names) else 0.15) + 0.36 * len(names)


def _are_long(names: list[str]) -> bool:
    """Whether names are too long to stand side by side below their columns."""
    return max(map(len, names)) > 8


FIGURE = FigureKind(figure, scores=True)
