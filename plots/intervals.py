"""Mean, median, IQM and optimality gap over all datasets, one panel each: a bar for the 95 % interval and a
tick for the estimate, filled for the end of the data and hollow for the area under the curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seqeval import analysis

from . import DEFAULTS, FigureKind, FigureOptions, _selection, _sizes, style
from ._text import wrapped
from .aggregate import NAMES

# For each statistic: label, offset of its bar from the middle of the line (downwards), opacity of the bar.
BARS = {"final": ("end of the data", -0.19, 0.6), "area": ("area under the curve", 0.19, 0.12)}
HEIGHT = 0.3  # of a bar; lines are 1 apart


def plot(table: pd.DataFrame, ax: Axes | None = None, styles: style.LineStyles | None = None) -> Axes:
    """Draws one estimator of `analysis.aggregate`, the first line on top. The column `statistic` names the
    aggregated statistic, one of `BARS`."""
    ax = style.new_axes(style.TEXT_WIDTH / 2, 1.8) if ax is None else ax
    ax.use_sticky_edges = False  # keeps a margin at the ends of the bars
    names = []
    for place, (line, line_style) in enumerate(style.styled_lines(table, styles)):
        names.append(wrapped(line_style.label, style.NAME_WIDTH))
        for row in line.to_dict("records"):
            _, offset, opacity = BARS[row["statistic"]]
            middle, width = place + offset, row["high"] - row["low"]
            ax.barh(middle, width, HEIGHT, row["low"], color=line_style.colour, alpha=opacity, lw=0)
            ax.barh(middle, width, HEIGHT, row["low"], fill=False, edgecolor=line_style.colour, lw=0.7)
            ends = middle - HEIGHT / 2, middle + HEIGHT / 2
            ax.vlines(row["estimate"], *ends, color="#000000", linewidth=1.3)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    return ax


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """The intervals over datasets; of a metric over the seeds of one dataset, where it has no optimality
    gap."""
    _selection.require_one_scale(rows)
    styles = style.line_styles_over_datasets(rows, _selection.names(rows, options))
    parts = {name: analysis.aggregate(analysis.STATISTICS[name].compute(rows)) for name in BARS}
    table = pd.concat([part.assign(statistic=name) for name, part in parts.items()])
    labels = (wrapped(line_style.label, style.NAME_WIDTH) for line_style in styles.values())
    lines = sum(label.count("\n") + 1 for label in labels)
    estimators = [name for name in NAMES if name != "optimality_gap" or _is_score(rows)]
    with style.context(options):
        width = options.inches(style.TEXT_WIDTH)
        columns = len(estimators) if width > 4 else 2
        rows_of_panels = -(-len(estimators) // columns)
        height = 0.45 + rows_of_panels * (0.5 + 0.26 * max(len(styles), 0.6 * lines))
        drawn = Figure(figsize=(width, height))
        axes = drawn.subplots(rows_of_panels, columns, sharey=True, squeeze=False).ravel()
        for ax in axes[len(estimators) :]:
            ax.remove()
        for ax, estimator in zip(axes, estimators, strict=False):
            plot(table[table["estimator"] == estimator], ax, styles)
            ax.set_title(f"{NAMES[estimator]} {_direction(rows, estimator)}".rstrip())
        patches = [
            Patch(facecolor=(0, 0, 0, opacity), edgecolor="#000000", linewidth=0.7, label=label)
            for label, _, opacity in BARS.values()
        ]
        drawn.legend(handles=patches, loc="outside upper center", ncols=2, frameon=False)
        value = _sizes.one_line(style.value_label(rows))
        sizes = style.sample_sizes(rows)
        style.add_footer(drawn, f"{value} ({sizes})" if _is_score(rows) else f"{value}; {sizes}")
    return drawn


def _is_score(rows: pd.DataFrame) -> bool:
    return "metric" not in rows or rows["metric"].iloc[0] == "score"


def _direction(rows: pd.DataFrame, estimator: str) -> str:
    """An arrow towards better values; none where the metric has no direction."""
    if estimator == "optimality_gap":
        return "↓"
    better = rows["better"].iloc[0] if "better" in rows else "higher"
    return {"higher": "↑", "lower": "↓"}.get(better, "")


FIGURE = FigureKind(figure, scores=True, accepts=("labels", "width", "value"))
