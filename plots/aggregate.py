"""An estimator over all datasets against the share of each dataset seen: one line per algorithm, with a band
for its 95 % interval.

The figure shows the IQM only: mean, median and optimality gap along the data mostly repeat it, and one panel
is readable at the width of a column. `plot` draws any of them from its table.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis

from . import DEFAULTS, FigureKind, FigureOptions, _selection, style

NAMES = {"mean": "mean", "median": "median", "iqm": "IQM", "optimality_gap": "optimality gap"}


def plot(
    table: pd.DataFrame,
    ax: Axes | None = None,
    styles: style.LineStyles | None = None,
    band: bool = True,
    value: str = "scores",
) -> Axes:
    """Draws one estimator of `analysis.aggregate_curves`; `value` says of what."""
    ax = style.new_axes(*style.PANEL_SIZE) if ax is None else ax
    (estimator,) = set(table["estimator"])
    for line, line_style in style.styled_lines(table, styles):
        style.draw_line(ax, "share", line, line_style, band=band)
    style.set_share_axis(ax, table["share"])
    ax.set_ylabel(f"{NAMES[estimator]} of {value}")
    return ax


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The IQM over datasets; of a metric over the seeds of one dataset."""
    _selection.require_one_scale(rows)
    table = analysis.aggregate_curves(rows, style.dataset_sizes(rows), ["iqm"])
    draw = partial(plot, value=style.value_label(rows)) if "metric" in rows else plot
    return style.single_panel(draw, table, rows, options)


FIGURE = FigureKind(
    figure, scores=True, accepts=("labels", "width", "value", "ylim", "smooth"), bands=("ci", "none")
)
