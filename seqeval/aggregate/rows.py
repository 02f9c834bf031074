"""Lines of a figure: what each is worth at every x, and whether all its seeds are there."""

from __future__ import annotations

import pandas as pd

LINE = ["dataset", "variant", "study"]  # what makes a line of a figure


def with_values(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `value`: the score where the dataset has reference returns, else the return.

    A dataset has one unit, named in `unit`: where any row of it that is ok has no score, or none is ok, all
    of it is in returns.
    """
    scored = rows["score"].notna()
    in_scores = (scored | (rows["status"] != "ok")).groupby(rows["dataset"]).transform("all")
    in_scores &= scored.groupby(rows["dataset"]).transform("any")
    value = rows["score"].where(in_scores, rows["return_mean"]).astype(float)
    return rows.assign(value=value, unit=in_scores.map({True: "score", False: "return"}))


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and range over seeds at every x of every line.

    Columns: `study`, `dataset`, `variant`, `phase`, `samples`, `unit`, `mean`, `low` and `high` (lowest and
    highest seed), `seeds` (that have a value here) and `of` (seeds that the line has at all). A seed that
    failed, or that has not come this far, counts in `of` and not in `seeds`.
    """
    rows = with_values(rows)
    points = rows.groupby([*LINE, "phase", "samples", "unit"], sort=False)["value"]
    table = points.agg(mean="mean", low="min", high="max", seeds="count").reset_index()
    of = rows.groupby(LINE)["seed"].nunique().rename("of").reset_index()
    return table.merge(of, on=LINE).sort_values([*LINE, "samples"], ignore_index=True)


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """The last point of every line in each of its phases: the columns of `curves`, and `std` over seeds (n -
    1; NaN for one)."""
    rows = with_values(rows)
    each = [*LINE, "phase"]
    last = rows["samples"] == rows.groupby(each)["samples"].transform("max")
    std = rows[last].groupby(each)["value"].std().rename("std").reset_index()
    table = curves(rows).groupby(each, sort=False).tail(1)
    return table.merge(std, on=each).reset_index(drop=True)


def frozen(rows: pd.DataFrame) -> set[tuple[str, str, str]]:
    """The lines (dataset, variant, study) that go on online without learning: updates end with the data."""
    last = rows.groupby([*LINE, "phase"])["updates"].max().unstack("phase")
    if not {"offline", "online"} <= set(last.columns):
        return set()
    return set(last.index[last["online"] == last["offline"]])


def shortfalls(rows: pd.DataFrame) -> list[str]:
    """A line for each seed that does not come as far as its line does, or that failed."""
    found = []
    for key, line in rows.groupby([*LINE, "seed"], sort=False):
        dataset, variant, study, seed = key
        same = (rows["study"] == study) & (rows["dataset"] == dataset) & (rows["variant"] == variant)
        reached, end = line["samples"].max(), rows.loc[same, "samples"].max()
        failed = line.loc[line["status"] != "ok", "samples"]
        if len(failed):
            found.append(f"{dataset}, {variant}, seed {seed}: failed from n = {failed.min()} on")
        elif reached < end:
            found.append(f"{dataset}, {variant}, seed {seed}: ends at n = {reached}, others at {end}")
    return found
