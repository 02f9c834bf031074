"""Performance profile at the end of the data: the share of an algorithm's runs above each score, with a band
for its 95 % interval (Agarwal et al. 2021, arXiv 2108.13264). Of a metric that is better where it is lower it
is the share of runs up to each value."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seqeval import analysis

from . import DEFAULTS, FigureKind, FigureOptions, _selection, style


def plot(
    table: pd.DataFrame,
    ax: Axes | None = None,
    styles: style.LineStyles | None = None,
    band: bool = True,
    value: str = "score",
    up_to: bool = False,
) -> Axes:
    """Draws a table of `analysis.performance_profile` as steps; `value` says of what, and with `up_to` the
    shares are of runs up to each level."""
    ax = style.new_axes(*style.PANEL_SIZE) if ax is None else ax
    for line, line_style in style.styled_lines(table, styles):
        style.draw_line(ax, "level", line, line_style, steps=True, band=band)
    side = "up to" if up_to else "above"
    ax.set(xlabel=f"{value} τ at the end of the data", ylabel=f"share of runs {side} τ", ylim=(-0.01, 1.01))
    ax.set_xlim(table["level"].min(), table["level"].max())
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return ax


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The profiles over datasets; of a metric over the seeds of one dataset."""
    _selection.require_one_scale(rows)
    finals = analysis.final_values(rows)
    # A share changes only at the value of a run, so with these levels the steps are exact.
    values = np.unique(finals["value"])
    margin = 0.02 * (values[-1] - values[0]) or 1.0
    table = analysis.performance_profile(finals, [values[0] - margin, *values, values[-1] + margin])
    up_to = "metric" in rows and bool((rows["better"] == "lower").any())
    if up_to:
        table = table.assign(estimate=1 - table["estimate"], low=1 - table["high"], high=1 - table["low"])
    name = style.value_label(rows) if "metric" in rows else "score"
    return style.single_panel(partial(plot, value=name, up_to=up_to), table, rows, options)


FIGURE = FigureKind(figure, scores=True, accepts=("labels", "width", "value", "ylim"), bands=("ci", "none"))
