"""Performance profile at the end of the data: the share of an algorithm's runs above each score, with a band
for its 95 % interval (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seqeval import analysis

from . import DEFAULTS, FigureKind, FigureOptions, style


def plot(
    table: pd.DataFrame, ax: Axes | None = None, styles: style.LineStyles | None = None, band: bool = True
) -> Axes:
    """Draws a table of `analysis.performance_profile` as steps."""
    ax = style.new_axes(*style.PANEL_SIZE) if ax is None else ax
    for line, line_style in style.styled_lines(table, styles):
        style.draw_line(ax, "level", line, line_style, steps=True, band=band)
    ax.set(xlabel="score τ at the end of the data", ylabel="share of runs above τ", ylim=(-0.01, 1.01))
    ax.set_xlim(table["level"].min(), table["level"].max())
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return ax


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The profiles over datasets."""
    finals = analysis.final_values(rows)
    # A share changes only at the score of a run, so with these levels the steps are exact.
    scores = np.unique(finals["value"])
    margin = 0.02 * (scores[-1] - scores[0]) or 1.0
    table = analysis.performance_profile(finals, [scores[0] - margin, *scores, scores[-1] + margin])
    return style.single_panel(plot, table, rows, options)


FIGURE = FigureKind(figure, scores=True, accepts=("labels", "width", "ylim"), bands=("ci", "none"))
