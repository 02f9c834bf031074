"""The style that figures share: sizes for a paper, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import PercentFormatter

from seqeval import analysis, atomic_io
from seqeval.errors import UserError, nearest, one_line
from seqeval.figure_options import FigureOptions

from . import _selection
from ._text import count_range, counted, wrapped

TEXT_WIDTH = 5.5  # inches: a NeurIPS page
PANEL_SIZE = (0.62 * TEXT_WIDTH, 2.2)  # inches: a figure with one panel, without its legend

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/), its yellow left out: too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
ALGORITHM_COLOURS = {
    "bc": COLOURS[6],
    "td3_bc": COLOURS[0],
    "iql": COLOURS[1],
    "awac": COLOURS[2],
    "cql": COLOURS[3],
}
# Colours of all other variants. The rest of the palette above, then colours of enough contrast to white that
# are, each in turn, as far as possible from all before them, to normal and to red-green colour-blind vision.
OTHER_COLOURS = (
    *("#56B4E9", "#E69F00", "#771133", "#551199", "#006600", "#BB2277", "#9977FF", "#004455"),
    *("#994422", "#9944BB", "#777700", "#77AA00", "#0044BB", "#554422", "#FF6666", "#0099BB"),
)
GREY, LIGHT_GREY = "#8C8C8C", "#CFCFCF"  # published runs: their mean, and single runs
DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
ABBREVIATIONS = {"nll", "td", "fqe", "opc", "q"}
LEGEND_WIDTH, NAME_WIDTH = 34, 20  # characters in a line of a legend, and of a name beside an axis

RC = {
    "font.size": 8,  # points; all other sizes of text follow it
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "legend.fontsize": "medium",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
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
    """Label, colour and dash pattern of a line; a thin one has no band and no entry in the legend."""

    label: str
    colour: str
    dash: object
    thin: bool = False


LineStyles = Mapping[tuple[str, str], LineStyle]  # by variant and study


def colour_of(variant: str) -> str:
    """The colour that a variant has in every figure in which no variant before it has it.

    A built-in algorithm may have a colour of its own, which its variants with settings
    (`iql:expectile=0.5`) share; the colour of any other variant depends on its name alone.
    """
    if (colour := ALGORITHM_COLOURS.get(variant.partition(":")[0])) is not None:
        return colour
    digest = hashlib.sha256(variant.encode()).digest()
    return OTHER_COLOURS[int.from_bytes(digest[:8], "big") % len(OTHER_COLOURS)]


def colours(variants: Iterable[str]) -> dict[str, str]:
    """A colour for each variant of a figure, all different as long as there are colours.

    The names of built-in algorithms keep theirs. Any other variant, in the figure's order, has that of
    `colour_of` if it is free, else the next free one; if none is free, that of `colour_of` again.
    """
    ordered = list(dict.fromkeys(variants))
    found = {name: ALGORITHM_COLOURS[name] for name in ordered if name in ALGORITHM_COLOURS}
    palette = (*OTHER_COLOURS, *ALGORITHM_COLOURS.values())
    for name in ordered:
        if name not in found:
            preferred = colour_of(name)
            start = palette.index(preferred)
            candidates = (*palette[start:], *palette[:start])
            free = [colour for colour in candidates if colour not in found.values()]
            found[name] = free[0] if free else preferred
    return found


def line_styles(
    variants: Iterable[tuple[str, str]],
    study_labels: Mapping[str, str],
    names: Mapping[str, str] | None = None,
) -> dict[tuple[str, str], LineStyle]:
    """A style for each (variant, study): the variant determines the colour, the study's label the dash.

    The label of a line is its variant, with the study's label in brackets unless that is empty. `names` are
    texts in place of the names of variants. Variants of one colour (see `colours`) have different dashes.
    """
    names = names or {}
    pairs = list(dict.fromkeys(variants))
    dashed = list(dict.fromkeys(study_labels[study] for _, study in pairs))
    of_colour: dict[str, list[str]] = {}
    colour_by_variant = colours(variant for variant, _ in pairs)
    for variant in dict.fromkeys(variant for variant, _ in pairs):
        of_colour.setdefault(colour_by_variant[variant], []).append(variant)
    styles = {}
    for variant, study in pairs:
        colour, name = colour_by_variant[variant], study_labels[study]
        label = names.get(variant, variant) + (f" ({name})" if name else "")
        dash = of_colour[colour].index(variant) * len(dashed) + dashed.index(name)
        styles[variant, study] = LineStyle(label, colour, DASHES[dash % len(DASHES)])
    return styles


def line_styles_over_datasets(
    rows: pd.DataFrame, names: Mapping[str, str] | None = None
) -> dict[tuple[str, str], LineStyle]:
    """A style for each (variant, study) of a figure over datasets, from rows or from a table of statistics.

    Labels are those of `analysis.line_labels` with `names` in place of variants and studies; where they name
    the study, each study has its own dash.
    """
    names = names or {}
    pairs = analysis.variants(rows)
    labels = analysis.line_labels(pairs)
    named = any(labels[pair] != pair[0] for pair in pairs)
    styles = line_styles(pairs, {study: study if named else "" for _, study in pairs})
    for pair, style in styles.items():
        variant, study = (names.get(name, name) for name in pair)
        label = variant if labels[pair] == pair[0] else f"{variant} ({study})"
        styles[pair] = style._replace(label=label)
    return styles


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


def draw_line(
    ax: Axes, x: str, line: pd.DataFrame, style: LineStyle, steps: bool = False, band: bool = True
) -> None:
    """Draws `estimate` against the column `x`, with a band from `low` to `high` if `band` is set.

    With `steps` a value holds up to the next x. A single point is drawn as a marker with a bar.
    """
    options = {"color": style.colour, "linestyle": style.dash, "label": style.label}
    if len(line) == 1:
        if band:
            ax.vlines(line[x], line["low"], line["high"], color=style.colour, linewidth=0.9)
        ax.plot(line[x], line["estimate"], marker="o", ms=4, **options)
        return
    if band:
        step = "post" if steps else None
        ax.fill_between(line[x], line["low"], line["high"], color=style.colour, alpha=0.15, lw=0, step=step)
    ax.plot(line[x], line["estimate"], drawstyle="steps-post" if steps else "default", **options)


def set_share_axis(ax: Axes, shares: pd.Series) -> None:
    """Sets up the x axis for shares of the data, from the first to the last."""
    if shares.nunique() > 1:
        ax.set_xlim(shares.min(), shares.max())
    ax.set_xlabel("share of each dataset seen")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def single_panel(
    plot: Callable[..., Axes],
    table: pd.DataFrame,
    rows: pd.DataFrame,
    options: FigureOptions,
    about: str = "",
) -> Figure:
    """A figure over datasets with one panel, its legend above it and a footer below it, which starts with
    `about`."""
    styles = line_styles_over_datasets(rows, _selection.names(rows, options))
    with context(options):
        figure = Figure(figsize=(options.inches(PANEL_SIZE[0]), PANEL_SIZE[1]))
        ax = plot(table, figure.subplots(), styles, options.band != "none")
        if options.ylim:
            ax.set_ylim(*(options.ylim[::-1] if ax.yaxis_inverted() else options.ylim))
        handles, labels = ax.get_legend_handles_labels()
        add_legend(figure, dict(zip(labels, handles, strict=True)), len(labels))
        footer = about + sample_sizes(rows, interval=options.band != "none") + smoothing_text(options)
        add_footer(figure, footer)
    return figure


def add_legend(figure: Figure, handles: Mapping[str, Artist], max_columns: int) -> None:
    """Adds a legend above all panels and makes the figure higher by the legend's height.

    It has fewer than `max_columns` columns if it would be wider than the figure otherwise.
    """
    for columns in range(min(max_columns, len(handles)), 0, -1):
        rows = math.ceil(len(handles) / columns)
        legend = figure.legend(
            handles.values(),
            [wrapped(label, LEGEND_WIDTH) for label in handles],
            loc="outside upper center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            handlelength=1.8,
            columnspacing=1.4,
        )
        if columns == 1 or legend.get_window_extent().width < 0.98 * figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + legend.get_window_extent().height / figure.dpi)


def add_title(figure: Figure, title: str) -> None:
    """Adds a title above everything else and makes the figure higher by the title's height."""
    letter = 0.55 * mpl.rcParams["font.size"] / 72  # inches
    text = wrapped(title, max(int(figure.get_figwidth() / letter), 10))
    if figure.legends:  # a title of the figure itself would lie on the legend
        figure.legends[0].set_title(text, prop={"size": "medium"})
    else:
        figure.suptitle(text, fontsize="medium")
    height = 1.5 * (text.count("\n") + 1) * mpl.rcParams["font.size"] / 72
    figure.set_figheight(figure.get_figheight() + height)


