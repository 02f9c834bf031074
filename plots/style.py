"""The style that figures share: sizes for a paper, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seqeval import analysis, atomic_io

from ._text import count_range, counted

TEXT_WIDTH = 5.5  # inches: a NeurIPS page
PANEL_SIZE = (0.62 * TEXT_WIDTH, 2.2)  # inches: a figure with one panel, without its legend
LEGEND_ROW = 0.17  # inches: height of one row of a legend

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/), its yellow left out: too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# These algorithms have the same colour in every figure.
ALGORITHM_COLOURS = {
    "bc": COLOURS[6],
    "td3_bc": COLOURS[0],
    "iql": COLOURS[1],
    "awac": COLOURS[2],
    "cql": COLOURS[3],
}
GREY, LIGHT_GREY = "#8C8C8C", "#CFCFCF"  # published runs: their mean, and single runs
DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # keeps text as text
    "svg.fonttype": "none",
    "svg.hashsalt": "seqeval",  # element ids would be random without it
}


class LineStyle(NamedTuple):
    """Label, colour and dash pattern of a line."""

    label: str
    colour: str
    dash: object


LineStyles = Mapping[tuple[str, str], LineStyle]  # by variant and study


def line_styles(
    variants: Iterable[tuple[str, str]], study_labels: Mapping[str, str]
) -> dict[tuple[str, str], LineStyle]:
    """A style for each (variant, study): the variant determines the colour, the study's label the dash.

    The label of a line is its variant, with the study's label in brackets unless that is empty. Algorithms
    in `ALGORITHM_COLOURS` keep theirs; others take the free colours in order of first appearance. When the
    colours are used up, the next lines take them again with the next dash.
    """
    pairs = list(dict.fromkeys(variants))
    names = list(dict.fromkeys(variant for variant, _ in pairs))
    dashed = list(dict.fromkeys(study_labels[study] for _, study in pairs))
    fixed = {name: ALGORITHM_COLOURS[name] for name in names if name in ALGORITHM_COLOURS}
    free = [colour for colour in COLOURS if colour not in fixed.values()]
    palette = [*free, *(colour for colour in COLOURS if colour not in free)]
    colours = {name: (colour, 0) for name, colour in fixed.items()}
    for index, name in enumerate(name for name in names if name not in fixed):
        rounds, place = divmod(index, len(palette))
        colours[name] = palette[place], rounds + (place >= len(free))
    styles = {}
    for variant, study in pairs:
        colour, dash = colours[variant]
        name = study_labels[study]
        label = f"{variant} ({name})" if name else variant
        styles[variant, study] = LineStyle(label, colour, DASHES[(dash + dashed.index(name)) % len(DASHES)])
    return styles


def line_styles_over_datasets(rows: pd.DataFrame) -> dict[tuple[str, str], LineStyle]:
    """A style for each (variant, study) of a figure over datasets, from rows or from a table of statistics.

    Labels are those of `analysis.line_labels`; where they name the study, each study has its own dash.
    """
    pairs = analysis.variants(rows)
    labels = analysis.line_labels(pairs)
    named = any(labels[pair] != pair[0] for pair in pairs)
    styles = line_styles(pairs, {study: study if named else "" for _, study in pairs})
    return {pair: style._replace(label=labels[pair]) for pair, style in styles.items()}


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure of this size in inches."""
    with context():
        return Figure(figsize=(width, height)).subplots()


def styled_lines(table: pd.DataFrame, styles: LineStyles | None) -> Iterator[tuple[pd.DataFrame, LineStyle]]:
    """The part of a table that belongs to each line, and the line's style, in the order of the styles."""
    parts = dict(iter(table.groupby(["variant", "study"])))
    for key, style in (styles or line_styles_over_datasets(table)).items():
        if key in parts:
            yield parts[key], style


def draw_line(ax: Axes, x: str, line: pd.DataFrame, style: LineStyle, steps: bool = False) -> None:
    """Draws `estimate` against the column `x`, with a band from `low` to `high`.

    With `steps` a value holds up to the next x. A single point is drawn as a marker with a bar.
    """
    options = {"color": style.colour, "linestyle": style.dash, "label": style.label}
    if len(line) == 1:
        ax.vlines(line[x], line["low"], line["high"], color=style.colour, linewidth=0.9)
        ax.plot(line[x], line["estimate"], marker="o", ms=4, **options)
        return
    step = "post" if steps else None
    ax.fill_between(line[x], line["low"], line["high"], color=style.colour, alpha=0.15, lw=0, step=step)
    ax.plot(line[x], line["estimate"], drawstyle="steps-post" if steps else "default", **options)


def set_share_axis(ax: Axes, shares: pd.Series) -> None:
    """Sets up the x axis for shares of the data, from the first to the last."""
    if shares.nunique() > 1:
        ax.set_xlim(shares.min(), shares.max())
    ax.set_xlabel("share of each dataset seen")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def single_panel(plot: Callable[..., Axes], table: pd.DataFrame, styles: LineStyles, footer: str) -> Figure:
    """A figure with one panel, its legend above it and a footer below it."""
    with context():
        figure = Figure(figsize=PANEL_SIZE)
        handles, labels = plot(table, figure.subplots(), styles).get_legend_handles_labels()
        add_legend(figure, dict(zip(labels, handles, strict=True)), len(labels))
        figure.supxlabel(footer, fontsize=7)
    return figure


def add_legend(figure: Figure, handles: Mapping[str, Artist], max_columns: int) -> None:
    """Adds a legend above all panels and makes the figure higher by the legend's height.

    It has fewer than `max_columns` columns if it would be wider than the figure otherwise.
    """
    for columns in range(min(max_columns, len(handles)), 0, -1):
        rows = math.ceil(len(handles) / columns)
        legend = figure.legend(
            handles.values(),
            handles,
            loc="outside upper center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            handlelength=1.8,
            columnspacing=1.4,
        )
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * rows)


def sample_sizes(rows: pd.DataFrame) -> str:
    """The number of datasets and seeds in a figure over datasets, as text."""
    return f"{counted(rows['dataset'].nunique(), 'dataset')}, {seed_count(rows)} each, 95 % intervals"


def seed_count(rows: pd.DataFrame) -> str:
    """The number of seeds of a line, as text."""
    seeds = rows.groupby(analysis.LINE)["seed"].nunique()
    return f"{count_range(seeds.min(), seeds.max())} seed{'' if seeds.max() == 1 else 's'}"


def dataset_sizes(rows: pd.DataFrame) -> dict[str, int]:
    """The number of transitions in each dataset of the rows' studies."""
    datasets = analysis.datasets_of(analysis.studies_of(rows))
    return {name: dataset["transitions"] for name, dataset in datasets.items()}


def save(figure: Figure, path: Path) -> list[Path]:
    """Saves a figure as `path`, or as both PNG and PDF if `path` ends in either. Returns the files."""
    both = path.suffix in (".png", ".pdf")
    paths = [path.with_suffix(suffix) for suffix in (".png", ".pdf")] if both else [path]
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in paths:
        # No date in the file: the same rows give the same bytes.
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix)
        with context(), atomic_io.replacing(file) as partial:  # the font types are read when saving
            figure.savefig(partial, dpi=300, metadata=metadata, format=file.suffix[1:])
        figure.set_layout_engine("none")  # laid out once, so PNG and PDF are alike
    return paths


def context() -> mpl.rc_context:  # type: ignore[name-defined]
    """The settings of matplotlib in which figures are made and saved."""
    return mpl.rc_context(RC)
