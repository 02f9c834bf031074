"""What tuning is worth at each size of the data: the expected best of k settings of a sweep, a line per k."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval.analysis import tuning
from seqeval.analysis.size_tables import SizeTable

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style


def numbers(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> pd.DataFrame:
    """The table of `tuning.best_of_k`, with a column `best of`."""
    table = tuning.best_of_k(rows, options.k or None)
    return table.assign(**{"best of": [f"k = {k}" for k in table["k"]]})


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep."""
    table = numbers(rows, options)
    parts = _sizes.by_sweep(table)
    styles = _sizes.ordered_styles([f"k = {k}" for k in sorted(table["k"].unique())])
    band = options.band != "none"
    labels = dict.fromkeys(parts, style.value_label(rows))
    footer = (
        f"transitions seen; expected best of k settings drawn at random ({_sizes.sweep_sizes(rows)}"
        f"{', 95 % intervals' if band else ''}){style.unit_text(rows)}"
    )
    return _sizes.panels(parts, "best of", dict.fromkeys(parts, styles), options, labels, footer, band)


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[SizeTable]:
    """A table per sweep, with a row per k."""
    parts = _sizes.by_sweep(numbers(rows, options))
    value = style.value_label(rows).replace("\n", " ")
    caption = f"{value} of the best of k settings, drawn at random and chosen by their true values"
    return _sizes.captioned(parts, "best of", caption, _sizes.sweep_sizes(rows))


FIGURE = FigureKind(figure, accepts=("width", "value", "k", "ylim"), bands=("ci", "none"), tables=tables)
