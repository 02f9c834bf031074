"""The true value of the policy that each rule would deploy from a sweep, at each size of the data."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.analysis import tuning
from seqeval.types import Reference

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, agreement, style

BANDITS = ("#9CC3E6", "#56B4E9", "#0072B2", "#003A66")  # from few episodes to many


def numbers(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> pd.DataFrame:
    """The table of `tuning.choices`: the oracle, bandits, metrics, and the random choice."""
    studies = analysis.studies_of(rows)
    higher = {
        name: about["better"] == "higher" for name, about in agreement.chosen_metrics(rows, options).items()
    }
    units = analysis.with_values(rows).groupby("dataset")["unit"].first()
    references = {
        name: Reference(**dataset["reference"]) if units[name] == "score" else None
        for name, dataset in analysis.datasets_of(studies).items()
        if name in units
    }
    table = tuning.choices(rows, higher, references, options.budgets)
    order = [tuning.ORACLE, *(f"bandit {budget}" for budget in sorted(options.budgets)), *higher]
    order += [tuning.RANDOM]
    return table.sort_values(["rule"], key=lambda rules: rules.map(order.index), kind="stable")


def rule_styles(rules: list[str]) -> dict[str, style.LineStyle]:
    """The style of each rule: black for the oracle, grey for a random choice, blue for bandits."""
    styles, bandits = {}, [rule for rule in rules if rule.startswith("bandit ")]
    metrics = agreement.metric_styles([rule for rule in rules if "/" in rule])
    for rule in rules:
        if rule in bandits:
            colour = BANDITS[-1 - (len(bandits) - 1 - bandits.index(rule)) % len(BANDITS)]
            text = f"bandit, {rule.removeprefix('bandit ')} episodes"
            styles[rule] = style.LineStyle(text, colour, "-")
        elif rule == tuning.ORACLE:
            styles[rule] = style.LineStyle("oracle", "#000000", "-")
        elif rule == tuning.RANDOM:
            styles[rule] = style.LineStyle("random", style.GREY, (0, (4, 1.2)))
        else:
            styles[rule] = metrics[rule]
    return styles


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[_sizes.Panel]:
    """A panel per sweep, with a line per rule."""
    table = numbers(rows, options)
    styles = rule_styles(list(table["rule"].unique()))
    caption = "of the policy that each rule would deploy"
    return [
        _sizes.panel(
            title,
            part,
            "rule",
            styles,
            f"{part['unit'].iloc[0]} of the\nchosen policy",
            f"{part['unit'].iloc[0]} {caption}",
            _sizes.sweep_sizes(rows, part),
        )
        for title, part in _sizes.by_sweep(table).items()
    ]


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep."""
    panels = tables(rows, options)
    footer = f"each seed chooses among its own policies ({_sizes.sweep_sizes(rows)})"
    return _sizes.draw(panels, options, footer, _sizes.shows_band(options, panels))


FIGURE = FigureKind(
    figure, accepts=("width", "budgets", "metrics", "ylim"), bands=("ci", "none"), tables=tables
)
