"""The statistics of a line: one function each, registered by the decorator above it.

To add a statistic, write its function here. `seqeval table` and the report take it from `STATISTICS`.

A statistic of runs reads one number off the curve of each run: rows to run values [dataset, variant, study,
seed, unit, value]. A statistic of the mean curve is computed from all seeds of a line together: rows to
[dataset, variant, study, unit, estimate, low, high]. Both need complete rows (`complete_rows`) and raise
ValueError for others. Between two points a curve is linear; it is never extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from .curves import samples_to_level
from .lines import RUN, run_curves
from .summaries import means_over_seeds

REGRET = "train/regret"  # the metric of online rows: the share of training episodes without success
EARLY = 0.25  # share of the online steps that `online_drops` looks at

Frame = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Statistic:
    """What `seqeval table` and the report know of a statistic."""

    name: str  # in the column `statistic` of the table's CSV
    heading: str  # of its column in the report
    description: str  # completes a sentence that begins with its unit: "Score at the end of the data"
    compute: Frame  # rows to run values or, for a statistic of the mean curve, to estimates
    phase: str = "offline"  # or "online": the phase that a line must have
    of_runs: bool = True  # whether `compute` returns run values, which can be aggregated over datasets
    in_tables: bool = True  # whether `seqeval table` prints it, if it is of runs; the report shows all
    noun: str = "value"  # what the report calls it
    lower_is_better: bool = False

    def estimates(self, rows: pd.DataFrame) -> pd.DataFrame:
        """[dataset, variant, study, unit, estimate, low, high] of every line; `rows` must be complete."""
        table = self.compute(rows)
        return means_over_seeds(table) if self.of_runs else table


STATISTICS: dict[str, Statistic] = {}


def statistic(
    name: str,
    heading: str,
    description: str,
    *,
    phase: str = "offline",
    of_runs: bool = True,
    in_tables: bool = True,
    noun: str = "value",
    lower_is_better: bool = False,
) -> Callable[[Frame], Frame]:
    """Registers a function of rows as a statistic; the arguments are the fields of `Statistic`."""

    def register(compute: Frame) -> Frame:
        STATISTICS[name] = Statistic(
            name, heading, description, compute, phase, of_runs, in_tables, noun, lower_is_better
        )
        return compute

    return register


@statistic("final", "at the end", "at the end of the data")
def final_values(rows: pd.DataFrame) -> pd.DataFrame:
    """The value at the last offline point of each run."""
    return _run_values(rows[rows["phase"] == "offline"], lambda n, values: values[-1])


@statistic("area", "area", "averaged over the data seen (area under the offline curve, divided by its width)")
def areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Area under the offline curve, by trapezoids from the first point to the last, divided by that width.

    It has the unit of the curve. A run of one point has no area and is left out.
    """
    return _run_values(rows[rows["phase"] == "offline"], _mean_height)


@statistic(
    "n_to_50",
    "n to 50 %",
    "seen when the mean reaches 50 % of its value at the end",
    of_runs=False,
    noun="transitions",
)
def samples_to_half(rows: pd.DataFrame) -> pd.DataFrame:
    """The n at which the mean curve first reaches half of its last value, where that is positive."""
    return samples_to_level(rows[rows["phase"] == "offline"], share=0.5).assign(unit="transitions")


@statistic(
    "n_to_90",
    "n to 90 %",
    "seen when the mean reaches 90 % of its value at the end",
    of_runs=False,
    noun="transitions",
)
def samples_to_most(rows: pd.DataFrame) -> pd.DataFrame:
    """The n at which the mean curve first reaches 90 % of its last value, where that is positive."""
    return samples_to_level(rows[rows["phase"] == "offline"], share=0.9).assign(unit="transitions")


@statistic("online", "at the end", "at the end of the online phase", phase="online")
def online_final_values(rows: pd.DataFrame) -> pd.DataFrame:
    """The value at the last online point of each run that has an online phase."""
    return _run_values(rows[rows["phase"] == "online"], lambda n, values: values[-1])


@statistic("gain", "gain", "gained in the online phase: its end less the end of the data", phase="online")
def online_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """The value at the end of the online phase less the value at N, of runs with both phases."""
    return _run_values(_from_end_of_data(rows), lambda n, values: values[-1] - values[0])


