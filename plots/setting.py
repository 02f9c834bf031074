"""The effect of each swept setting at each size of the data: for each of its values, the mean over
the variants of the sweep with it. (The figure `sensitivity` is about K and γ of the protocol.)"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.analysis import tuning

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[_sizes.Panel]:
    """A panel per sweep and setting, with a line per value of the setting."""
    table = tuning.setting_effects(rows, analysis.studies_of(rows), options.setting)
    value = style.value_label(rows)
    caption = f"{_sizes.one_line(value)}, mean over the other settings of the sweep"
    return [
        _sizes.panel(
            title.replace("\n", f", {setting}\n"),
            part,
            "value",
            _sizes.ordered_styles(part["value"].unique()),
            value,
            caption,
            _sizes.sweep_sizes(rows, part),
        )
        for title, of_sweep in _sizes.by_sweep(table).items()
        for setting, part in of_sweep.groupby("setting", sort=False)
    ]


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep and setting, with a legend of its own."""
    footer = f"means over the other settings of the sweep ({_sizes.sweep_sizes(rows)}){style.unit_text(rows)}"
    panels = tables(rows, options)
    return _sizes.draw(panels, options, footer, options.band != "none", legend_in_panels=True)


FIGURE = FigureKind(
    figure, accepts=("width", "value", "setting", "ylim"), bands=("ci", "none"), tables=tables
)
