"""What tuning is worth at each size of the data: the expected best of k settings of a sweep, a line per k."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval.analysis import tuning

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[_sizes.Panel]:
    """A panel per sweep, with a line per k."""
    table = tuning.best_of_k(rows, options.k or None)
    table["best of"] = [f"k = {k}" for k in table["k"]]
    styles = _sizes.ordered_styles([f"k = {k}" for k in sorted(table["k"].unique())])
    value = style.value_label(rows)
    caption = f"{_sizes.one_line(value)} of the best of k settings, drawn at random and judged by this value"
    return [
        _sizes.panel(title, part, "best of", styles, value, caption, _sizes.sweep_sizes(rows, part))
        for title, part in _sizes.by_sweep(table).items()
    ]


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep."""
    footer = (
        f"expected best of k settings drawn at random ({_sizes.sweep_sizes(rows)}){style.unit_text(rows)}"
    )
    return _sizes.draw(tables(rows, options), options, footer, options.band != "none")


FIGURE = FigureKind(figure, accepts=("width", "value", "k", "ylim"), bands=("ci", "none"), tables=tables)
