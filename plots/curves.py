"""Score against the data seen, then, on the same axis, against online steps: one panel per dataset, one line
per variant, with a band over its seeds. A phase that is too short to be read gets a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seqeval import analysis
from seqeval.errors import UserError
from seqeval.types import Reference

from . import DEFAULTS, FigureKind, FigureOptions, _folding, _published, _selection, style
from ._axis import DataAxis
from ._text import count_range, wrapped

FROM_SCRATCH = ", from scratch"  # appended to the name of a study, for what it learned without a dataset
HEIGHT = 1.8  # inches: a panel where there are at most two rows of them
LOW_HEIGHT = 1.5  # inches: with more rows, so that twelve panels fit a page
LEAST_WIDTH = 1.55  # inches: a panel with its labels
DASHED = {"color": "#666666", "linestyle": "--", "linewidth": 0.9}  # the mean return of the data
BANDS = {  # what a legend below the figure says of mean and band
    "range": "mean and range over {}",
    "std": "mean ± standard deviation over {}",
    "ci": "mean and 95 % bootstrap interval over {}",
    "none": "mean over {}",
}


def plot(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    data_mean: float | Sequence[float] | None = None,
    styles: style.LineStyles | None = None,
    segments: Sequence[tuple[str, int]] = (),
    end: int | None = None,
    published: pd.DataFrame | None = None,
    band: str = "range",
    share: bool = False,
    broken: bool = False,
) -> Axes:
    """Draws the curves of one dataset.

    `data_mean` is the mean return of the data, in the unit of the curves, or a list with that of each
    segment. `segments` are the names and sizes of the parts that arrive in turn; a dashed vertical line marks
    each border. `end` is the size of the dataset, marked where lines continue online. `published` are rows of
    published runs of some of the same algorithms, drawn thin and grey; if their offline x is another one, it
    has an axis of its own above the panel. `band` is one of `BANDS`. With `share`
    the x axis is the share of the dataset, for which `end` is needed. `broken` gives the online phase a scale
    of its own.

    Where some seeds of a line have no value (failed or incomplete), the mean of the others is dotted and has
    no band, and the legend says how many seeds are left at the end.
    """
    if ax is None:
        ax = style.new_axes(style.TEXT_WIDTH / 2, 2.2)
    unit = end if share and end else 1  # transitions in one unit of the x axis
    table = analysis.mean_curves(rows, band)
    table["x"] = table["samples"] / unit
    styles = styles or _add_remarks(line_styles(rows), rows)
    parts = dict(iter(table.groupby(["variant", "study"])))
    for key in (key for key in styles if key in parts):
        _plot_line(ax, parts[key], styles[key], band != "none")
    if isinstance(data_mean, Sequence):
        borders = np.cumsum([0, *(size for _, size in segments)]) / unit
        ax.hlines(data_mean, borders[:-1], borders[1:], zorder=1, **DASHED)
    elif data_mean is not None:
        ax.axhline(data_mean, zorder=1, **DASHED)
        ax.autoscale_view(scalex=False)  # axhline itself asks for no margin while it is inside the limits
    if end is not None and _continues_online(rows):
        ax.axvline(end / unit, color="#333333", linestyle=(0, (3, 2)), linewidth=0.7, zorder=1)
        if not _published.has_own_axis(published):
            _write_above(ax, end / unit, "offline ", "right")
        _write_above(ax, end / unit, " online", "left")
    start = 0.0
    for name, size in segments:
        if start:
            ax.axvline(start, color="#999999", linestyle="--", linewidth=0.7, zorder=1)
        _write_above(ax, start + size / unit / 2, name, "center")
        start += size / unit
    if published is not None:
        variants = rows.drop_duplicates("algorithm").set_index("algorithm")[["variant", "study"]]
        colours = {name: styles[tuple(variants.loc[name])].colour for name in published["algorithm"].unique()}
        _published.plot(ax, published.assign(x=published["samples"] / unit), colours)
        if end is not None and _published.has_own_axis(published):
            _published.add_axis(ax, published, rows["samples"].min() / unit, end / unit)
    data_axis(rows, end, share).set_up(ax, broken)
    return ax


def data_axis(rows: pd.DataFrame, end: int | None, share: bool) -> DataAxis:
    """The x axis of a panel with these rows, on a dataset of `end` transitions."""
    first, last = rows["samples"].min(), rows["samples"].max()
    border = end if end is not None and _continues_online(rows) else last
    unit = end if share and end else 1
    return DataAxis(first / unit, border / unit, last / unit, share)


def _plot_line(ax: Axes, line: pd.DataFrame, line_style: style.LineStyle, band: bool) -> None:
    """Mean and band over seeds; a line with a single complete point is a marker with a bar."""
    if line_style.thin:
        ax.plot(line["x"], line["mean"], color=line_style.colour, linewidth=0.5, alpha=0.5)
        return
    x, mean, complete = line["x"], line["mean"], line["seeds"] == line["total_seeds"]
    single = complete.sum() == 1
    if not complete.all():
        ax.plot(x, mean, color=line_style.colour, linestyle=":", linewidth=0.9)
    if single and band:
        low, high = line["low"][complete], line["high"][complete]
        ax.vlines(x[complete], low, high, color=line_style.colour, linewidth=0.9)
    elif band:
        ax.fill_between(
            x, line["low"], line["high"], where=complete, color=line_style.colour, alpha=0.18, lw=0
        )
    ax.plot(
        x,
        mean.where(complete),
        color=line_style.colour,
        linestyle=line_style.dash,
        marker="o" if single else None,
        label=line_style.label,
        ms=4,
        clip_on=not single,
    )


def _write_above(ax: Axes, x: float, text: str, align: str) -> None:
    """Text above the axes, at an x of the data."""
    transform = ax.get_xaxis_transform()
    ax.text(x, 1.0, text, transform=transform, ha=align, va="bottom", fontsize="small", color="#333333")


def figure(
    rows: pd.DataFrame, options: FigureOptions = DEFAULTS, published: pd.DataFrame | None = None
) -> Figure:
    """All datasets of `rows`, with one legend. Rows without a dataset are drawn in every panel of the same
    environment. `published` are rows of published runs, in scores."""
    if published is not None and "metric" in rows:
        raise UserError("plot: published runs have scores only; leave out --published or --value")
    studies = analysis.studies_of(rows)
    datasets = analysis.datasets_of(studies)
    names = _selection.names(rows, options)
    order = _selection.order(rows, "dataset", options)
    rows = analysis.with_values(add_from_scratch(rows, datasets))
    panels = [name for name in order if name in set(rows["dataset"])]
    share, band = options.x == "share", options.band or "range"
    if share and not all(datasets[name]["transitions"] for name in panels):
        raise UserError("plot: --x share needs datasets; without data there are no shares of it")
    width, columns = _layout(len(panels), options)
    lines = math.ceil(len(panels) / columns)
    styles = _add_remarks(line_styles(rows, names), rows)
    axes_of = {
        name: data_axis(rows[rows["dataset"] == name], datasets[name]["transitions"], share)
        for name in panels
    }
    broken = any(axis.broken for axis in axes_of.values())
    sweeps = _folding.large_sweeps(rows, studies, options)
    both_phases = {*rows["phase"].unique()} == {"offline", "online"}
    with style.context(options):
        titles, title_size = _titles({name: names.get(name, name) for name in panels}, width / columns)
        drawn = Figure(figsize=(width, 0.53 + (HEIGHT if lines < 3 else LOW_HEIGHT) * lines))
        axes = drawn.subplots(lines, columns, squeeze=False)
        handles: dict[str, Line2D] = {}
        labels: list[str] = []
        unit = None
        for place, (ax, name) in enumerate(zip(axes.flat, panels, strict=False)):
            curves, dataset, previous = rows[rows["dataset"] == name], datasets[name], unit
            unit = curves["unit"].iloc[0]
            parts = segments(dataset)
            behind = None if published is None else published[published["dataset"] == name]
            mean, end = _data_mean(dataset, unit), dataset["transitions"]
            of_panel = _folding.folded(curves, styles, sweeps)
            labels += [line_style.label for line_style in of_panel.values()]
            plot(curves, ax, mean, of_panel, parts, end, behind, band, share, axes_of[name].broken)
            above = _published.HEIGHT if _published.has_own_axis(behind) else 0
            pad = above or (12 if both_phases or parts else None)
            ax.set_title(titles[name], fontsize=title_size, pad=pad)
            if options.ylim:
                ax.set_ylim(*options.ylim)
            if place % columns == 0 or unit != previous:
                ax.set_ylabel(style.value_label(curves))
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        handles = {label: handles[label] for label in labels if label in handles}
        if unit in analysis.BY_EPISODES and any(datasets[name]["transitions"] for name in panels):
            handles["mean of the data"] = Line2D([], [], **DASHED)
        if published is not None and published["dataset"].isin(panels).any():
            handles |= _published.legend(published)
        style.add_legend(drawn, handles, (2, 3, 4)[columns - 1])
        footer = _footer(rows, options, broken, bool(sweeps)) + _published.footer(published)
        style.add_footer(drawn, footer, "medium")
    return drawn


def _layout(panels: int, options: FigureOptions) -> tuple[float, int]:
    """The width of the figure in inches, and the number of columns of panels."""
    columns = min(3, panels)
    width = options.inches(style.TEXT_WIDTH * (0.65, 0.8, 1.0)[columns - 1])
    return width, min(columns, max(1, int(width / LEAST_WIDTH)))


def _titles(names: Mapping[str, str], width: float) -> tuple[dict[str, str], float]:
    """Texts above panels that are `width` inches wide, and their size in points: a little smaller, or in
    several lines, if a name is too long."""
    size = mpl.rcParams["font.size"]
    # A letter is about 0.56 times as wide as high, and a panel takes 0.82 of its column.
    room = 0.82 * 72 * width / 0.56  # points
    size *= min(max(room / (size * max(map(len, names.values()))), 0.8), 1)
    return {name: wrapped(text, max(int(room / size), 12)) for name, text in names.items()}, size


def _footer(rows: pd.DataFrame, options: FigureOptions, broken: bool, folded: bool) -> str:
    """What the x axis and the bands are."""
    seen = "share of the dataset seen" if options.x == "share" else "transitions seen"
    online = "; shaded: online steps, on their own scale" if broken else ""
    online += "; thin: the other settings of a sweep" if folded else ""
    count = style.seed_count(rows)
    lines = count if count == "1 seed" else BANDS[options.band or "range"].format(count)
    return f"{seen} ({lines}{style.smoothing_text(options)}{online}){style.unit_text(rows)}"


def add_from_scratch(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Rows in which those without a dataset are repeated for every dataset of their environment, scored with
    its reference. They are unchanged if no dataset has that environment."""
    scratch = rows["dataset"].map(lambda name: datasets[name]["transitions"] == 0)
    parts = [rows[~scratch]]
    for name, part in rows[scratch].groupby("dataset", sort=False):
        hosts = [
            host
            for host in rows.loc[~scratch, "dataset"].unique()
            if datasets[host]["env_id"] == datasets[name]["env_id"]
        ]
        for host in hosts:
            reference = datasets[host]["reference"]
            score = Reference(**reference).score(part["return_mean"]) if reference else math.nan
            parts.append(part.assign(dataset=host, score=score, study=part["study"] + FROM_SCRATCH))
        if not hosts:
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def segments(dataset: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Names and sizes of the segments that arrive in turn, without the words that all names share at the
    start or at the end (`hopper-random-v2`, `hopper-expert-v2`: `random`, `expert`)."""
    names = [name.split("-") for name in dataset["segments_in_turn"]]
    while len(names) > 1 and min(map(len, names)) > 1 and len({words[0] for words in names}) == 1:
        names = [words[1:] for words in names]
    while len(names) > 1 and min(map(len, names)) > 1 and len({words[-1] for words in names}) == 1:
        names = [words[:-1] for words in names]
    sizes = dataset["segments"] if names else ()
    return [("-".join(words), size) for words, size in zip(names, sizes, strict=True)]


def _continues_online(rows: pd.DataFrame) -> bool:
    return bool((rows.groupby(analysis.LINE)["phase"].nunique() > 1).any())


def line_styles(
    rows: pd.DataFrame, names: Mapping[str, str] | None = None
) -> dict[tuple[str, str], style.LineStyle]:
    """The style of each (variant, study).

    Studies that share a variant in a panel are labelled by their regimes if these differ, else by their
    names; what was learned without a dataset is labelled `from scratch`. `names` are texts in place of names.
    """
    names = names or {}
    is_scratch = rows["study"].str.endswith(FROM_SCRATCH)
    scratch = rows.loc[is_scratch, "study"].unique()
    labels = {study: "from scratch" if len(scratch) == 1 else study for study in scratch}
    labels |= _study_labels(rows[~is_scratch])
    texts = {study: names.get(label, label) for study, label in labels.items()}
    return style.line_styles(analysis.variants(rows), texts, names)


def _study_labels(rows: pd.DataFrame) -> dict[str, str]:
    """Regime or name of each study; empty where no two studies share a line and all have one regime."""
    regimes = rows.drop_duplicates("study").set_index("study")["regime"].to_dict()
    unique = rows.groupby(["dataset", "variant"])["study"].nunique().max() == 1
    if unique and len(set(regimes.values())) == 1:
        return dict.fromkeys(regimes, "")
    if len(set(regimes.values())) == len(regimes):
        return regimes
    return {study: study for study in regimes}


def _add_remarks(styles: style.LineStyles, rows: pd.DataFrame) -> dict[tuple[str, str], style.LineStyle]:
    """Styles whose labels also say which lines do not learn online, and how many seeds are left at the end of
    lines that lost some, over all panels."""
    frozen = {(variant, study) for _, variant, study in analysis.frozen_lines(rows)}
    ends = analysis.mean_curves(rows).groupby(analysis.LINE, sort=False).tail(1)
    found = {}
    for key, line_style in styles.items():
        of_key = (ends["variant"] == key[0]) & (ends["study"] == key[1])
        lost = ends[of_key & (ends["seeds"] < ends["total_seeds"])]
        remarks = ["frozen online"] * (key in frozen)
        if len(lost):
            left, total = (
                count_range(lost[column].min(), lost[column].max()) for column in ("seeds", "total_seeds")
            )
            remarks.append(f"dotted: {left} of {total} seeds")
        found[key] = (
            line_style._replace(label=f"{line_style.label} ({'; '.join(remarks)})") if remarks else line_style
        )
    return found


def _data_mean(dataset: Mapping[str, Any], unit: str) -> float | list[float] | None:
    """The mean return of the data in the unit of a panel, or a list over segments where these are known."""
    if unit not in analysis.BY_EPISODES:
        return None
    convert = Reference(**dataset["reference"]).score if unit == "score" else float
    if "segment_returns" in dataset:
        return [convert(value) for value in dataset["segment_returns"]]
    mean = dataset["behaviour_return"]
    return None if mean is None else convert(mean)


FIGURE = FigureKind(
    figure,
    complete=False,
    published=True,
    accepts=("labels", "width", "value", "ylim", "x", "smooth"),
    bands=tuple(BANDS),
)
