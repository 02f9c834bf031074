"""Score against the data seen so far, and on the same axis against what is seen online after it: a panel a
dataset, a line a variant, a band over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from seqeval import analysis
from seqeval.types import Reference

from . import style

FROM_SCRATCH = ", from scratch"  # behind the name of a study, of what it learns without data
LOW = 1.8  # inches of height of a panel, where there are at most two lines of them
LOWER = 1.5  # and where there are more, so that twelve panels fit a page


def plot(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    behaviour: float | Sequence[float] | None = None,
    styles: Mapping[tuple[str, str], style.Line] | None = None,
    segments: Sequence[tuple[str, int]] = (),
    end: int | None = None,
    behind: pd.DataFrame | None = None,
) -> Axes:
    """One dataset's curves. `behaviour` is the data's own mean, in the unit of the curves, or that of each
    segment.

    Where some seeds of a line have no value (failed, or not come so far) the mean of the others is dotted,
    without a band, and the legend says how many are left at the end. Where the data ends and lines go on
    online, at n = `end`, there is a dashed line upright. `styles` are by variant and study. `segments`, names
    and sizes, are what the data was joined from where it arrives in turn: there is a dashed line at each
    border. The rows `behind` are other people's runs of algorithms that `rows` have too: thin and grey.
    """
    if ax is None:
        with style.context():
            ax = Figure(figsize=(style.TEXT_WIDTH / 2, 2.2)).subplots()
    table = analysis.mean_curves(rows)
    styles = styles or _with_remarks(styles_of(rows), rows)
    for (variant, study), line in table.groupby(["variant", "study"], sort=False):
        look = styles[variant, study]
        x, mean, whole = line["samples"], line["mean"], line["seeds"] == line["total_seeds"]
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
            label=look.label,
            ms=4,
            clip_on=not alone,
        )
    if isinstance(behaviour, Sequence):
        borders = np.cumsum([0, *(size for _, size in segments)])
        ax.hlines(behaviour, borders[:-1], borders[1:], color="#666666", linestyle="--", lw=0.9, zorder=1)
    elif behaviour is not None:
        ax.axhline(behaviour, color="#666666", linestyle="--", linewidth=0.9, zorder=1)
        ax.autoscale_view(scalex=False)  # a margin for it too: inside of the limits it asks for none
    if end is not None and _goes_on(rows):
        ax.axvline(end, color="#333333", linestyle=(0, (3, 2)), linewidth=0.7, zorder=1)
        for side, name in (("right", "offline "), ("left", " online")):
            across = ax.get_xaxis_transform()
            ax.text(end, 1.0, name, transform=across, ha=side, va="bottom", fontsize=6.5, color="#333333")
    begins = 0
    for name, size in segments:
        if begins:
            ax.axvline(begins, color="#999999", linestyle="--", linewidth=0.7, zorder=1)
        across, middle = ax.get_xaxis_transform(), begins + size / 2
        ax.text(middle, 1.0, name, transform=across, ha="center", va="bottom", fontsize=6.5, color="#333333")
        begins += size
    if table["samples"].nunique() > 1:
        ax.set_xlim(table["samples"].min(), table["samples"].max())
    if behind is not None:
        variants = rows.drop_duplicates("algorithm").set_index("algorithm")[["variant", "study"]]
        for algorithm, runs in behind.groupby("algorithm", sort=False):
            _plot_behind(runs, ax, styles[tuple(variants.loc[algorithm])].colour)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return ax


def figure(
    rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]], behind: pd.DataFrame | None = None
) -> Figure:
    """Every dataset of `rows` in a panel of its own, one legend for all.

    `datasets` holds what the run directory says of each: `env_id`, `transitions`, `behaviour_return`,
    `reference`, and `segments` with their names in `segments_in_turn`; in `segment_returns`, where it is
    known, the mean return of each. What was learnt without data is drawn in every panel of the same
    environment. `behind` are rows of other people's runs, in scores, of some of the same datasets and
    algorithms.
    """
    rows = analysis.with_values(beside_data(rows, datasets))
    names = list(rows["dataset"].unique())
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    width = style.TEXT_WIDTH * (0.65, 0.8, 1.0)[columns - 1]
    # A letter is about 0.56 as wide as high, and a panel has four fifths of its column.
    title = min(max(0.8 * 72 * width / columns / (0.56 * max(map(len, names))), 5), 8)
    styles = _with_remarks(styles_of(rows), rows)
    both = {*rows["phase"].unique()} == {"offline", "online"}
    with style.context():
        drawn = Figure(figsize=(width, 0.53 + (LOW if lines < 3 else LOWER) * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        handles: dict[str, Line2D] = {}
        unit = None
        for place, (ax, name) in enumerate(zip(axes.flat, names, strict=False)):
            mine, before = rows[rows["dataset"] == name], unit
            unit = mine["unit"].iloc[0]
            segments = segments_of(datasets[name])
            theirs = None if behind is None else behind[behind["dataset"] == name]
            behaviour, end = _behaviour(datasets[name], unit), datasets[name]["transitions"]
            plot(mine, ax, behaviour, styles, segments, end, theirs)
            ax.set_title(name, pad=12 if both or segments else None, fontsize=title)
            if place % columns == 0 or unit != before:
                ax.set_ylabel(unit)
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        if any(datasets[name]["transitions"] for name in names):
            handles["mean of the data"] = Line2D([], [], color="#666666", linestyle="--", linewidth=0.9)
        if behind is not None and behind["dataset"].isin(names).any():
            handles["published runs (dots: mean)"] = Line2D(
                [], [], color=style.GREY, lw=0.8, marker="o", ms=2, mew=0
            )
        style.legend_above(drawn, handles, (2, 3, 4)[columns - 1])
        drawn.supxlabel(f"transitions seen ({_seeds(rows)})", fontsize=8)
    return drawn


def _plot_behind(runs: pd.DataFrame, ax: Axes, colour: str) -> None:
    """Other people's runs of an algorithm: each of them, and as far as all of them go their mean, its dots in
    our colour of the algorithm."""
    for _, run in runs.groupby("seed"):
        ax.plot(run["samples"], run["score"], color=style.FAINT, linewidth=0.4, zorder=1.2)
    scores = runs.pivot(index="samples", columns="seed", values="score").dropna()
    dots = {"marker": "o", "ms": 1.6, "mfc": colour, "mew": 0}
    ax.plot(scores.index, scores.mean(axis=1), color=style.GREY, linewidth=0.8, zorder=1.3, **dots)


def beside_data(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Rows without data as rows of every dataset of their environment, on its scale; those of environments
    without one stay as they are."""
    without = rows["dataset"].map(lambda name: datasets[name]["transitions"] == 0)
    parts = [rows[~without]]
    for name, scratch in rows[without].groupby("dataset", sort=False):
        hosts = [
            host
            for host in rows.loc[~without, "dataset"].unique()
            if datasets[host]["env_id"] == datasets[name]["env_id"]
        ]
        for host in hosts:
            scale = datasets[host]["reference"]
            score = Reference(**scale).score(scratch["return_mean"]) if scale else math.nan
            study = scratch["study"] + FROM_SCRATCH
            parts.append(scratch.assign(dataset=host, score=score, study=study))
        if not hosts:
            parts.append(scratch)
    return pd.concat(parts, ignore_index=True)


