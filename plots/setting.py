"""The effect of each swept setting at each size of the data: for each of its values the mean over all variants
of the sweep that have it. (The figure `sensitivity` is about K and γ, which belong to the protocol.)"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.analysis import tuning
from seqeval.analysis.size_tables import SizeTable

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style


def numbers(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> dict[str, pd.DataFrame]:
    """The table of `tuning.setting_effects` of each sweep and setting, by a title."""
    table = tuning.setting_effects(rows, analysis.studies_of(rows), options.setting)
    return {
        title.replace("\n", f", {setting}\n"): part
        for title, of_sweep in _sizes.by_sweep(table).items()
        for setting, part in of_sweep.groupby("setting", sort=False)
    }


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep and setting, with a legend of its own."""
    parts = numbers(rows, options)
    band = options.band != "none"
    labels = dict.fromkeys(parts, style.value_label(rows))
    footer = (
        f"transitions seen; means over the other settings of the sweep ({_sizes.sweep_sizes(rows)}"
        f"{', 95 % intervals' if band else ''}){style.unit_text(rows)}"
    )
    values = {title: _sizes.ordered_styles(part["value"].unique()) for title, part in parts.items()}
    return _sizes.panels(parts, "value", values, options, labels, footer, band, legend_in_panels=True)


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[SizeTable]:
    """A table per sweep and setting, with a row per value of the setting."""
    value = style.value_label(rows).replace("\n", " ")
    caption = f"{value}, mean over the other settings of the sweep"
    return _sizes.captioned(numbers(rows, options), "value", caption, _sizes.sweep_sizes(rows))


FIGURE = FigureKind(
    figure, accepts=("width", "value", "setting", "ylim"), bands=("ci", "none"), tables=tables
)
