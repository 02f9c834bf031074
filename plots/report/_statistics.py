"""Which statistics the page has, each as a table or as the reason why there is none."""

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
from ..aggregate import NAMES as STATISTICS
from ._tables import NOTHING, Cell, Missing, Table, interval
from ._words import counted, listed

Section = Table | Missing
Key = tuple[str, str, str]  # dataset, variant, study: a line
INTERVALS = "Intervals: 95 %, percentile bootstrap over seeds"


def statistics(
    rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]], leave_out: bool
) -> list[tuple[str, list[Section]]]:
    """Tables under headings, of rows `with_planned`. Seeds that are not all there make their line's numbers
    missing, or with `leave_out` are left out of them; lines that are not finished have none."""
    rows = curves.beside_data(rows, datasets)
    lines = Lines(rows, datasets)
    # What holds where the data ends does not hang on what comes behind it.
    ends = rows["dataset"].map({name: about["transitions"] for name, about in datasets.items()})
    offline = rows.assign(planned=ends)[rows["phase"] == "offline"]
    found: list[tuple[str, list[Section]]] = []
    if len(offline):
        whole = Whole(offline, leave_out)
        found.append(("While the data arrives", _offline(whole, lines)))
        found.append(("Over all datasets", _over_all(offline, lines, leave_out)))
        if borders := _borders(datasets):
            joined = Whole(offline[offline["dataset"].isin(borders)], leave_out)
            found.append(("When the data changes", [_forgetting(joined, lines, borders, datasets)]))
    online = (rows["phase"] == "online").groupby([rows[name] for name in LINE]).transform("any")
    online |= rows["planned"] > ends  # though none came so far
    if online.any():
        found.append(("Online", _online(Whole(rows[online], leave_out), lines)))
    return found


class Whole:
    """Rows whose seeds are all there, and for each line that lacks some how many it has."""

    def __init__(self, rows: pd.DataFrame, leave_out: bool) -> None:
        unfinished = set(analysis.unfinished_lines(rows)[LINE].itertuples(index=False, name=None))
        wrong = [each[:4] for each in analysis.incomplete_seeds(rows)]
        by = [*LINE, "seed"] if leave_out else LINE
        kept = analysis.exclude(rows, [each[: len(by)] for each in wrong], by)
        self.rows = analysis.exclude(kept, unfinished, LINE)
        self.seeds = self.rows.groupby(LINE)["seed"].nunique()
        short = Counter(each[:3] for each in wrong)
        self.lacking = {
            line: f"{0 if line in unfinished else of - short[line]} of {of} seeds"
            for line, of in rows.groupby(LINE)["seed"].nunique().items()
            if line not in self.seeds.index
        }