@statistic(
    "drop",
    "drop",
    "lost early in the online phase: the end of the data less the lowest value in the first quarter of the "
    "online steps (the lowest of noisy values lies below their mean, so a small drop may be noise)",
    phase="online",
    in_tables=False,
)
def online_drops(rows: pd.DataFrame) -> pd.DataFrame:
    """The value at N less the lowest value in the first quarter of the online steps.

    If no online point lies there, the first one counts. Negative if every value there is above that at N.
    """

    def drop(n: np.ndarray, values: np.ndarray) -> float:
        early = (n <= n[0] + EARLY * (n[-1] - n[0])) & (n > n[0])
        early[1] = True
        return values[0] - values[early].min()

    return _run_values(_from_end_of_data(rows), drop)


@statistic(
    "regret",
    "regret",
    "of all online training episodes without success (0 to 1; lower is better)",
    phase="online",
    noun="share",
    lower_is_better=True,
)
def online_regrets(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of 1 - success over all training episodes that finished in the online phase, of each run.

    It is the metric `train/regret` of the last online row. Runs without an online phase, without learning in
    it, or in an environment that reports no success have none. Source: CORL (arXiv 2210.07105).
    """
    if REGRET not in rows or "metric" in rows:  # it does not depend on the chosen metric
        return pd.DataFrame(columns=[*RUN, "unit", "value"])
    online = rows[rows["phase"] == "online"]
    regrets = online.assign(unit="share", value=online[REGRET].astype(float))
    last = regrets.sort_values("samples").groupby(RUN).tail(1)
    return last.dropna(subset="value").sort_values(RUN)[[*RUN, "unit", "value"]].reset_index(drop=True)


def forgetting(rows: pd.DataFrame, borders: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """The cost of a change of the data distribution: the value at a border less the mean height after it.

    `borders` holds, for each dataset, the n at which one segment ends and the next begins to arrive; the mean
    height is that of the curve up to the next border or the end of the data. One row per run and border, in
    column `border`. Without forgetting it is 0 on average, or negative if learning continues.
    """
    offline = rows[rows["phase"] == "offline"]
    found = [pd.DataFrame(columns=[*RUN, "unit", "value", "border"])]
    for dataset, starts in borders.items():
        for start, end in zip(starts, [*starts[1:], np.inf], strict=True):
            lost = partial(_height_lost, start=start, end=end)
            found.append(_run_values(offline[offline["dataset"] == dataset], lost).assign(border=start))
    return pd.concat(found[1:] or found, ignore_index=True)


def _run_values(rows: pd.DataFrame, function: Callable[[np.ndarray, np.ndarray], float]) -> pd.DataFrame:
    """Run values: `function` of each run's n and values; a run whose value is NaN is left out."""
    found = [(*key, function(n, values)) for key, n, values in run_curves(rows)]
    table = pd.DataFrame(found, columns=[*RUN, "unit", "value"])
    return table.dropna(subset="value").reset_index(drop=True)


def _from_end_of_data(rows: pd.DataFrame) -> pd.DataFrame:
    """The last offline row and all online rows of each run that has both phases."""
    keys = [rows[name] for name in RUN]
    offline = rows["phase"] == "offline"
    both = offline.groupby(keys).transform("nunique") == 2
    end_of_data = rows["samples"].where(offline).groupby(keys).transform("max")
    return rows[both & (rows["samples"] >= end_of_data)]


def _mean_height(n: np.ndarray, values: np.ndarray) -> float:
    return float(np.trapezoid(values, n) / (n[-1] - n[0])) if n[-1] > n[0] else np.nan


def _interpolate(n: np.ndarray, values: np.ndarray, at: float) -> float:
    return float(np.interp(at, n, values)) if n[0] <= at <= n[-1] else np.nan


def _height_lost(n: np.ndarray, values: np.ndarray, start: float, end: float) -> float:
    """The value at `start` less the mean height of the curve from there to `end` or to its last point."""
    first, end = _interpolate(n, values, start), min(end, n[-1])
    inside = (n > start) & (n < end)
    x = np.concatenate(([start], n[inside], [end]))
    y = np.concatenate(([first], values[inside], [_interpolate(n, values, end)]))
    return first - _mean_height(x, y)
