"""Probability of improvement at the end of the data: how likely a run of the row's algorithm has a higher
score than a run of the column's algorithm on the same dataset, as a mean over datasets, with its 95 %
interval (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError

from . import DEFAULTS, FigureKind, FigureOptions, _selection, style
from ._text import wrapped

COLOURS = "RdBu"  # distinct for colour-blind readers; white is 0.5
LETTER = 0.055  # inches: width of a letter of a name
DARK = 0.32  # distance from 0.5 above which the background is so dark that the text is white


def plot(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws a table of `analysis.probability_of_improvement`."""
    names = list(dict.fromkeys(table["first"]))
    ax = style.new_axes(*_size(names)) if ax is None else ax
    beside = LETTER * max(map(_length, names)) + 0.2  # inches
    cell = (ax.get_figure(root=True).get_figwidth() - beside) / len(names)
    small = min(0.75 * mpl.rcParams["font.size"], 72 * cell / (10 * 0.62))  # an interval has nine letters
    places = {name: place for place, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    centred = {"ha": "center", "va": "center"}
    for pair in table.to_dict("records"):
        row, column = places[pair["first"]], places[pair["second"]]
        values[row, column] = pair["estimate"]
        ink = "#FFFFFF" if abs(pair["estimate"] - 0.5) > DARK else "#000000"
        ax.text(column, row - 0.12, f"{pair['estimate']:.2f}", fontsize="small", color=ink, **centred)
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


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The matrix over all pairs of lines. Raises UserError if there is only one line."""
    styles = style.line_styles_over_datasets(rows, _selection.names(rows, options))
    order = list(analysis.line_labels(styles).values())
    if len(order) == 1:
        raise UserError(f"plot: improvement needs two lines to compare, and {order[0]} is the only line")
    table = analysis.probability_of_improvement(
        analysis.final_values(rows), lower_is_better=analysis.lower_is_better(rows)
    )
    table = table.sort_values("first", key=lambda names: names.map(order.index), kind="stable")
    texts = [wrapped(line_style.label, style.NAME_WIDTH) for line_style in styles.values()]
    with style.context(options):
        width, height = _size(texts)
        drawn = Figure(figsize=(options.inches(width), height))
        renamed = dict(zip(order, texts, strict=True))
        plot(table.replace({"first": renamed, "second": renamed}), drawn.subplots())
        style.add_footer(drawn, style.ranked_by(rows) + style.sample_sizes(rows))
    return drawn


def _size(names: list[str]) -> tuple[float, float]:
    """Width and height in inches."""
    longest = LETTER * max(map(_length, names))
    width = max(2.5, min(style.TEXT_WIDTH, 0.3 + longest + 0.62 * len(names)))
    row = 0.36 if not any(name.count("\n") > 1 for name in names) else 0.44
    return width, 0.6 + (0.8 * longest if _are_long(names) else 0.15) + row * len(names)


def _are_long(names: list[str]) -> bool:
    """Whether names are too long to stand side by side below their columns."""
    return max(map(_length, names)) > 8


def _length(name: str) -> int:
    """Characters in the longest line of a name."""
    return max(map(len, name.split("\n")))


FIGURE = FigureKind(figure, scores=True, accepts=("labels", "width", "value"))