def add_footer(figure: Figure, text: str, size: str = "small") -> None:
    """Adds a text below all panels, in lines that are no wider than the figure."""
    letter = 0.56 * FontProperties(size=size).get_size_in_points() / 72  # inches
    lines = [wrapped(line, max(int(figure.get_figwidth() / letter), 20)) for line in text.split("\n")]
    figure.supxlabel("\n".join(lines), fontsize=size)
    more = sum(line.count("\n") for line in lines)
    figure.set_figheight(figure.get_figheight() + 1.3 * more * mpl.rcParams["font.size"] / 72)


def value_label(rows: pd.DataFrame) -> str:
    """The text of an axis with the values of some rows: score or return, or a metric with its unit and the
    direction in which it is better."""
    if "metric" not in rows:
        return str(analysis.with_values(rows)["unit"].iloc[0])
    metric, unit, better = rows[["metric", "unit", "better"]].iloc[0]
    if metric in analysis.BY_EPISODES:
        return str(metric)
    about = [unit.partition(",")[0]] if unit else []
    about += [f"{better} is better"] if isinstance(better, str) else []
    return wrapped(metric_name(metric), 30) + (f"\n({wrapped(', '.join(about), 34)})" if about else "")


def unit_text(rows: pd.DataFrame) -> str:
    """The end of a footer: what the unit of a metric refers to, where the axis has no room for it."""
    about = rows["unit"].iloc[0].partition(", ")[2] if "metric" in rows else ""
    return f"; {about}" if about else ""


