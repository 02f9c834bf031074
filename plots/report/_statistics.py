"""The statistics on the page, each a table, a plot, or the reason why there is none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from seqeval import analysis
from seqeval.analysis import LINE
from seqeval.errors import UserError

from .. import curves
from .._text import capitalized, counted, listed
from ..aggregate import NAMES as ESTIMATORS
from . import _choosing
from ._tables import NOTHING, Entry, Missing, Plot, Section, Table, duration, interval, number

Datasets = Mapping[str, Mapping[str, Any]]
Key = tuple[str, str, str]  # dataset, variant and study of a line
INTERVALS = "Intervals: 95 %, percentile bootstrap over seeds"
BANDS = "Bands: 95 % intervals, percentile bootstrap over seeds within datasets."
TITLES = {"offline": "Values and data efficiency", "online": "Online learning"}


def statistics(rows: pd.DataFrame, datasets: Datasets, leave_out: bool) -> list[tuple[str, list[Section]]]:
    """Titles of groups, each with its sections. `rows` have been through `analysis.with_planned_end`.

    Lines with incomplete seeds have no numbers; with `leave_out`, only these seeds are left out. Unfinished
    lines have no numbers either way.
    """
    given, rows = rows, curves.add_from_scratch(rows, datasets)
    lines = Lines(rows, datasets)
    # Offline statistics do not depend on whether the online phase is complete.
    ends = rows["dataset"].map({name: dataset["transitions"] for name, dataset in datasets.items()})
    planned = rows["planned"].clip(upper=ends)  # a metric may end before the data does
    offline = rows.assign(planned=planned)[rows["phase"] == "offline"]
    groups: list[tuple[str, list[Section]]] = []
    if len(offline):
        complete = CompleteRows(offline, leave_out)
        groups.append(
            (
                "Offline phase",
                [_of_phase("offline", complete, lines), _overtaking(complete.rows, lines)],
            )
        )
        groups.append(("Over all datasets", _over_datasets(offline, lines, leave_out, datasets)))
        if borders := _borders(datasets):
            joined = CompleteRows(offline[offline["dataset"].isin(borders)], leave_out)
            groups.append(("Joined datasets", [_forgetting(joined, lines, borders, datasets)]))
    online = (rows["phase"] == "online").groupby([rows[name] for name in LINE]).transform("any")
    online |= rows["planned"] > ends  # lines whose online phase has no rows yet
    if online.any():
        groups.append(("Online phase", [_of_phase("online", CompleteRows(rows[online], leave_out), lines)]))
    choosing = {
        "Tuning": _choosing.tuning(given, leave_out),
        "Metrics as a choice": _choosing.metrics(given, leave_out),
    }
    groups += [(title, sections) for title, sections in choosing.items() if sections]
    if "train_seconds" in rows:
        groups.append(("Wall time", [_wall_time(rows, lines)]))
    return groups


class CompleteRows:
    """The rows of complete seeds, the number of seeds of each line, and for each line that is left out a text
    with the number of its complete seeds."""

    def __init__(self, rows: pd.DataFrame, leave_out: bool) -> None:
        unfinished = set(analysis.unfinished_lines(rows)[LINE].itertuples(index=False, name=None))
        incomplete = [seed[:4] for seed in analysis.incomplete_seeds(rows)]
        columns = [*LINE, "seed"] if leave_out else LINE
        kept = analysis.exclude(rows, [seed[: len(columns)] for seed in incomplete], columns)
        self.rows = analysis.exclude(kept, unfinished, LINE)
        self.seeds = self.rows.groupby(LINE)["seed"].nunique()
        losses = Counter(seed[:3] for seed in incomplete)
        missing = Counter(seed[:3] for seed in analysis.missing_seeds(rows))
        total = {line: seeds + missing[line] for line, seeds in rows.groupby(LINE)["seed"].nunique().items()}
        self.left_out = {
            line: f"{0 if line in unfinished else seeds - losses[line]} of {seeds} seeds"
            for line, seeds in total.items()
            if line not in self.seeds.index
        }


class Lines:
    """Labels and order of lines and datasets, and the decimals of their values."""

    def __init__(self, rows: pd.DataFrame, datasets: Datasets) -> None:
        valued = analysis.with_values(rows)
        styles = curves.line_styles(rows)
        self.labels = {key: style.label for key, style in styles.items()}
        names = analysis.line_labels(list(styles))
        self.renamed = {names[key]: label for key, label in self.labels.items()}
        self.of_episodes = "metric" not in rows or rows["metric"].iloc[0] in analysis.BY_EPISODES
        self.units = valued.groupby("dataset", sort=False)["unit"].first().to_dict()
        spread = valued.groupby("dataset")["value"].agg(lambda values: values.max() - values.min())
        self.decimals = {
            name: 1 if unit == "score" or not spread[name] > 0 else _decimals(spread[name])
            for name, unit in self.units.items()
        }

    def position(self, key: Key) -> tuple[int, int]:
        """Sort key of a line: by dataset, then by algorithm as in the legend."""
        return list(self.units).index(key[0]), list(self.labels).index(key[1:])

    def dataset(self, name: str) -> str:
        """The dataset's name, with its unit if that is not the score."""
        return f"{name} (return)" if self.units[name] == "return" else name


