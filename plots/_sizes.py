"""What figures over sizes of the data share: panels with a line per rule, setting or metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from seqeval.analysis import tuning
from seqeval.analysis.size_tables import SizeTable

from . import FigureOptions, style
from ._axis import DataAxis
from ._text import counted, wrapped

NEW_LINE = "\n"
HEIGHT = 1.8  # inches: a panel
Styles = Mapping[str, style.LineStyle]  # by the name of a line


def by_sweep(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The part of a table of `analysis.tuning` that belongs to each sweep, by a title in two lines."""
    several = table["study"].nunique() > 1
    return {
        f"{algorithm}\n{dataset}" + (f" ({study})" if several else ""): part
        for (dataset, algorithm, study), part in table.groupby(tuning.SWEEP, sort=False)
    }


def sweep_sizes(rows: pd.DataFrame) -> str:
    """The number of settings and seeds of the sweeps, as text."""
    settings = rows.groupby(tuning.SWEEP)["variant"].nunique()
    low, high = settings[settings > 1].min(), settings.max()
    count = counted(high, "setting") if low == high else f"{low} to {counted(high, 'setting')}"
    return f"{count}, {style.seed_count(rows)} each"


def ordered_styles(names: Sequence[str]) -> dict[str, style.LineStyle]:
    """Styles of lines with an order: colours from dark to light."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(names)))
    return {
        name: style.LineStyle(name, to_hex(colour), "-") for name, colour in zip(names, colours, strict=True)
    }


def panels(
    parts: Mapping[str, pd.DataFrame],
    line: str,
    styles: Mapping[str, Styles],
    options: FigureOptions,
    labels: Mapping[str, str],
    footer: str,
    band: bool,
    legend_in_panels: bool = False,
) -> Figure:
    """A panel for each part, by its title, with a line for each value of the column `line`.

    `styles` of lines and `labels`, the texts of the y axes, are by the same titles. The panels share a legend
    above them unless each has one of its own.
    """
    columns = min(3, len(parts))
    width = options.inches(style.TEXT_WIDTH * (0.65, 0.8, 1.0)[columns - 1])
    columns = min(columns, max(1, int(width / 1.55)))
    lines = math.ceil(len(parts) / columns)
    with style.context(options):
        drawn = Figure(figsize=(width, 0.53 + HEIGHT * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        handles = {}
        for place, (ax, (title, part)) in enumerate(zip(axes.flat, parts.items(), strict=False)):
            plot(part, line, styles[title], ax, band)
            ax.set_title(wrapped_lines(title, int(14 * width / columns)))
            if options.ylim:
                ax.set_ylim(*options.ylim)
            previous = list(labels.values())[place - 1] if place % columns else None
            if labels[title] != previous:
                ax.set_ylabel(labels[title])
            if legend_in_panels:
                ax.legend(fontsize="small", frameon=False, handlelength=1.2, labelspacing=0.2)
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        for ax in axes.flat[len(parts) :]:
            ax.set_visible(False)
        if not legend_in_panels:
            texts = [one.label for of_panel in styles.values() for one in of_panel.values()]
            ordered = {text: handles[text] for text in dict.fromkeys(texts) if text in handles}
            style.add_legend(drawn, ordered, (3, 4, 6)[columns - 1])
        style.add_footer(drawn, footer)
    return drawn


def plot(table: pd.DataFrame, line: str, styles: Styles, ax: Axes, band: bool = True) -> Axes:
    """Draws `estimate` against `samples`, one line for each value of the column `line` that has a style."""
    parts = dict(iter(table.groupby(line, sort=False)))
    for name, line_style in styles.items():
        if name in parts:
            style.draw_line(ax, "samples", parts[name].sort_values("samples"), line_style, band=band)
    first, last = table["samples"].min(), table["samples"].max()
    DataAxis(first, last, last).set_up(ax, broken=False)
    return ax


def wrapped_lines(title: str, width: int) -> str:
    """A title whose lines are each broken if they are longer than `width` characters."""
    return NEW_LINE.join(wrapped(line, width) for line in title.split(NEW_LINE))


def captioned(parts: Mapping[str, pd.DataFrame], rows: str, caption: str, seeds: str) -> list[SizeTable]:
    """A table for each part, by its title."""
    return [
        SizeTable(
            f"{title.replace(NEW_LINE, ' on ')}: {caption} ({seeds}), with 95 % bootstrap intervals over seeds.",
            rows,
            part,
        )
        for title, part in parts.items()
    ]
