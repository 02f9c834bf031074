"""The page's sections on tuning and on metrics: what the figures of these draw, as plots and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from seqeval import analysis
from seqeval.analysis.size_tables import Line
from seqeval.errors import UserError

from .. import DEFAULTS, FigureKind, _sizes, agreement, best_of_k, choice, setting
from .._text import capitalized
from ._curves import embedded_style
from ._tables import NOTHING, Entry, Missing, Plot, Section, Table, interval

TITLES = {
    "Best of k settings": best_of_k.FIGURE,
    "Effect of settings": setting.FIGURE,
    "Choice of a policy": choice.FIGURE,
}


def tuning(rows: pd.DataFrame, leave_out: bool) -> list[Section]:
    """Best of k settings, effects of settings and rules of choice, of studies with a sweep; else empty."""
    studies, lines = analysis.studies_of(rows), analysis.variants(rows)
    swept = [study for variant, study in lines if "sweep" in studies[study]["algorithms"].get(variant, {})]
    if not swept:
        return []
    found = []
    for title, kind in TITLES.items():
        if kind is not choice.FIGURE or "metric" not in rows:  # rules are judged by scores or returns
            found += _sections(title, kind, rows, leave_out)
    return found


def metrics(rows: pd.DataFrame, leave_out: bool) -> list[Section]:
    """Which metric could have chosen, where several variants have metrics and returns; else empty."""
    if "metric" in rows or rows["variant"].nunique() < 2 or not agreement.chosen_metrics(rows, DEFAULTS):
        return []
    return _sections("Agreement of metrics with true values", agreement.FIGURE, rows, leave_out)


def _sections(title: str, kind: FigureKind, rows: pd.DataFrame, leave_out: bool) -> list[Section]:
    """A plot and a table for each panel of a figure, or the reason why there is none."""
    try:
        prepared, _ = kind.prepare(rows, DEFAULTS, leave_out)
        panels: Sequence[_sizes.Panel] = kind.tables(prepared, DEFAULTS) if kind.tables else []
    except UserError as error:
        return [Missing(title, f"{capitalized(str(error))}.")]
    found: list[Section] = []
    for panel in panels:
        heading = f"{title}: {_sizes.one_line(panel.title.replace(_sizes.NEW_LINE, ', '))}"
        description = "Against the transitions seen. The next table has the numbers and what they are."
        lines = [line for name in panel.styles if (line := _line(panel, name))]
        found.append(Plot(heading, description, _sizes.one_line(panel.ylabel), lines, over_sizes=True))
        heads, names, table = panel.cells()
        found.append(
            Table(
                heading,
                panel.caption,
                (panel.rows, *heads),
                [
                    [Entry(name), *(_entry(cell, panel.digits) for cell in cells)]
                    for name, cells in zip(names, table, strict=True)
                ],
                panel.numbers,
            )
        )
    return found


def _line(panel: _sizes.Panel, name: str) -> dict[str, object]:
    """A line of a panel as plain values, or an empty dictionary if the panel does not have it."""
    part = panel.numbers[panel.numbers[panel.rows] == name].dropna(subset="estimate").sort_values("samples")
    if part.empty:
        return {}
    estimates = part["estimate"]
    ends = {end: part[end].fillna(estimates) for end in ("low", "high")}
    columns = {"x": part["samples"], "estimate": estimates, **ends}
    values = {key: [float(f"{value:.5g}") for value in column] for key, column in columns.items()}
    return embedded_style(panel.styles[name]) | values


def _entry(line: Line | None, digits: int) -> Entry:
    """An estimate with its interval."""
    if line is None or math.isnan(line["estimate"]):
        return Entry(NOTHING)
    low, high = (line["estimate"] if math.isnan(line[end]) else line[end] for end in ("low", "high"))
    return interval(line["estimate"], low, high, digits)