def _decimals(spread: float) -> int:
    """Decimals that show a thousandth of the spread."""
    return min(6, max(0, math.ceil(3 - math.log10(spread))))


def _of_phase(phase: str, complete: CompleteRows, lines: Lines) -> Section:
    """The statistics of a phase in `analysis.STATISTICS`."""
    found = [
        statistic
        for statistic in analysis.STATISTICS.values()
        if statistic.phase == phase and (lines.of_episodes or (statistic.of_runs and statistic.in_tables))
    ]
    estimates = {statistic: statistic.estimates(complete.rows) for statistic in found}
    # Regret is none of the columns where the environments report no success.
    found = [statistic for statistic in found if not statistic.lower_is_better or len(estimates[statistic])]
    columns = {statistic.heading: estimates[statistic] for statistic in found}
    meanings = [f"{statistic.heading}: {statistic.noun} {statistic.description}" for statistic in found]
    return _per_line(TITLES[phase], f"{capitalized('; '.join(meanings))}.", columns, complete, lines)


def _overtaking(rows: pd.DataFrame, lines: Lines) -> Section:
    title = "Overtaking"
    if len(lines.labels) < 2:
        return Missing(title, "There is only one line, so there is nothing to overtake.")
    try:
        table = analysis.overtakings(analysis.ascending(rows))
    except UserError as error:
        return Missing(title, f"{capitalized(str(error))}.")
    table = table.replace({"ahead": lines.renamed, "behind": lines.renamed})
    if table.empty:
        return Missing(title, "No two complete lines share a dataset.")
    body = [
        [
            Entry(line["dataset"]),
            Entry(line["ahead"]),
            Entry(line["behind"]),
            interval(line["estimate"], line["low"], line["high"], 0),
            Entry(f"{100 * line['holds']:.0f} %", order=line["holds"]),
        ]
        for line in table.to_dict("records")
    ]
    description = (
        "Which line is ahead of which at the end of the data, and from which n on: the last change of "
        "sign of the difference of the means, or the first n if there is none. Holds: the share of "
        "bootstrap samples in which the same line is ahead at the end; the others count as never."
    )
    header = ("dataset", "ahead", "of", "from n", "holds")
    return Table(title, description, header, body, table, text_columns=3)


def _over_datasets(rows: pd.DataFrame, lines: Lines, leave_out: bool, datasets: Datasets) -> list[Section]:
    try:
        rows, _ = analysis.complete_rows(rows, leave_out)
        rows, notes = analysis.comparable_rows(rows)
    except UserError as error:
        return [Missing("Scores over datasets", f"{error}.")]
    try:
        lower = analysis.lower_is_better(rows)
    except UserError as error:
        return [Missing("Scores over datasets", f"{capitalized(str(error))}.")]
    improvement = _improvement(analysis.final_values(rows), notes, lines, lower)
    names = set(rows["dataset"].unique())
    if len(names) == 1:
        reason = f"At least two datasets with scores are needed, and there is one, {names.pop()}"
        return [Missing("Scores over datasets", f"{'; '.join([reason, *notes])}."), improvement]
    scored = set(analysis.with_values(rows)["unit"]) == {"score"}
    found = [s for s in analysis.STATISTICS.values() if s.phase == "offline" and s.of_runs and scored]
    tables = [_aggregate(statistic, rows, notes, lines) for statistic in found]
    sizes = {name: dataset["transitions"] for name, dataset in datasets.items()}
    return [*_plots(rows, sizes, lines), *tables, improvement]


