"""Which rows a figure shows, in which order, and under which names."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from seqeval import analysis
from seqeval.errors import UserError, nearest
from seqeval.figure_options import FigureOptions

NOUNS = {"dataset": "datasets", "variant": "algorithms"}  # in study.json and in the options, by column


def select(rows: pd.DataFrame, options: FigureOptions) -> pd.DataFrame:
    """The rows of the datasets and variants in `options`, sorted by variant and study (see `order`).

    Raises UserError for a dataset or variant without rows.
    """
    for column in NOUNS:
        rows = rows[rows[column].isin(order(rows, column, options))]
    rows = _sorted(rows, "study", list(analysis.studies_of(rows)))
    return _sorted(rows, "variant", order(rows, "variant", options))


def order(rows: pd.DataFrame, column: str, options: FigureOptions) -> list[str]:
    """The datasets or variants of the rows, in the order of `options`; by default in the order in which the
    studies were loaded and in which their command lines name them."""
    present = list(rows[column].unique())
    if column == "dataset":
        chosen = list(options.datasets)
    else:  # the name of an algorithm stands for all variants of its sweep
        chosen = [
            variant
            for name in options.algorithms
            for variant in (
                [name]
                if name in present
                else rows.loc[rows["algorithm"] == name, "variant"].unique().tolist() or [name]
            )
        ]
    for name in chosen:
        if name not in present:
            hint = nearest(name, present)
            raise UserError(f"{NOUNS[column]}: no rows of {name!r}{hint}; there are {', '.join(present)}")
    studies = analysis.studies_of(rows).values()
    given = [name for study in studies for name in study.get(NOUNS[column], ())]
    return [name for name in dict.fromkeys(chosen or [*given, *present]) if name in present]


def with_value(rows: pd.DataFrame, metric: str | None) -> tuple[pd.DataFrame, list[str]]:
    """The rows with a metric as their value (`analysis.with_metric`), and notes on the lines that lack it.

    Without a metric they keep their scores or returns; rows that have neither, since no dataset has an
    environment, are shown by `analysis.default_metric`. Raises UserError if no row has the metric.
    """
    notes = []
    declared = analysis.declared_metrics(analysis.studies_of(rows).values())
    if metric is None and set(rows["dataset"]) == set(analysis.unevaluated_datasets(rows)):
        metric = analysis.default_metric(rows, declared)
        notes = [f"no environment, so no returns; shown instead: {metric}"] if metric else []
    if metric is None:
        return rows, []
    shown = analysis.with_metric(rows, metric, declared)
    lines = [part[["dataset", "variant"]].drop_duplicates().itertuples(index=False) for part in (rows, shown)]
    if lacking := sorted(set(lines[0]) - set(lines[1])):
        names = ", ".join(f"{variant} on {dataset}" for dataset, variant in lacking)
        notes.append(f"without {metric}, so not shown: {names}")
    for (dataset, variant, _), (start, seeds) in analysis.late_seeds(rows, metric).items():
        names = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        verb = "have" if len(seeds) > 1 else "has"
        notes.append(f"{dataset}, {variant}: starts at n = {start}; {names} {verb} no {metric} before")
    return shown, notes


def require_one_scale(rows: pd.DataFrame) -> None:
    """Raises UserError where values of several datasets have no common scale to be averaged on."""
    names = list(rows["dataset"].unique())
    if "metric" in rows and rows["metric"].iloc[0] != "score" and len(names) > 1:
        raise UserError(
            f"plot: {rows['metric'].iloc[0]} has no common scale over datasets, so it cannot be averaged "
            f"over {', '.join(names)}; choose one with --datasets, or --figure ranks or improvement"
        )


def _sorted(rows: pd.DataFrame, column: str, order: list[str]) -> pd.DataFrame:
    """The rows sorted by the place of a column's values in `order`; equal ones keep their order."""
    places = {name: place for place, name in enumerate(order)}
    return rows.sort_values(column, key=lambda names: names.map(places), kind="stable")


def names(rows: pd.DataFrame, options: FigureOptions) -> dict[str, str]:
    """The text for each name in `options.labels`, which are variants, datasets or studies of the rows.

    Names may contain `=`: the longest known name counts. Raises UserError for an unknown name.
    """
    known = [name for column in ("variant", "dataset", "study") for name in rows[column].unique()]
    found = {}
    for label in options.labels:
        matching = [name for name in known if label.startswith(f"{name}=")]
        if not matching:
            name = label.partition("=")[0]
            raise UserError(
                f"labels: {name!r} is no variant, dataset or study of the figure{nearest(name, known)}; "
                f"there are {', '.join(dict.fromkeys(known))}"
            )
        name = max(matching, key=len)
        found[name] = label[len(name) + 1 :]
    return found


def refuse_useless(options: FigureOptions, accepted: Iterable[str], bands: tuple[str, ...]) -> None:
    """Raises UserError for an option that would change nothing, or for a band that is not one of `bands`."""
    if options.value is not None and "value" not in accepted:
        raise UserError("plot: --value: this figure can only be about scores or returns; leave --value out")
    if useless := [option for option in options.given if option not in accepted]:
        flags = " and ".join(f"--{option}" for option in useless)
        raise UserError(f"plot: {flags} would change nothing in this figure; leave {flags} out")
    if options.band not in (None, *bands):
        raise UserError(f"plot: --band {options.band}: this figure draws only {' or '.join(bands)}")
