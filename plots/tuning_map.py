"""What tuning is worth at each size of the data, as a map: transitions seen × number k of settings tried, and
the expected value of the best as colour."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from seqeval import analysis
from seqeval.analysis import tuning

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, best_of_k, style

COLOURS = "viridis"
MOST = 12  # rows of a map with every k


def plot(table: pd.DataFrame, ax: Axes, limits: tuple[float, float] | None = None) -> Axes:
    """Draws a table of `tuning.best_of_k` of one sweep, with contours; `limits` are the values of the darkest
    and the lightest colour."""
    grid = table.pivot(index="k", columns="samples", values="estimate")
    low, high = limits or (grid.min(axis=None), grid.max(axis=None))
    edges = [_edges(grid.columns.to_numpy(float)), np.arange(len(grid) + 1) - 0.5]
    ax.pcolormesh(*edges, grid.to_numpy(), cmap=COLOURS, vmin=low, vmax=high, rasterized=True)
    ax.set_yticks(range(len(grid)), grid.index)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.locator_params(axis="x", nbins=4)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def _edges(x: np.ndarray) -> np.ndarray:
    """The borders of cells around points: half-way between them, and at the first and the last."""
    if len(x) == 1:
        return np.array([x[0] - 0.5, x[0] + 0.5])
    middle = (x[1:] + x[:-1]) / 2
    return np.concatenate([x[:1], middle, x[-1:]])


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep, each dataset with a colour scale of its own."""
    parts = _sizes.by_sweep(_table(rows, options))
    lower, label = analysis.lower_is_better(rows), style.value_label(rows).replace("\n", " ")
    columns = 3 if len(parts) % 3 == 0 else min(2, len(parts))
    lines = math.ceil(len(parts) / columns)
    with style.context(options):
        width = options.inches(style.TEXT_WIDTH * (0.65, 1.0, 1.0)[columns - 1])
        drawn = Figure(figsize=(width, 0.4 + 2.0 * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        for ax, (title, part) in zip(axes.flat, parts.items(), strict=False):
            of_dataset = [
                p["estimate"] for p in parts.values() if p["dataset"].iloc[0] == part["dataset"].iloc[0]
            ]
            limits = min(e.min() for e in of_dataset), max(e.max() for e in of_dataset)
            plot(part, ax, limits)
            ax.set_title(_sizes.wrapped_lines(title, int(14 * width / columns)))
            if ax in axes[:, 0]:
                ax.set_ylabel("k settings tried")
            bar = drawn.colorbar(ax.collections[0], ax=ax, pad=0.02, aspect=25)
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0)
            if lower:
                bar.ax.invert_yaxis()
        for ax in axes.flat[len(parts) :]:
            ax.set_visible(False)
        footer = (
            f"transitions seen; colour: {label}, expected best of k settings ({_sizes.sweep_sizes(rows)})"
        )
        style.add_footer(drawn, footer + style.unit_text(rows))
    return drawn


def _table(rows: pd.DataFrame, options: FigureOptions) -> pd.DataFrame:
    """The table of `tuning.best_of_k`, by default with every k of a small sweep."""
    if options.k:
        return tuning.best_of_k(rows, options.k)
    tables = []
    for _, part in tuning.sweeps(rows):
        settings = part["variant"].nunique()
        tables.append(tuning.best_of_k(part, range(1, settings + 1) if settings <= MOST else None))
    return pd.concat(tables)


FIGURE = FigureKind(figure, accepts=("width", "value", "k"), tables=best_of_k.tables)
