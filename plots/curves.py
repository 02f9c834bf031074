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
    rows: pd.DataFrame,
    ax: Axes | None = None,
    behaviour: float | None = None,
    styles: Mapping[tuple[str, str], style.Line] | None = None,
) -> Axes:
    """One dataset's curves. `behaviour` is the data's own mean, in the unit of the curves.

    Where some seeds of a line have no value (failed, or not come so far) the mean of the others is dotted,
    without a band, and the legend says how many are left at the end. `styles` are by variant and study.
    """
    if ax is None:
        with style.context():
            ax = Figure(figsize=(style.TEXT_WIDTH / 2, 2.2)).subplots()
    table = aggregate.curves(rows)
    styles = styles or _styles(rows)
    for (variant, study), line in table.groupby(["variant", "study"], sort=False):
        look = styles[variant, study]
        x, mean, whole = line["samples"], line["mean"], line["seeds"] == line["of"]
        left, of = line[["seeds", "of"]].iloc[-1]
        label = look.label if left == of else f"{look.label}: {left} of {of} seeds left"
        alone = whole.sum() == 1  # a line needs two points: one is a marker, and a bar for its range
        if not whole.all():
            ax.plot(x, mean, color=look.colour, linestyle=":", linewidth=0.9)
        if alone:
            ax.vlines(x[whole], line["low"][whole], line["high"][whole], color=look.colour, linewidth=0.9)
        else:
            ax.fill_between(x, line["low"], line["high"], where=whole, color=look.colour, alpha=0.18, lw=0)
        marker = "o" if alone else None
        ax.plot(
            x,
            mean.where(whole),
            color=look.colour,
            linestyle=look.dash,
            marker=marker,
            label=label,
            ms=4,
            clip_on=not alone,
        )
    if behaviour is not None:
        ax.axhline(behaviour, color="#666666", linestyle="--", linewidth=0.9, zorder=1)
    if table["samples"].nunique() > 1:
        ax.set_xlim(table["samples"].min(), table["samples"].max())
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
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
    styles = _styles(rows)
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
        ncols = min((2, 3, 4)[columns - 1], len(handles))
        drawn.legend(handles.values(), handles, loc="outside upper center", ncols=ncols, frameon=False)
        drawn.supxlabel(f"transitions seen ({_seeds(rows)})", fontsize=8)
    return drawn


def _styles(rows: pd.DataFrame) -> dict[tuple[str, str], style.Line]:
    """Studies that meet in a panel with one variant are told apart: by their regimes if these differ, else by
    their names."""
    regimes = rows.drop_duplicates("study").set_index("study")["regime"].to_dict()
    if rows.groupby(["dataset", "variant"])["study"].nunique().max() == 1:
        names = dict.fromkeys(regimes, "")
    elif len(set(regimes.values())) == len(regimes):
        names = regimes
    else:
        names = {study: study for study in regimes}
    return style.lines(zip(rows["variant"], rows["study"], strict=True), names)


def _behaviour(about: Mapping[str, Any], unit: str) -> float:
    """The data's own mean in the unit of a panel."""
    value = about["behaviour_return"]
    return Reference(**about["reference"]).score(value) if unit == "score" else value


def _seeds(rows: pd.DataFrame) -> str:
    counts = rows.groupby(aggregate.LINE)["seed"].nunique()
    low, high = counts.min(), counts.max()
    if high == 1:
        return "1 seed"
    return f"mean and range over {high if low == high else f'{low} to {high}'} seeds"
