"""Score against the data seen so far: a panel a dataset, a line a variant, a band over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from seqeval import aggregate
from seqeval.types import Reference

from . import style


def plot(
    rows: pd.DataFrame, ax: Axes | None = None, behaviour: float | None = None, styles: Mapping | None = None
) -> Axes:
    """One dataset's curves. `behaviour` is the data's own mean, in the unit of the curves.

    Where some seeds of a line have no value (failed, or not come so far) the mean of the others is dotted,
    without a band, and the legend says how many are left at the end.
    """
    if ax is None:
        with style.context():
            ax = Figure(figsize=(style.TEXT_WIDTH / 2, 2.2)).subplots()
    table = labelled(aggregate.curves(rows))
    styles = styles or style.line_styles(table["line"])
    for (name, label), line in table.groupby(["line", "label"], sort=False):
        colour, dash = styles[name]
        whole = line["seeds"] == line["of"]
        if not whole.all():
            ax.plot(line["samples"], line["mean"], color=colour, linestyle=":", linewidth=0.9)
        ax.fill_between(
            line["samples"], line["low"], line["high"], where=whole, color=colour, alpha=0.18, linewidth=0
        )
        ax.plot(line["samples"], line["mean"].where(whole), color=colour, linestyle=dash, label=label)
    if behaviour is not None:
        ax.axhline(behaviour, color="#666666", linestyle="--", linewidth=0.9, zorder=1)
    ax.set_xlim(table["samples"].min(), max(table["samples"].max(), table["samples"].min() + 1))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return ax


def figure(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Every dataset of `rows` in a panel of its own, one legend for all.

    `datasets` holds what the run directory says of each: its `behaviour_return` and `reference`.
    """
    rows = aggregate.with_values(rows)
    names = list(dict.fromkeys(rows["dataset"]))
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    width = style.TEXT_WIDTH * (0.65, 0.8, 1.0)[columns - 1]
    styles = style.line_styles(labelled(rows)["line"])
    with style.context():
        drawn = Figure(figsize=(width, 0.7 + 1.8 * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        handles: dict[str, Line2D] = {}
        for ax, name in zip(axes.flat, names, strict=False):
            mine = rows[rows["dataset"] == name]
            unit = mine["unit"].iloc[0]
            plot(mine, ax, _behaviour(datasets[name], unit), styles)
            ax.set_title(name)
            ax.set_ylabel(unit)
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        handles["mean of the data"] = Line2D([], [], color="#666666", linestyle="--", linewidth=0.9)
        drawn.legend(
            handles.values(),
            handles,
            loc="outside upper center",
            ncols=min((2, 3, 4)[columns - 1], len(handles)),
            frameon=False,
        )
        drawn.supxlabel(f"transitions seen (mean and range over {_seeds(rows)})", fontsize=8)
    return drawn


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """With columns `line`, what a line is called (its variant, and its study where there are several), and
    `label`, the same for the legend, which says if seeds are missing at the end of the line."""
    several = table["study"].nunique() > 1
    line = table["variant"] + (" (" + table["study"] + ")" if several else "")
    table = table.assign(line=line, label=line)
    if "of" in table:
        last = table.groupby("line")[["seeds", "of"]].transform("last")
        left = last["seeds"].astype(str) + " of " + last["of"].astype(str) + " seeds left"
        table["label"] = table["line"].where(last["seeds"] == last["of"], table["line"] + ": " + left)
    return table


def _behaviour(about: Mapping[str, Any], unit: str) -> float:
    """The data's own mean in the unit of a panel."""
    value = about["behaviour_return"]
    return Reference(**about["reference"]).score(value) if unit == "score" else value


def _seeds(rows: pd.DataFrame) -> str:
    counts = rows.groupby(aggregate.LINE)["seed"].nunique()
    low, high = counts.min(), counts.max()
    return f"{high} seed{'s' if high > 1 else ''}" if low == high else f"{low} to {high} seeds"