def _plots(rows: pd.DataFrame, sizes: Mapping[str, int], lines: Lines) -> list[Section]:
    """The IQM and the mean ranks over datasets, at each share of the data."""
    try:
        scored = set(analysis.with_values(rows)["unit"]) == {"score"}
        iqm = analysis.aggregate_curves(rows, sizes, ["iqm"]) if scored else None
        ranks = analysis.mean_ranks(rows, sizes)
    except UserError as error:
        return [Missing("IQM and ranks along the data", f"{error}.")]
    count = counted(rows["dataset"].nunique(), "dataset")
    found: list[Section] = []
    if iqm is not None:
        about = f"The mean of the middle half of all runs on {count}. {BANDS}"
        found.append(Plot("IQM along the data", about, "IQM of scores", _plot_lines(iqm, lines)))
    if len(lines.labels) > 1:
        found.append(
            Plot(
                "Mean rank along the data",
                f"The rank of a run among runs of the other algorithms, as a mean over {count}. {BANDS}",
                "mean rank (1: best)",
                _plot_lines(ranks, lines),
                reversed=True,
            )
        )
    return found


def _plot_lines(table: pd.DataFrame, lines: Lines) -> list[dict[str, Any]]:
    """The lines of a table of curves over datasets, in the order of the legend, with four digits."""
    parts = dict(iter(table.groupby(["variant", "study"])))
    return [
        {"label": label}
        | {
            name: [float(f"{value:.4g}") for value in parts[key][column]]
            for name, column in (("x", "share"), ("estimate", "estimate"), ("low", "low"), ("high", "high"))
        }
        for key, label in lines.labels.items()
        if key in parts
    ]


def _wall_time(rows: pd.DataFrame, lines: Lines) -> Section:
    """Seconds of training and evaluation of each run, and its updates per second, as means over seeds."""
    runs = rows.groupby([*LINE, "seed"], sort=False)
    per_run = runs.agg(
        train=("train_seconds", "sum"), evaluate=("eval_seconds", "sum"), updates=("updates", "max")
    )
    per_run["rate"] = per_run["updates"] / per_run["train"].where(per_run["train"] > 0)
    means = per_run.groupby(LINE, sort=False).mean()
    body = []
    for key in sorted(means.index, key=lines.position):
        line = means.loc[key]
        rate = (
            Entry(NOTHING) if math.isnan(line["rate"]) else Entry(number(line["rate"], 0), order=line["rate"])
        )
        times = [Entry(duration(line[name]), order=line[name]) for name in ("train", "evaluate")]
        body.append([Entry(key[0]), Entry(lines.labels[key[1:]]), *times, rate])
    description = (
        "Of one run, as a mean over seeds, up to its last point. The time of a job is divided equally among "
        "the runs that it trains together, so the numbers depend on their number and on the machine."
    )
    header = ("dataset", "algorithm", "training", "evaluation", "updates per second")
    table = means.reset_index().rename(
        columns={"train": "train_seconds", "evaluate": "eval_seconds", "rate": "updates_per_second"}
    )
    return Table("Wall time", description, header, body, _tidy_time(table, lines), text_columns=2)


