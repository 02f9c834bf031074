"""Which metric could have chosen, and from how much data on: rank correlation and regret of each metric with
the true values over variants and seeds, at each size of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError, nearest

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, style
from ._text import count_range

HELD_OUT = "held_out_"
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


def _base(metric: str) -> str:
    return metric.replace(HELD_OUT, "").replace("prequential_", "")


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[_sizes.Panel]:
    """A panel per dataset and statistic, with a line per metric."""
    table = analysis.agreement(rows, chosen_metrics(rows, options))
    styles = metric_styles(list(table["metric"].unique()))
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
    """How many runs are ranked."""
    return f"over {count_range(table['ranked'].min(), table['ranked'].max())} runs (variants × seeds)"


FIGURE = FigureKind(figure, complete=False, accepts=("width", "metrics"), bands=("ci", "none"), tables=tables)
