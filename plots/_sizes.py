"""What figures over sizes of the data share: panels with a line per rule, setting or metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from seqeval.analysis import tuning
from seqeval.analysis.size_tables import SizeTable

from . import FigureOptions, style
from ._axis import DataAxis
from ._text import counted, wrapped

NEW_LINE = "\n"
FEW = 4  # lines in a panel
HEIGHT = 1.8  # inches: a panel
Styles = Mapping[str, style.LineStyle]  # by the name of a line


def by_sweep(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The part of a table of `analysis.tuning` that belongs to each sweep, by a title in two lines."""
    several = table["study"].nunique() > 1
    return {
        f"{algorithm}\n{dataset}" + (f" ({study})" if several else ""): part
        for (dataset, algorithm, study), part in table.groupby(tuning.SWEEP, sort=False)
    }


def sweep_sizes(rows: pd.DataFrame, part: pd.DataFrame | None = None) -> str:
    """The number of settings and seeds of the sweeps, as text; only of the one that `part` is about."""
    if part is not None:
        rows = rows[(rows[tuning.SWEEP] == part[tuning.SWEEP].iloc[0]).all(axis=1)]
    settings = rows.groupby(tuning.SWEEP)["variant"].nunique()
    low, high = settings[settings > 1].min(), settings.max()
    count = counted(high, "setting") if low == high else f"{low} to {counted(high, 'setting')}"
    return f"{count}, {style.seed_count(rows)} each"


def shows_band(options: FigureOptions, panels: Sequence[Panel]) -> bool:
    """Whether lines have bands: by default only if they are few, since bands of many hide each other."""
    few = all(len(one.styles) <= FEW for one in panels)
    return options.band == "ci" or (options.band is None and few)


def one_line(label: str) -> str:
    """The text of an axis in one line."""
    return label.replace(NEW_LINE, " ")


def ordered_styles(names: Sequence[str]) -> dict[str, style.LineStyle]:
    """Styles of lines with an order: colours from dark to light."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(names)))
    return {
        name: style.LineStyle(name, to_hex(colour), "-") for name, colour in zip(names, colours, strict=True)
    }


@dataclass(frozen=True)
class Panel(SizeTable):
    """A panel with its numbers: `rows` names the column with a value for each line, `styles` are by that
    value, `title` is in two lines."""

    title: str
    styles: Styles
    ylabel: str


def panel(
    title: str, table: pd.DataFrame, line: str, styles: Styles, ylabel: str, caption: str, sizes: str
) -> Panel:
    """A panel whose table has a caption that begins with the title and says what the intervals are."""
    about = f"{title.replace(NEW_LINE, ' on ')}: {caption} ({sizes})"
    return Panel(f"{about}, with 95 % bootstrap intervals over seeds.", line, table, title, styles, ylabel)


def draw(
    panels: Sequence[Panel], options: FigureOptions, footer: str, band: bool, legend_in_panels: bool = False
) -> Figure:
    """All panels, with one legend above them or one in each, and a text below, which says what bands are."""
    columns = min(3, len(panels))
    width = options.inches(style.TEXT_WIDTH * (0.65, 0.8, 1.0)[columns - 1])
    columns = min(columns, max(1, int(width / 1.55)))
    lines = math.ceil(len(panels) / columns)
    with style.context(options):
        drawn = Figure(figsize=(width, 0.65 + HEIGHT * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        handles: dict[str, Artist] = {}
        for place, (ax, one) in enumerate(zip(axes.flat, panels, strict=False)):
            plot(one.numbers, one.rows, one.styles, ax, band)
            ax.set_title(wrapped_lines(one.title, int(14 * width / columns)))
            if options.ylim:
                ax.set_ylim(*options.ylim)
            if place % columns == 0 or one.ylabel != panels[place - 1].ylabel:
                ax.set_ylabel(one.ylabel)
            if legend_in_panels:
                ax.legend(fontsize="small", frameon=False, handlelength=1.2, labelspacing=0.2)
            found, labels = ax.get_legend_handles_labels()
            handles |= dict(zip(labels, found, strict=True))
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        if not options.ylim:
            _share_limits(axes.flat, panels)
        if not legend_in_panels:
            texts = [line_style.label for one in panels for line_style in one.styles.values()]
            ordered = {text: handles[text] for text in dict.fromkeys(texts) if text in handles}
            style.add_legend(drawn, ordered, (3, 4, 6)[columns - 1])
        bands = "; bands: 95 % intervals over seeds" if band else ""
        style.add_footer(drawn, f"transitions seen; {footer}{bands}")
    return drawn


def _share_limits(axes: Iterable[Axes], panels: Sequence[Panel]) -> None:
    """Gives panels of the same dataset and quantity the same limits, so that they can be compared."""
    alike: dict[tuple[str, str], list[Axes]] = {}
    for ax, one in zip(axes, panels, strict=False):
        alike.setdefault((one.ylabel, one.numbers["dataset"].iloc[0]), []).append(ax)
    for group in alike.values():
        limits = [ax.get_ylim() for ax in group]
        for ax in group:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


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