def _tidy_time(table: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    labels = [lines.labels[key] for key in zip(table["variant"], table["study"], strict=True)]
    columns = ["dataset", "algorithm", "train_seconds", "eval_seconds", "updates", "updates_per_second"]
    return table.assign(algorithm=labels)[columns]


def _aggregate(statistic: analysis.Statistic, rows: pd.DataFrame, notes: list[str], lines: Lines) -> Section:
    values = statistic.compute(rows)
    table = analysis.aggregate(values)
    body = []
    for key, line in table.groupby(["variant", "study"], sort=False):
        by_estimator = {row["estimator"]: row for row in line.to_dict("records")}
        numbers = [_interval(by_estimator[name], 1) for name in ESTIMATORS]
        body.append([Entry(lines.labels[key]), *numbers])
    description = (
        f"Score {statistic.description}, over {counted(values['dataset'].nunique(), 'dataset')} of the same "
        "weight. IQM: the mean of the middle half of all runs. Optimality gap: how far runs are below 100 on "
        f"average; lower is better. {INTERVALS} within datasets."
    )
    header = ("algorithm", *ESTIMATORS.values())
    return Table(capitalized(statistic.heading), description, header, body, _tidy(table, lines), notes=notes)


def _improvement(values: pd.DataFrame, notes: list[str], lines: Lines, lower: bool) -> Section:
    title = "Probability of improvement"
    if len(lines.labels) < 2:
        return Missing(title, "There is only one line, so there is nothing to compare it with.")
    table = analysis.probability_of_improvement(values, lower_is_better=lower).replace(
        {"first": lines.renamed, "second": lines.renamed}
    )
    names = list(dict.fromkeys(table["first"]))
    pairs = {(pair["first"], pair["second"]): pair for pair in table.to_dict("records")}
    body = [
        [
            Entry(first),
            *(_interval(pairs[first, second], 2) if first != second else Entry(NOTHING) for second in names),
        ]
        for first in names
    ]
    description = (
        f"The probability that a run of the row's algorithm ends {'lower' if lower else 'higher'} than a "
        "run of the column's on "
        "the same dataset, as a mean over datasets; a tie counts half."
    )
    return Table(
        title,
        description,
        ("P(row < column)" if lower else "P(row > column)", *names),
        body,
        table,
        notes=notes,
    )


def _borders(datasets: Datasets) -> dict[str, list[int]]:
    """The n at which one segment ends and the next begins, for datasets whose segments arrive in turn."""
    found = {}
    for name, dataset in datasets.items():
        sizes = [size for _, size in curves.segments(dataset)]
        if len(sizes) > 1:
            found[name] = [sum(sizes[: place + 1]) for place in range(len(sizes) - 1)]
    return found


def _forgetting(
    complete: CompleteRows, lines: Lines, borders: Mapping[str, list[int]], datasets: Datasets
) -> Section:
    table = analysis.means_over_seeds(analysis.forgetting(complete.rows, borders))
    parts: dict[str, list[pd.DataFrame]] = {}
    for name, inner in borders.items():
        names = [segment for segment, _ in curves.segments(datasets[name])]
        for border, (before, after) in zip(inner, pairwise(names), strict=True):
            at_border = table[(table["dataset"] == name) & (table["border"] == border)]
            parts.setdefault(f"{before} to {after}", []).append(at_border)
    columns = {header: pd.concat(tables) for header, tables in parts.items()}
    description = (
        "The value at the end of one segment minus the mean height of the curve over the next; "
        "positive if the new data lowers the value."
    )
    return _per_line("Forgetting", description, columns, complete, lines)


def _per_line(
    title: str,
    description: str,
    columns: Mapping[str, pd.DataFrame],
    complete: CompleteRows,
    lines: Lines,
) -> Section:
    """One row per line and one column per table of estimates."""
    entries: dict[Key, dict[str, Entry]] = {}
    for name, table in columns.items():
        for line in table.to_dict("records"):
            key = line["dataset"], line["variant"], line["study"]
            places = {"transitions": 0, "share": 2}.get(line["unit"], lines.decimals[key[0]])
            entries.setdefault(key, {})[name] = _interval(line, places)
    if not entries:
        left_out = sorted(set(complete.left_out.values()))
        found = f": {listed(left_out)} are complete" if left_out else ""
        return Missing(title, f"No line has all of its seeds{found}.")
    seeds = {key: Entry(str(complete.seeds[key]), order=complete.seeds[key]) for key in entries}
    for key, text in complete.left_out.items():
        entries[key], seeds[key] = {}, Entry(text)
    body = [
        [
            Entry(lines.dataset(key[0])),
            Entry(lines.labels[key[1:]]),
            *(entries[key].get(name, Entry(NOTHING)) for name in columns),
            seeds[key],
        ]
        for key in sorted(entries, key=lines.position)
    ]
    tidy = pd.concat([table.assign(statistic=name) for name, table in columns.items()])
    tidy["seeds"] = [complete.seeds[key] for key in zip(*(tidy[name] for name in LINE), strict=True)]
    return Table(
        title,
        f"{description} {INTERVALS}; with few seeds they are too narrow.",
        ("dataset", "algorithm", *columns, "seeds"),
        body,
        _tidy(tidy, lines),
        text_columns=2,
    )


def _interval(line: Mapping[str, Any], decimals: int) -> Entry:
    return interval(line["estimate"], line["low"], line["high"], decimals)


def _tidy(summary: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    """The table to copy: lines by their labels, and the columns that describe a number."""
    labels = [lines.labels[key] for key in zip(summary["variant"], summary["study"], strict=True)]
    columns = [
        *("dataset", "algorithm", "statistic", "estimator", "unit", "estimate", "low", "high"),
        *("seeds", "datasets", "runs"),
    ]
    return summary.assign(algorithm=labels)[[name for name in columns if name in (*summary, "algorithm")]]
