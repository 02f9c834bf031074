"""Which metric could have chosen, and from how much data on: rank correlation and regret of each metric with
the true values over variants and seeds, at each size of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.analysis.agreement import RANDOM
from seqeval.errors import UserError, nearest

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style
from ._text import count_range

HELD_OUT = "held_out_"
# Of a choice at random, behind the metrics.
RANDOM_STYLE = style.LineStyle(RANDOM, "#8C8C8C", style.DASHES[2])
NAMES = {"spearman": "rank correlation"}


def chosen_metrics(rows: pd.DataFrame, options: FigureOptions) -> dict[str, Mapping[str, Any]]:
    """Unit and direction of each metric of the rows that has a direction, or only those of the option.

    Raises UserError for a metric that the rows do not have.
    """
    declared = analysis.declared_metrics(analysis.studies_of(rows).values())
    known = {
        name: about
        for name, about in declared.items()
        if about["better"] is not None and name in rows and rows[name].notna().any()
    }
    for name in options.metrics:
        if name not in known:
            raise UserError(
                f"metrics: no run has {name}{nearest(name, list(known))}; choose from: "
                f"{', '.join(known) or 'none'}"
            )
    return {name: known[name] for name in options.metrics or known}


def metric_styles(metrics: Sequence[str]) -> dict[str, style.LineStyle]:
    """The style of each metric; one on held-out episodes is dashed, in the colour of its counterpart."""
    bases = list(dict.fromkeys(_base(metric) for metric in metrics))
    colours = [colour for colour in style.COLOURS if colour not in ("#000000", "#0072B2", "#56B4E9")]
    colours += style.OTHER_COLOURS[2:]
    return {
        metric: style.LineStyle(
            style.metric_name(metric),
            colours[bases.index(_base(metric)) % len(colours)],
            style.DASHES[1] if HELD_OUT in metric else "-",
        )
        for metric in metrics
    }


def _metrics_of(table: pd.DataFrame) -> list[str]:
    return [metric for metric in table["metric"].unique() if metric != RANDOM]


def _with_counts(styles: Mapping[str, style.LineStyle], table: pd.DataFrame) -> dict[str, style.LineStyle]:
    """The styles with the number of runs that a metric ranks in its label, if metrics differ in it."""
    ranked = table[table["metric"] != RANDOM].groupby("metric")["ranked"].agg(["min", "max"])
    if len(ranked.drop_duplicates()) == 1:
        return dict(styles)
    counts = {metric: count_range(low, high) for metric, low, high in ranked.itertuples()}
    return {
        metric: found._replace(label=f"{found.label} ({counts[metric]} runs)")
        for metric, found in styles.items()
    }


def _base(metric: str) -> str:
    return metric.replace(HELD_OUT, "").replace("prequential_", "")


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[_sizes.Panel]:
    """A panel per dataset and statistic, with a line per metric."""
    table = analysis.agreement(rows, chosen_metrics(rows, options))
    styles = {RANDOM: RANDOM_STYLE, **_with_counts(metric_styles(_metrics_of(table)), table)}
    panels = []
    for (dataset, statistic), part in table.groupby(["dataset", "statistic"], sort=False):
        unit = part["unit"].iloc[0]
        label = f"lost {unit}, lower is better" if unit else "Spearman's ρ, higher is better"
        title, caption = (
            f"{NAMES.get(statistic, statistic)}\n{dataset}",
            "of each metric with the true values",
        )
        caption += f" ({label})"
        panels.append(_sizes.panel(title, part, "metric", styles, label, caption, candidates(part)))
    return panels


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One row of panels per dataset: rank correlation, and regret@k."""
    panels = tables(rows, options)
    footer = candidates(pd.concat([panel.numbers for panel in panels]))
    return _sizes.draw(panels, options, footer, _sizes.shows_band(options, panels))


def candidates(table: pd.DataFrame) -> str:
    """How many runs there are to choose from."""
    return f"over {count_range(table['runs'].min(), table['runs'].max())} runs (variants × seeds)"


FIGURE = FigureKind(figure, complete=False, accepts=("width", "metrics"), bands=("ci", "none"), tables=tables)
