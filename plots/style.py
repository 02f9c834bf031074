"""One look for every figure: sizes for a paper, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seqeval import analysis, atomic_io

TEXT_WIDTH = 5.5  # inches: a NeurIPS page
PANEL = (0.62 * TEXT_WIDTH, 2.2)  # a figure of one panel, without its legend
ROW = 0.17  # inches of height of a row of a legend

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/), its yellow left out: too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# An algorithm that comes with the suite always has the same colour, whatever else is drawn.
OWN = {"bc": COLOURS[6], "td3_bc": COLOURS[0], "iql": COLOURS[1], "awac": COLOURS[2], "cql": COLOURS[3]}
GREY, FAINT = "#8C8C8C", "#CFCFCF"  # other people's runs behind ours: their mean, and each of them
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
    "pdf.fonttype": 42,  # text that stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "seqeval",  # for the names of its parts, which would be random
}


class Line(NamedTuple):
    """How a line is drawn and called."""

    label: str
    colour: str
    dash: object


def lines(variants: Iterable[tuple[str, str]], called: Mapping[str, str]) -> dict[tuple[str, str], Line]:
    """A style for each (variant, study): the colour is the variant's, the dash is of what the study is
    `called`, which the label adds in brackets unless it is empty.

    Algorithms that come with the suite keep their colours; others take the free ones in the order of first
    sight, and a second round of colours takes the next dash.
    """
    pairs = list(dict.fromkeys(variants))
    names = list(dict.fromkeys(variant for variant, _ in pairs))
    dashed = list(dict.fromkeys(called[study] for _, study in pairs))
    free = [colour for colour in COLOURS if colour not in {OWN[name] for name in names if name in OWN}]
    others = [name for name in names if name not in OWN]
    palette = [*free, *(colour for colour in COLOURS if colour not in free)]
    looks = {name: (OWN[name], 0) for name in names if name in OWN}
    for index, name in enumerate(others):
        taken, place = divmod(index, len(palette))
        looks[name] = palette[place], taken + (place >= len(free))
    found = {}
    for variant, study in pairs:
        colour, turn = looks[variant]
        label = f"{variant} ({called[study]})" if called[study] else variant
        found[variant, study] = Line(
            label, colour, DASHES[(turn + dashed.index(called[study])) % len(DASHES)]
        )
    return found


def lines_over_datasets(rows: pd.DataFrame) -> dict[tuple[str, str], Line]:
    """A style for each (variant, study) of a figure over datasets, from rows or from a table of statistics.

    Lines are called as `analysis.line_labels` does; studies have dashes of their own where labels name them.
    """
    pairs = analysis.variants(rows)
    called = analysis.line_labels(pairs)
    named = any(called[pair] != pair[0] for pair in pairs)
    looks = lines(pairs, {study: study if named else "" for _, study in pairs})
    return {pair: look._replace(label=called[pair]) for pair, look in looks.items()}


def axes(width: float, height: float) -> Axes:
    """The axes of a new figure of this size in inches."""
    with context():
        return Figure(figsize=(width, height)).subplots()


def each_line(
    frame: pd.DataFrame, looks: Mapping[tuple[str, str], Line] | None
) -> Iterator[tuple[pd.DataFrame, Line]]:
    """The part of a table that is a line's, and its style, in the order of the styles."""
    of = dict(iter(frame.groupby(["variant", "study"])))
    for key, look in (looks or lines_over_datasets(frame)).items():
        if key in of:
            yield of[key], look


def draw(ax: Axes, x: str, line: pd.DataFrame, look: Line, steps: bool = False) -> None:
    """`estimate` of a table against its column `x`, in a band from `low` to `high`; in steps where each value
    holds up to the next x. A point alone is a marker with a bar."""
    if len(line) == 1:
        ax.vlines(line[x], line["low"], line["high"], color=look.colour, linewidth=0.9)
        ax.plot(
            line[x],
            line["estimate"],
            color=look.colour,
            linestyle=look.dash,
            marker="o",
            ms=4,
            label=look.label,
        )
        return
    band = {"step": "post"} if steps else {}
    ax.fill_between(line[x], line["low"], line["high"], color=look.colour, alpha=0.15, lw=0, **band)
    drawn = "steps-post" if steps else "default"
    ax.plot(
        line[x], line["estimate"], color=look.colour, linestyle=look.dash, drawstyle=drawn, label=look.label
    )


def shares_on_x(ax: Axes, shares: pd.Series) -> None:
    """The x axis of a figure against the share of the data, from the first to the last."""
    if shares.nunique() > 1:
        ax.set_xlim(shares.min(), shares.max())
    ax.set_xlabel("share of each dataset seen")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def panel(
    plot: Callable[..., Axes], frame: pd.DataFrame, looks: Mapping[tuple[str, str], Line], about: str
) -> Figure:
    """A figure of one panel with its legend above it, and beneath it what it is `about`."""
    with context():
        figure = Figure(figsize=PANEL)
        handles, labels = plot(frame, figure.subplots(), looks).get_legend_handles_labels()
        legend_above(figure, dict(zip(labels, handles, strict=True)), len(labels))
        figure.supxlabel(about, fontsize=7)
    return figure


def legend_above(figure: Figure, handles: Mapping[str, Artist], most: int) -> None:
    """A legend above all panels of a figure, which grows by it, in at most so many columns and in fewer where
    it would be wider than the figure."""
    for wide in range(min(most, len(handles)), 0, -1):
        rows = math.ceil(len(handles) / wide)
        legend = figure.legend(
            handles.values(),
            handles,
            loc="outside upper center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            handlelength=1.8,
            columnspacing=1.4,
        )
        if wide == 1 or legend.get_window_extent().width < figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + ROW * rows)


def counts(rows: pd.DataFrame) -> str:
    """How many datasets and seeds a figure over datasets is of, in words."""
    return f"{_counted(rows['dataset'].nunique(), 'dataset')}, {seeds(rows)} each, 95 % intervals"


def seeds(rows: pd.DataFrame) -> str:
    """How many seeds a line has, in words."""
    each = rows.groupby(analysis.LINE)["seed"].nunique()
    low, high = each.min(), each.max()
    return _counted(high, "seed") if low == high else f"{low} to {high} seeds"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def transitions(studies: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How large each dataset of the studies is."""
    return {
        name: about["transitions"] for study in studies.values() for name, about in study["datasets"].items()
    }


def save(figure: Figure, path: Path) -> list[Path]:
    """Saves a figure as PNG and as PDF beside each other (`path` with either ending), or as `path` says
    where it ends otherwise. Returns what was written."""
    paths = (
        [path.with_suffix(ending) for ending in (".png", ".pdf")]
        if path.suffix in (".png", ".pdf")
        else [path]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in paths:
        # No time of day in the file: the same rows give the same bytes.
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix)
        with context(), atomic_io.replacing(file) as partial:  # the context is for the types of the fonts
            figure.savefig(partial, dpi=300, metadata=metadata, format=file.suffix[1:])
        figure.set_layout_engine("none")  # laid out once, and so alike in both
    return paths


def context() -> mpl.rc_context:  # type: ignore[name-defined]
    return mpl.rc_context(RC)