class Lines:
    """How lines and datasets are called, in which order, and how many decimals their values have."""

    def __init__(self, rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> None:
        valued = analysis.with_values(rows)
        styles = curves.styles_of(rows)
        self.labels = {key: look.label for key, look in styles.items()}
        own = analysis.line_labels(list(styles))
        self.renamed = {own[key]: label for key, label in self.labels.items()}
        self.units = valued.groupby("dataset", sort=False)["unit"].first().to_dict()
        spread = valued.groupby("dataset")["value"].agg(lambda values: values.max() - values.min())
        self.decimals = {
            name: 1 if unit == "score" or not spread[name] > 0 else _decimals(spread[name])
            for name, unit in self.units.items()
        }

    def place(self, key: Key) -> tuple[int, int]:
        """Where a line comes: datasets first, then algorithms as in the legend."""
        return list(self.units).index(key[0]), list(self.labels).index(key[1:])

    def dataset(self, name: str) -> str:
        """Its name, and its unit where that is not the score."""
        return name if self.units[name] == "score" else f"{name} (return)"


def _decimals(spread: float) -> int:
    """So many that a thousandth of the spread can be seen."""
    return min(6, max(0, math.ceil(3 - math.log10(spread))))


def _offline(whole: Whole, lines: Lines) -> list[Section]:
    rows = whole.rows
    columns = {
        "at the end": (analysis.means_over_seeds(analysis.final_values(rows)), None),
        "area": (analysis.means_over_seeds(analysis.areas(rows)), None),
        "n to 50 %": (analysis.samples_to_level(rows, share=0.5).assign(unit="transitions"), 0),
        "n to 90 %": (analysis.samples_to_level(rows, share=0.9).assign(unit="transitions"), 0),
    }
    about = (
        "At the end: the value at n = N, mean over seeds. Area: the mean height of the offline curve, from "
        "its first point to N: how much is learnt from how little, in one number. n to 50 % and 90 %: where "
        "the mean over seeds first comes to that share of its value at the end; nothing where that is not "
        "above 0."
    )
    return [_of_each("Values and data efficiency", about, columns, whole, lines), _overtakings(rows, lines)]


def _overtakings(rows: pd.DataFrame, lines: Lines) -> Section:
    title = "Overtaking"
    if len(lines.labels) < 2:
        return Missing(title, "There is one line alone: nothing to overtake.")
    table = analysis.overtakings(rows).replace({"ahead": lines.renamed, "behind": lines.renamed})
    if table.empty:
        return Missing(title, "No two lines that are complete share a dataset.")
    body = [
        [
            Cell(line["dataset"], order=line["dataset"]),
            Cell(line["ahead"], order=line["ahead"]),
            Cell(line["behind"], order=line["behind"]),
            interval(line["estimate"], line["low"], line["high"], 0),
            Cell(f"{100 * line['holds']:.0f} %", order=line["holds"]),
        ]
        for line in table.to_dict("records")
    ]
    about = (
        "Who is ahead at the end of the data, and from which n on: the last change of sign of the difference "
        "of the means, or the first n if there is none. Holds: the share of bootstrap repetitions that end "
        "with the same one ahead; in the others it is never."
    )
    return Table(title, about, ("dataset", "ahead", "of", "from n", "holds"), body, table, texts=3)


def _over_all(rows: pd.DataFrame, lines: Lines, leave_out: bool) -> list[Section]:
    try:
        whole, _ = analysis.complete_rows(rows, leave_out)
        whole, notes = analysis.comparable_rows(whole)
    except UserError as error:
        return [Missing("Scores over datasets", f"{error}.")]
    finals, areas = analysis.final_values(whole), analysis.areas(whole)
    found = _improvement("Probability of improvement", finals, notes, lines)
    names = set(whole["dataset"].unique())
    if len(names) == 1:
        left = "".join(f"; {note}" for note in notes)
        why = f"Wants two datasets with scores, and there is one, {names.pop()}{left}."
        return [Missing("Scores over datasets", why), found]
    return [
        _across("At the end of the data", finals, notes, lines),
        _across("Area under the curve", areas, notes, lines),
        found,
    ]


def _across(title: str, measure: pd.DataFrame, notes: list[str], lines: Lines) -> Section:
    table = analysis.aggregate(measure)
    body = []
    for key, line in table.groupby(["variant", "study"], sort=False):
        cells = {row["estimator"]: row for row in line.to_dict("records")}
        numbers = [_interval(cells[name], 1) for name in STATISTICS]
        body.append([Cell(lines.labels[key], order=lines.labels[key]), *numbers])
    over = counted(measure["dataset"].nunique(), "dataset")
    about = (
        f"Scores over {over}, each weighing the same. IQM: the mean of the middle half of all runs. "
        "Optimality gap: how far runs fall short of 100 on average; lower is better. "
        f"{INTERVALS} within datasets."
    )
    return Table(title, about, ("algorithm", *STATISTICS.values()), body, _tidy(table, lines), notes=notes)


def _improvement(title: str, measure: pd.DataFrame, notes: list[str], lines: Lines) -> Section:
    if len(lines.labels) < 2:
        return Missing(title, "There is one line alone: nothing to compare it with.")
    table = analysis.probability_of_improvement(measure).replace(
        {"first": lines.renamed, "second": lines.renamed}
    )
    names = list(dict.fromkeys(table["first"]))
    found = {(line["first"], line["second"]): line for line in table.to_dict("records")}
    body = [
        [
            Cell(first, order=first),
            *(_interval(found[first, second], 2) if first != second else Cell(NOTHING) for second in names),
        ]
        for first in names
    ]
    about = (
        "How probable it is that a run of the row's algorithm ends higher than one of the column's on the "
        "same dataset, mean over datasets; a tie counts half."
    )
    return Table(title, about, ("P(row > column)", *names), body, table, notes=notes)


def _borders(datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, list[int]]:
    """Where one part ends and the next begins to arrive, of the datasets that have such."""
    found = {}
    for name, about in datasets.items():
        sizes = [size for _, size in curves.segments_of(about)]
        if len(sizes) > 1:
            found[name] = [sum(sizes[: place + 1]) for place in range(len(sizes) - 1)]
    return found


def _forgetting(
    whole: Whole,
    lines: Lines,
    borders: Mapping[str, list[int]],
    datasets: Mapping[str, Mapping[str, Any]],
) -> Section:
    table = analysis.means_over_seeds(analysis.forgetting(whole.rows, borders))
    columns = {}
    for name, inner in borders.items():
        parts = [part for part, _ in curves.segments_of(datasets[name])]
        for border, (before, after) in zip(inner, pairwise(parts), strict=True):
            head = f"{before} to {after}"
            mine = table[(table["dataset"] == name) & (table["border"] == border)]
            here, _ = columns.get(head, (None, None))
            columns[head] = pd.concat([here, mine]), None
    about = (
        "The value where one part of the data ends, less the mean height of the curve until the next ends: "
        "above 0 where the new data costs."
    )
    return _of_each("Forgetting", about, columns, whole, lines)


def _online(whole: Whole, lines: Lines) -> list[Section]:
    rows = whole.rows
    columns = {
        "at the end": (analysis.means_over_seeds(analysis.online_final_values(rows)), None),
        "gain": (analysis.means_over_seeds(analysis.online_gains(rows)), None),
        "drop": (analysis.means_over_seeds(analysis.online_drops(rows)), None),
    }
    about = (
        "At the end: the value after the last online step, mean over seeds. Gain: that less the value at n = "
        "N, where the data ends. Drop: the value at N less the lowest in the first quarter of the online "
        "steps; the lowest of noisy values lies below their mean, so that a small drop may be noise."
    )
    return [_of_each("The online phase", about, columns, whole, lines)]


def _of_each(
    title: str,
    about: str,
    columns: Mapping[str, tuple[pd.DataFrame, int | None]],
    whole: Whole,
    lines: Lines,
) -> Section:
    """A row for each line, a column for each table of `means`, with its decimals if they are not those of the
    dataset."""
    cells: dict[Key, dict[str, Cell]] = {}
    for head, (table, decimals) in columns.items():
        for line in table.to_dict("records"):
            key = line["dataset"], line["variant"], line["study"]
            places = lines.decimals[key[0]] if decimals is None else decimals
            cells.setdefault(key, {})[head] = _interval(line, places)
    if not cells:
        left = f": {listed(sorted(set(whole.lacking.values())))} complete" if whole.lacking else ""
        return Missing(title, f"No line has all of its seeds{left}.")
    seeds = {key: Cell(str(whole.seeds[key]), order=whole.seeds[key]) for key in cells}
    for key, has in whole.lacking.items():
        cells[key], seeds[key] = {}, Cell(has)
    body = [
        [
            Cell(lines.dataset(key[0]), order=key[0]),
            Cell(lines.labels[key[1:]], order=lines.labels[key[1:]]),
            *(cells[key].get(head, Cell(NOTHING)) for head in columns),
            seeds[key],
        ]
        for key in sorted(cells, key=lines.place)
    ]
    tidy = pd.concat([table.assign(statistic=head) for head, (table, _) in columns.items()])
    tidy["seeds"] = [whole.seeds[key] for key in zip(*(tidy[name] for name in LINE), strict=True)]
    return Table(
        title,
        f"{about} {INTERVALS}; with few seeds they are too narrow.",
        ("dataset", "algorithm", *columns, "seeds"),
        body,
        _tidy(tidy, lines),
        texts=2,
    )


def _interval(line: Mapping[str, Any], decimals: int) -> Cell:
    return interval(line["estimate"], line["low"], line["high"], decimals)


def _tidy(summary: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    """What is copied: lines by their labels, and of the other columns those that people know."""
    labels = [lines.labels[key] for key in zip(summary["variant"], summary["study"], strict=True)]
    wanted = (
        "dataset",
        "algorithm",
        "statistic",
        "estimator",
        "unit",
        "estimate",
        "low",
        "high",
        "seeds",
        "datasets",
        "runs",
    )
    return summary.assign(algorithm=labels)[[name for name in wanted if name in (*summary, "algorithm")]]
