"""Mean rank over datasets against the share of each dataset seen, the best on top: one line per algorithm,
with a band for its 95 % interval."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis

from . import DEFAULTS, FigureKind, FigureOptions, style


def plot(
    table: pd.DataFrame, ax: Axes | None = None, styles: style.LineStyles | None = None, band: bool = True
) -> Axes:
    """Draws a table of `analysis.mean_ranks`. Tied lines are drawn one line width apart, all visible."""
    ax = style.new_axes(*style.PANEL_SIZE) if ax is None else ax
    last = table.groupby(["variant", "study"]).ngroups
    ax.set(ylabel="mean rank (1: best)", ylim=(last + 0.1, 0.9))
    for line, line_style in style.styled_lines(_separate_ties(table, _line_width(ax)), styles):
        style.draw_line(ax, "share", line, line_style, band=band)
    style.set_share_axis(ax, table["share"])
    ax.set_yticks(range(1, last + 1, -(-last // 6)))
    return ax


def _separate_ties(table: pd.DataFrame, distance: float) -> pd.DataFrame:
    """The table with estimates that are equal at an x moved apart by `distance`, around their value."""
    tied = table.groupby(["share", "estimate"], sort=False)["estimate"]
    place = tied.cumcount() - (tied.transform("size") - 1) / 2
    return table.assign(estimate=table["estimate"] + distance * place)


def _line_width(ax: Axes) -> float:
    """The width of a line in units of the y axis."""
    points = 72 * ax.get_window_extent().height / ax.get_figure(root=True).dpi
    low, high = ax.get_ylim()
    return style.RC["lines.linewidth"] * abs(high - low) / points


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The mean ranks over datasets."""
    table = analysis.mean_ranks(rows, style.dataset_sizes(rows))
    return style.single_panel(plot, table, rows, options, style.ranked_by(rows))


FIGURE = FigureKind(
    figure, scores=True, accepts=("labels", "width", "value", "ylim", "smooth"), bands=("ci", "none")
)
