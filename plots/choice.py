"""The true value of the policy that each rule would deploy from a sweep, at each size of the data."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.analysis import tuning
from seqeval.analysis.size_tables import SizeTable
from seqeval.types import Reference

from . import DEFAULTS, FigureKind, FigureOptions, _sizes, agreement, style

BANDITS = ("#9CC3E6", "#56B4E9", "#0072B2", "#003A66")  # from few episodes to many


def numbers(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> pd.DataFrame:
    """The table of `tuning.choices`, from the best rule to the worst one at the last size."""
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


def figure(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> Figure:
    """One panel per sweep."""
    table = numbers(rows, options)
    parts = _sizes.by_sweep(table)
    styles = dict.fromkeys(parts, rule_styles(list(table["rule"].unique())))
    labels = {title: f"{part['unit'].iloc[0]} of the\nchosen policy" for title, part in parts.items()}
    band = options.band == "ci"
    footer = (
        f"transitions seen; each seed chooses among its own policies ({_sizes.sweep_sizes(rows)}"
        f"{', 95 % intervals' if band else ''})"
    )
    return _sizes.panels(parts, "rule", styles, options, labels, footer, band)


def tables(rows: pd.DataFrame, options: FigureOptions = DEFAULTS) -> list[SizeTable]:
    """A table per sweep, with a row per rule."""
    parts = _sizes.by_sweep(numbers(rows, options))
    caption = f"{analysis.with_values(rows)['unit'].iloc[0]} of the policy that each rule would deploy"
    return _sizes.captioned(parts, "rule", caption, _sizes.sweep_sizes(rows))


FIGURE = FigureKind(
    figure, accepts=("width", "budgets", "metrics", "ylim"), bands=("none", "ci"), tables=tables
)
