"""Lines: the runs of one (dataset, variant, study), one run per seed, and their values at every x."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from . import bootstrap

LINE = ["dataset", "variant", "study"]
RUN = [*LINE, "seed"]
REPETITIONS = 2000  # of the bootstrap of a mean curve


def variants(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The (variant, study) pairs of rows or of a table of statistics: variants in order of first appearance,
    and within a variant the studies in theirs."""
    pairs = list(rows[["variant", "study"]].drop_duplicates().itertuples(index=False, name=None))
    variants, studies = (list(rows[name].unique()) for name in ("variant", "study"))
    return sorted(pairs, key=lambda pair: (variants.index(pair[0]), studies.index(pair[1])))


def line_labels(lines: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The label of each (variant, study): the variant, with the study in brackets if others have it too."""
    pairs = list(dict.fromkeys(lines))
    names = [variant for variant, _ in pairs]
    return {pair: pair[0] if names.count(pair[0]) == 1 else f"{pair[0]} ({pair[1]})" for pair in pairs}


def with_values(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns `value` and `unit`.

    The value is the score if the dataset has reference returns, else the return. A dataset has one unit: if
    any of its rows with status ok has no score, or no row is ok, all of its values are returns. The unit is
    `none`, without values, if there is no environment to evaluate in. Values that `with_metric` chose stay.
    """
    if "metric" in rows:
        return rows
    scored = rows["score"].notna()
    in_scores = (scored | (rows["status"] != "ok")).groupby(rows["dataset"]).transform("all")
    in_scores &= scored.groupby(rows["dataset"]).transform("any")
    value = rows["score"].where(in_scores, rows["return_mean"]).astype(float)
    unit = in_scores.map({True: "score", False: "return"})
    return rows.assign(value=value, unit=unit.mask(rows["dataset"].isin(unevaluated_datasets(rows)), "none"))


def unevaluated_datasets(rows: pd.DataFrame) -> list[str]:
    """The datasets without an environment: they have rows with status ok, but no returns and no scores. None
    where `with_metric` chose another value."""
    if "metric" in rows:
        return []
    valued = rows.loc[rows["score"].notna() | rows["return_mean"].notna(), "dataset"].unique()
    return [name for name in rows.loc[rows["status"] == "ok", "dataset"].unique() if name not in valued]


def smoothed(
    rows: pd.DataFrame, points: int, columns: Iterable[str] = ("score", "return_mean")
) -> pd.DataFrame:
    """The rows with these columns replaced by their mean over the last `points` points of the run.

    A phase begins anew, and at its first points there are fewer. A point does not depend on later ones, so
    none shows data before it arrives. A point without a value stays without, and so do those whose mean
    would include it.
    """
    if points == 1:
        return rows
    rows = rows.reset_index(drop=True)
    ordered = rows.sort_values([*RUN, "samples"], kind="stable")
    keys = [ordered[name] for name in (*RUN, "phase")]
    place = ordered.groupby(keys).cumcount()
    changed = {}
    for name in columns:
        values = ordered[name].groupby(keys)
        window = np.stack([values.shift(back).to_numpy() for back in range(points)])  # (points, rows)
        exists = place.to_numpy() >= np.arange(points)[:, None]
        means = np.where(exists, window, 0.0).sum(axis=0) / exists.sum(axis=0)  # NaN if any value is missing
        changed[name] = pd.Series(means, ordered.index)
    return rows.assign(**changed)


def mean_curves(rows: pd.DataFrame, band: str = "range") -> pd.DataFrame:
    """Mean over seeds at every x of every line, and the ends of a band around it; lines in the rows' order.

    Columns: `study`, `dataset`, `variant`, `phase`, `samples`, `unit`, `mean`, `low`, `high`, `seeds` (with a
    value at this x) and `total_seeds` (of the line). A seed that failed or ended earlier counts in
    `total_seeds` only. `low` and `high` are the lowest and highest seed (band `range`), the mean ± the
    standard deviation over seeds (`std`), or the 95 % interval of the mean by the bootstrap over seeds (`ci`;
    NaN where a seed has no value). One seed has neither deviation nor interval: both ends are its value.
    """
    rows = with_values(rows)
    points = rows.groupby([*LINE, "phase", "samples", "unit"], sort=False)["value"]
    table = points.agg(mean="mean", low="min", high="max", seeds="count", std="std").reset_index()
    total = rows.groupby(LINE)["seed"].nunique().rename("total_seeds").reset_index()
    table = table.merge(total, on=LINE)
    lines = rows[LINE].drop_duplicates().itertuples(index=False, name=None)
    places = {key: place for place, key in enumerate(lines)}
    table["place"] = [places[key] for key in table[LINE].itertuples(index=False, name=None)]
    table = table.sort_values(["place", "samples"], ignore_index=True).drop(columns="place")
    if band == "std":
        deviation = table["std"].fillna(0.0)
        table["low"], table["high"] = table["mean"] - deviation, table["mean"] + deviation
    elif band == "ci":
        for key, line in rows.groupby(LINE):
            runs = line.pivot(index="samples", columns="seed", values="value").dropna()
            means = bootstrap.resampled_mean(runs.to_numpy().T, REPETITIONS, *map(str, key))
            _, low, high = bootstrap.interval(means)
            of_line = (table[LINE] == list(key)).all(axis=1)
            for name, ends in (("low", low), ("high", high)):
                table.loc[of_line, name] = table["samples"].map(dict(zip(runs.index, ends, strict=True)))
    return table.drop(columns="std")


def last_points(rows: pd.DataFrame) -> pd.DataFrame:
    """The last point of every line in each phase: the columns of `mean_curves`, and `std` over seeds.

    `std` divides by the number of seeds less 1; it is NaN for one seed.
    """
    rows = with_values(rows)
    keys = [*LINE, "phase"]
    last = rows["samples"] == rows.groupby(keys)["samples"].transform("max")
    std = rows[last].groupby(keys)["value"].std().rename("std").reset_index()
    table = mean_curves(rows).groupby(keys, sort=False).tail(1)
    return table.merge(std, on=keys).reset_index(drop=True)


def frozen_lines(rows: pd.DataFrame) -> set[tuple[str, str, str]]:
    """The lines (dataset, variant, study) that make no updates in the online phase."""
    last = rows.groupby([*LINE, "phase"])["updates"].max().unstack("phase")
    if not {"offline", "online"} <= set(last.columns):
        return set()
    return set(last.index[last["online"] == last["offline"]])


def run_curves(rows: pd.DataFrame) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """For each run: (dataset, variant, study, seed, unit), its n in ascending order, and its values there.

    Runs are sorted by key, so that the bootstrap does not depend on the order of the rows. Raises ValueError
    if a value is missing.
    """
    valued = with_values(rows) if len(rows) else rows.assign(unit="", value=0.0)
    if valued["value"].isna().any():
        raise ValueError("values are missing; `complete_rows` names the seeds and can leave them out")
    for key, run in valued.sort_values([*RUN, "samples"]).groupby([*RUN, "unit"], sort=False):
        yield key, run["samples"].to_numpy(float), run["value"].to_numpy(float)
