"""How the value at the end of the data depends on K (updates between two arrivals) and γ (transitions per
arrival): a heat map per dataset and algorithm, from studies that differ in nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError

from . import DEFAULTS, FigureKind, FigureOptions, _selection, style
from ._text import wrapped

COLOURS = "viridis"
TITLE_WIDTH = 22  # characters in a line above a panel


def plot(table: pd.DataFrame, ax: Axes | None = None, limits: tuple[float, float] | None = None) -> Axes:
    """Draws one dataset and algorithm: columns K, gamma, unit, mean.

    `limits` are the values of the darkest and the lightest colour, by default the lowest and highest mean.
    """
    ax = style.new_axes(style.TEXT_WIDTH / 3, 1.4) if ax is None else ax
    low, high = limits or (table["mean"].min(), table["mean"].max())
    grid = table.pivot(index="K", columns="gamma", values="mean")  # sorted along both
    ax.imshow(grid, cmap=COLOURS, vmin=low, vmax=high, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        if np.isnan(value):
            continue
        text = f"{value:.1f}" if table["unit"].iloc[0] == "score" else f"{value:.4g}"
        ink = "#000000" if high > low and (value - low) / (high - low) > 0.6 else "#FFFFFF"
        ax.text(column, row, text, ha="center", va="center", fontsize="small", color=ink)
    ax.set_xticks(range(grid.shape[1]), grid.columns)
    ax.set_yticks(range(grid.shape[0]), grid.index)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One row of panels per dataset, with its own colour scale, and in it one panel per algorithm.

    Raises UserError if a study is not of the regime `stream`.
    """
    protocols = {name: study["protocol"] for name, study in analysis.studies_of(rows).items()}
    for name, protocol in protocols.items():
        if protocol["regime"] != "stream":
            raise UserError(
                f"plot: sensitivity needs the regime stream; {name} is of the regime {protocol['regime']}, "
                "which has no K and γ"
            )
    table = analysis.last_points(rows[rows["phase"] == "offline"])
    table["K"] = [protocols[study]["updates_per_growth"] for study in table["study"]]
    table["gamma"] = [protocols[study]["grow_by"] for study in table["study"]]
    datasets, variants = (_selection.order(rows, name, options) for name in ("dataset", "variant"))
    names = _selection.names(rows, options)
    titles = {variant: wrapped(names.get(variant, variant), TITLE_WIDTH) for variant in variants}
    letters = max(len(line) for title in titles.values() for line in title.split("\n"))
    longest = 0.06 * letters
    width = 0.2 + len(variants) * max(0.4 * table["gamma"].nunique(), 0.9, longest)
    height = 0.75 + 0.26 * table["K"].nunique() + 0.12 * max(title.count("\n") for title in titles.values())
    with style.context(options):
        size = options.inches(min(style.TEXT_WIDTH, max(3.4, width))), 0.5 + height * len(datasets)
        drawn = Figure(figsize=size)
        parts = drawn.subfigures(len(datasets), 1, squeeze=False)[:, 0]
        for part, dataset in zip(parts, datasets, strict=True):
            values = table[table["dataset"] == dataset]
            axes = part.subplots(1, len(variants), sharey=True, squeeze=False)[0]
            for ax, variant in zip(axes, variants, strict=True):
                plot(values[values["variant"] == variant], ax, (values["mean"].min(), values["mean"].max()))
                ax.set(title=titles[variant], xlabel="γ")
            axes[0].set_ylabel("K", rotation=0, va="center")
            label = style.value_label(rows[rows["dataset"] == dataset]).replace("\n", " ")
            part.suptitle(f"{names.get(dataset, dataset)} ({label})", fontsize="medium")
        style.add_footer(
            drawn,
            f"mean of {style.seed_count(rows)} at the end of the data, colour scale per dataset\n"
            "K: updates between arrivals, γ: transitions per arrival",
        )
    return drawn


FIGURE = FigureKind(
    figure,
    differ_in={"K": "protocol.updates_per_growth", "γ": "protocol.grow_by"},
    accepts=("labels", "width", "value"),
)