def metric_name(metric: str) -> str:
    """A metric's column as a name: `prequential NLL` for `eval/prequential_nll`."""
    words = metric.rpartition("/")[2].replace("held_out", "held-out").split("_")
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in words)


def smoothing_text(options: FigureOptions) -> str:
    """The end of a footer: how curves were smoothed."""
    return f", mean of the last {options.smooth} points" if options.smooth > 1 else ""


def sample_sizes(rows: pd.DataFrame, interval: bool = True) -> str:
    """The number of datasets and seeds in a figure over datasets."""
    text = f"{counted(rows['dataset'].nunique(), 'dataset')}, {seed_count(rows)} each"
    return f"{text}, 95 % intervals" if interval else text


def ranked_by(rows: pd.DataFrame) -> str:
    """The start of the footer of a figure that compares by a metric, which no axis names."""
    if "metric" not in rows:
        return ""
    return f"by {rows['metric'].iloc[0]}, {rows['better'].iloc[0]} is better; "


def seed_count(rows: pd.DataFrame) -> str:
    """The number of seeds of a line, as text."""
    seeds = rows.groupby(analysis.LINE)["seed"].nunique()
    return f"{count_range(seeds.min(), seeds.max())} seed{'' if seeds.max() == 1 else 's'}"


def dataset_sizes(rows: pd.DataFrame) -> dict[str, int]:
    """The number of transitions in each dataset of the rows' studies."""
    datasets = analysis.datasets_of(analysis.studies_of(rows))
    return {name: dataset["transitions"] for name, dataset in datasets.items()}


def save(figure: Figure, path: Path, options: FigureOptions | None = None) -> list[Path]:
    """Saves a figure as `path`, or as both PNG and PDF if `path` ends in either. Returns the files.

    `options` are those that it was drawn with.
    """
    both = path.suffix in (".png", ".pdf")
    paths = [path.with_suffix(suffix) for suffix in (".png", ".pdf")] if both else [path]
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in paths:
        # No date in the file: the same rows give the same bytes.
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix)
        with context(options), atomic_io.replacing(file) as partial:  # the font types are read when saving
            figure.savefig(partial, dpi=300, metadata=metadata, format=file.suffix[1:])
        figure.set_layout_engine("none")  # laid out once, so PNG and PDF are alike
    return paths


def context(options: FigureOptions | None = None) -> mpl.rc_context:  # type: ignore[name-defined]
    """The settings of matplotlib in which figures are made and saved: ours, then those of the style."""
    return mpl.rc_context(RC | (_style_settings(options.style) if options and options.style else {}))


def _style_settings(name: str) -> dict[str, Any]:
    """The settings in a style file, or in one of Matplotlib's styles. Raises UserError if there is none."""
    if name in mpl.style.library:
        return dict(mpl.style.library[name])
    if not Path(name).is_file():
        hint = nearest(name, mpl.style.available)
        raise UserError(f"style: {name!r} is neither a file nor a style of Matplotlib{hint}")
    found = BufferingHandler(100)  # Matplotlib logs what is wrong in a style file, and goes on
    logger = logging.getLogger("matplotlib")
    logger.addHandler(found)
    try:
        settings = dict(mpl.rc_params_from_file(name, use_default_template=False))
    except UnicodeDecodeError as error:
        raise UserError(f"style: {name} cannot be read: {one_line(error)}") from error
    finally:
        logger.removeHandler(found)
    if found.buffer:
        message = " ".join(found.buffer[0].getMessage().split())
        raise UserError(f"style: {name} cannot be read: {message}")
    return settings
