"""Summaries of run values over seeds and over datasets, with 95 % bootstrap intervals.

Run values are tables [dataset, variant, study, seed, unit, value], one row per run, as the functions of
`statistics` return them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from . import bootstrap
from .lines import LINE, line_labels

REPETITIONS = 20_000


def means_over_seeds(values: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """The mean over the seeds of each line: [dataset, variant, study, unit, estimate, low, high, seeds].

    A column `border` of the values is kept. The bootstrap resamples seeds only, so an interval of few seeds
    is too narrow; one seed has none (NaN).
    """
    keys = [*LINE, "unit", *(["border"] if "border" in values else [])]
    found = []
    for key, line in values.groupby(keys, sort=False):
        means = bootstrap.resampled_mean(line["value"].to_numpy(), repetitions, *map(str, key[:3]))
        ends = bootstrap.interval_over_seeds(means, np.zeros(len(line)))
        found.append((*key, *ends, len(line)))
    return pd.DataFrame(found, columns=[*keys, "estimate", "low", "high", "seeds"])


def mean_difference(
    first: pd.DataFrame, second: pd.DataFrame, repetitions: int = REPETITIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the run values of one line less that of another line: estimate, low and high."""
    means = [
        bootstrap.resampled_mean(line["value"].to_numpy(), repetitions, *line[LINE].iloc[0])
        for line in (first, second)
    ]
    return bootstrap.interval(means[0] - means[1])


def aggregate(values: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Estimators over all datasets: [variant, study, estimator, estimate, low, high, datasets, runs].

    The estimators are mean, median, iqm and optimality_gap; every dataset has the same weight. With one seed
    per dataset there is no interval (NaN). Raises ValueError if lines are on different datasets
    (`comparable_rows` gives rows that are not), and as `require_one_unit`.
    """
    require_one_unit(values)
    found = []
    for key, scores, strata in _lines(values):
        weights = bootstrap.resample(repetitions, strata, *key)
        for name, estimator in bootstrap.ESTIMATORS.items():
            ends = bootstrap.interval_over_seeds(estimator(scores, weights, strata), strata)
            found.append((*key, name, *ends, len(np.unique(strata)), len(scores)))
    columns = ["variant", "study", "estimator", "estimate", "low", "high", "datasets", "runs"]
    return pd.DataFrame(found, columns=columns)


def performance_profile(
    values: pd.DataFrame, levels: Sequence[float] | np.ndarray, repetitions: int = 2000
) -> pd.DataFrame:
    """Share of runs above each level: [variant, study, level, estimate, low, high].

    Raises ValueError as `aggregate`. Source: Agarwal et al. 2021, arXiv 2108.13264.
    """
    require_one_unit(values)
    levels = np.asarray(levels, float)
    found = []
    for key, scores, strata in _lines(values):
        weights = bootstrap.resample(repetitions, strata, *key)
        ends = bootstrap.interval(bootstrap.profile(scores, weights, levels))
        found += [(*key, *point) for point in zip(levels, *ends, strict=True)]
    return pd.DataFrame(found, columns=["variant", "study", "level", "estimate", "low", "high"])


def probability_of_improvement(
    values: pd.DataFrame, repetitions: int = 2000, lower_is_better: bool = False
) -> pd.DataFrame:
    """Probability that a run of the first line has a higher score than one of the second on the same dataset.

    The mean over datasets for every ordered pair: [first, second, estimate, low, high], with lines named by
    `line_labels`; with `lower_is_better`, that it has a lower value. Raises ValueError if lines are on
    different datasets.
    """
    lines = {
        key: (scores, bootstrap.resample(repetitions, strata, *key), strata)
        for key, scores, strata in _lines(values)
    }
    labels = line_labels(lines)
    found = []
    for a, b in permutations(lines, 2):
        pair = (lines[b], lines[a]) if lower_is_better else (lines[a], lines[b])
        estimates = bootstrap.improvement(*pair)
        ends = bootstrap.interval_over_seeds(estimates, lines[a][2], lines[b][2])
        found.append((labels[a], labels[b], *ends))
    return pd.DataFrame(found, columns=["first", "second", "estimate", "low", "high"])


def require_one_unit(values: pd.DataFrame) -> None:
    """Raises ValueError if values of several datasets are not scores: they would not have one unit."""
    if set(values["unit"]) - {"score"} and values["dataset"].nunique() > 1:
        raise ValueError("only scores can be aggregated over datasets")


def _lines(values: pd.DataFrame) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Each (variant, study), the scores (n,) of its runs and their dataset numbers (n,)."""
    names = sorted(set(values["dataset"]))
    for key, line in values.groupby(["variant", "study"], sort=False):
        if missing := set(names) - set(line["dataset"]):
            raise ValueError(f"{key[0]} is not on {', '.join(sorted(missing))}")
        if line.duplicated(["dataset", "seed"]).any():
            raise ValueError(f"{key[0]}: a seed has several values on a dataset")
        yield key, line["value"].to_numpy(), np.searchsorted(names, line["dataset"])