def segments_of(about: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What arrives in turn, names and sizes; names without the words that all of them begin or end with."""
    words = [name.split("-") for name in about.get("segments_in_turn", ())]  # older directories lack it
    while words and min(map(len, words)) > 1 and len({each[0] for each in words}) == 1 < len(words):
        words = [each[1:] for each in words]
    while words and min(map(len, words)) > 1 and len({each[-1] for each in words}) == 1 < len(words):
        words = [each[:-1] for each in words]
    return [("-".join(each), size) for each, size in zip(words, about["segments"], strict=bool(words))]


def _goes_on(rows: pd.DataFrame) -> bool:
    """Whether a line goes on online where the data ends."""
    return bool((rows.groupby(analysis.LINE)["phase"].nunique() > 1).any())


def styles_of(rows: pd.DataFrame) -> dict[tuple[str, str], style.Line]:
    """Studies that meet in a panel with one variant are told apart: by their regimes if these differ, else by
    their names. What was learnt from scratch is always called so."""
    scratch = rows["study"].str.endswith(FROM_SCRATCH)
    beside = rows.loc[scratch, "study"].unique()
    called = {study: "from scratch" if len(beside) == 1 else study for study in beside}
    return style.lines(analysis.variants(rows), _names_of_studies(rows[~scratch]) | called)


def _with_remarks(
    styles: Mapping[tuple[str, str], style.Line], rows: pd.DataFrame
) -> dict[tuple[str, str], style.Line]:
    """Styles whose labels say too which lines are frozen online, and how many seeds are left at the end of
    those that have lost some, over all panels."""
    frozen = {(variant, study) for _, variant, study in analysis.frozen_lines(rows)}
    ends = analysis.mean_curves(rows).groupby(analysis.LINE, sort=False).tail(1)
    found = {}
    for key, look in styles.items():
        lost = ends[
            (ends["variant"] == key[0]) & (ends["study"] == key[1]) & (ends["seeds"] < ends["total_seeds"])
        ]
        remarks = ["frozen online"] * (key in frozen)
        if len(lost):
            remarks.append(f"dotted: {_range(lost['seeds'])} of {_range(lost['total_seeds'])} seeds")
        found[key] = look._replace(label=f"{look.label} ({'; '.join(remarks)})") if remarks else look
    return found


def _names_of_studies(rows: pd.DataFrame) -> dict[str, str]:
    """What each study is called in the legend; nothing where none need be told from another."""
    regimes = rows.drop_duplicates("study").set_index("study")["regime"].to_dict()
    alone = rows.groupby(["dataset", "variant"])["study"].nunique().max() == 1
    if alone and len(set(regimes.values())) == 1:
        return dict.fromkeys(regimes, "")
    if len(set(regimes.values())) == len(regimes):
        return regimes
    return {study: study for study in regimes}


def _behaviour(about: Mapping[str, Any], unit: str) -> float | list[float] | None:
    """The data's own mean in the unit of a panel, or those of its segments where they are known; None without
    data."""
    in_unit = Reference(**about["reference"]).score if unit == "score" else float
    if "segment_returns" in about:
        return [in_unit(value) for value in about["segment_returns"]]
    value = about["behaviour_return"]
    return None if value is None else in_unit(value)


def _range(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return f"{high}" if low == high else f"{low} to {high}"


def _seeds(rows: pd.DataFrame) -> str:
    counts = rows.groupby(analysis.LINE)["seed"].nunique()
    return "1 seed" if counts.max() == 1 else f"mean and range over {_range(counts)} seeds"
