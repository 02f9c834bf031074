"""Measures: one number a run, read off its curve.

Each gives a table [dataset, variant, study, seed, unit, value], which `means`, `across`, `profile` and
`improvement` take. Each wants complete rows (`complete`) and raises ValueError for others. Between two points
a curve is a straight line; beyond its ends it is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from .rows import LINE, with_values

RUN = [*LINE, "seed"]
EARLY = 0.25  # share of the online steps in which a drop belongs to the hand-over


def finals(rows: pd.DataFrame, phase: str = "offline") -> pd.DataFrame:
    """The value at the last point of a phase; runs without that phase are left out."""
    return _measure(rows[rows["phase"] == phase], lambda n, values: values[-1])


def areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Area under the offline curve: trapezoids over n from the first row to the last, divided by that width,
    so in the unit of the curve. A run of one point has none and is left out."""
    return _measure(rows[rows["phase"] == "offline"], _mean_height)


def at(rows: pd.DataFrame, samples: Mapping[str, float]) -> pd.DataFrame:
    """The value at n = `samples` of each dataset; runs that do not reach from below to beyond it are left
    out."""
    found = []
    for dataset, n in samples.items():
        mine = rows[rows["dataset"] == dataset]
        found.append(_measure(mine, partial(_between, where=n)))
    return pd.concat(found, ignore_index=True)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What the online phase adds: the value at its end less the value at N, where the data ends."""
    return _measure_online(rows, lambda n, values: values[-1] - values[0])


def drops(rows: pd.DataFrame) -> pd.DataFrame:
    """What the hand-over costs: the value at N less the lowest in the first quarter of the online steps (at
    the first online point, if it comes later). Negative where every value there is above that at N. A lowest
    of several noisy values lies below their mean, so a small drop may be noise."""

    def drop(n: np.ndarray, values: np.ndarray) -> float:
        early = (n <= n[0] + EARLY * (n[-1] - n[0])) & (n > n[0])
        early[1] = True
        return values[0] - values[early].min()

    return _measure_online(rows, drop)


def forgetting(rows: pd.DataFrame, borders: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """What a change of the data's distribution costs: the value at a border less the mean height of the curve
    from there to the next border or to the end of the data.

    `borders` are, by dataset, the n at which a segment ends and the next begins to arrive; the table has a
    row for each, in its column `border`. A mean is no more noisy below than above, so that without
    forgetting this is 0 on average, or negative where learning goes on.
    """
    offline = rows[rows["phase"] == "offline"]
    found = []
    for dataset, inner in borders.items():
        mine = offline[offline["dataset"] == dataset]
        for border, until in zip(inner, [*inner[1:], np.inf], strict=True):

            def lost(n: np.ndarray, values: np.ndarray, a: float = border, b: float = until) -> float:
                here = _between(n, values, a)
                b = min(b, n[-1])
                inside = (n > a) & (n < b)
                x = np.concatenate(([a], n[inside], [b]))
                y = np.concatenate(([here], values[inside], [_between(n, values, b)]))
                return here - _mean_height(x, y)

            found.append(_measure(mine, lost).assign(border=border))
    columns = [*RUN, "unit", "value", "border"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def runs(rows: pd.DataFrame) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Each run's (dataset, variant, study, seed, unit), its n in order, and its values there, runs in the
    order of their keys: what the bootstrap draws must not hang on the order of the rows.

    Raises ValueError where a value is missing.
    """
    valued = with_values(rows) if len(rows) else rows.assign(unit="", value=0.0)
    if valued["value"].isna().any():
        raise ValueError("values are missing; `complete` says which, and leaves their seeds out if asked to")
    for key, run in valued.sort_values([*RUN, "samples"]).groupby([*RUN, "unit"], sort=False):
        yield key, run["samples"].to_numpy(float), run["value"].to_numpy(float)


def _measure(rows: pd.DataFrame, number: Callable[[np.ndarray, np.ndarray], float]) -> pd.DataFrame:
    """A measure; what is NaN is left out."""
    found = [(*key, number(n, values)) for key, n, values in runs(rows)]
    table = pd.DataFrame(found, columns=[*RUN, "unit", "value"])
    return table.dropna(subset="value").reset_index(drop=True)


def _measure_online(rows: pd.DataFrame, number: Callable[[np.ndarray, np.ndarray], float]) -> pd.DataFrame:
    """A measure of the last offline row and the online rows behind it, of the runs that have both."""
    run = rows.groupby(RUN)
    end_of_data = rows["samples"].where(rows["phase"] == "offline").groupby([rows[k] for k in RUN])
    online = (rows["phase"] == "online").groupby([rows[k] for k in RUN]).transform("any")
    both = online & (run["phase"].transform("nunique") == 2)
    return _measure(rows[both & (rows["samples"] >= end_of_data.transform("max"))], number)


def _mean_height(n: np.ndarray, values: np.ndarray) -> float:
    return float(np.trapezoid(values, n) / (n[-1] - n[0])) if n[-1] > n[0] else np.nan


def _between(n: np.ndarray, values: np.ndarray, where: float) -> float:
    return float(np.interp(where, n, values)) if n[0] <= where <= n[-1] else np.nan
