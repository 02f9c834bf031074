"""Measures summed up: over the seeds of a line, and over datasets, with 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from . import bootstrap
from .rows import LINE

REPETITIONS = 20_000


def means(measure: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """The mean over the seeds of each line: [dataset, variant, study, unit, estimate, low, high, seeds], and
    `border` where the measure has one.

    Seeds alone are drawn anew: an interval of few seeds is too narrow, and one seed has none (NaN).
    """
    each = [*LINE, "unit", *(["border"] if "border" in measure else [])]
    found = []
    for key, line in measure.groupby(each, sort=False):
        values = line["value"].to_numpy()
        strata = np.zeros(len(values), int)
        weights = bootstrap.resample(repetitions, strata, *map(str, key[:3]))
        ends = bootstrap.interval_of_runs(bootstrap.mean(values, weights, strata), strata)
        found.append((*key, *ends, len(values)))
    return pd.DataFrame(found, columns=[*each, "estimate", "low", "high", "seeds"])


def difference(first: pd.DataFrame, second: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Mean of the first measure less that of the second, of each dataset and variant that both have:
    [dataset, variant, unit, estimate, low, high, seeds, other_seeds].

    Raises ValueError where one of them has several lines of one variant on a dataset.
    """
    found = []
    each = ["dataset", "variant", "unit"]
    others = dict(iter(second.groupby(each, sort=False)))
    for key, line in first.groupby(each, sort=False):
        if key not in others:
            continue
        sides = []
        for side in (line, others[key]):
            if side["study"].nunique() > 1:
                raise ValueError(f"{key[1]} on {key[0]} has lines of several studies")
            values = side["value"].to_numpy()
            strata = np.zeros(len(values), int)
            weights = bootstrap.resample(repetitions, strata, *map(str, key[:2]), side["study"].iloc[0])
            sides.append(bootstrap.mean(values, weights, strata))
        ends = bootstrap.interval(sides[0] - sides[1])
        found.append((*key, *ends, len(line), len(others[key])))
    return pd.DataFrame(found, columns=[*each, "estimate", "low", "high", "seeds", "other_seeds"])


def across(measure: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Over all datasets, each weighing the same: [variant, study, statistic, estimate, low, high, datasets,
    runs], the statistic mean, median, iqm or optimality_gap. One seed a dataset has no interval (NaN).

    Raises ValueError where lines are not on the same datasets, or where values are not scores (`comparable`).
    """
    found = []
    for key, values, strata in _lines(measure):
        weights = bootstrap.resample(repetitions, strata, *key)
        for name, estimator in bootstrap.ESTIMATORS.items():
            ends = bootstrap.interval_of_runs(estimator(values, weights, strata), strata)
            found.append((*key, name, *ends, len(np.unique(strata)), len(values)))
    columns = ["variant", "study", "statistic", "estimate", "low", "high", "datasets", "runs"]
    return pd.DataFrame(found, columns=columns)


def profile(
    measure: pd.DataFrame, levels: Sequence[float] | np.ndarray, repetitions: int = 2000
) -> pd.DataFrame:
    """Share of runs above each level (performance profile): [variant, study, level, estimate, low, high].
    Raises ValueError as `across`."""
    levels = np.asarray(levels, float)
    found = []
    for key, values, strata in _lines(measure):
        weights = bootstrap.resample(repetitions, strata, *key)
        ends = bootstrap.interval(bootstrap.profile(values, weights, levels))
        found += [(*key, *point) for point in zip(levels, *ends, strict=True)]
    return pd.DataFrame(found, columns=["variant", "study", "level", "estimate", "low", "high"])


def improvement(measure: pd.DataFrame, repetitions: int = 2000) -> pd.DataFrame:
    """Probability that a run of the first line has a higher value than one of the second on the same dataset,
    mean over datasets, of every ordered pair: [first, second, estimate, low, high], lines as `labels` calls
    them. Raises ValueError as `across`."""
    lines = {}
    for key, values, strata in _lines(measure):
        lines[key] = values, bootstrap.resample(repetitions, strata, *key), strata
    called = labels(lines)
    found = [
        (
            called[a],
            called[b],
            *bootstrap.interval_of_runs(bootstrap.improvement(lines[a], lines[b]), lines[a][2], lines[b][2]),
        )
        for a, b in permutations(lines, 2)
    ]
    return pd.DataFrame(found, columns=["first", "second", "estimate", "low", "high"])


def labels(lines: Sequence[tuple[str, str]] | dict) -> dict[tuple[str, str], str]:
    """What each (variant, study) is called: the variant, and its study behind it where others have it too."""
    pairs = list(dict.fromkeys(lines))
    variants = [variant for variant, _ in pairs]
    return {pair: pair[0] if variants.count(pair[0]) == 1 else f"{pair[0]} ({pair[1]})" for pair in pairs}


def _lines(measure: pd.DataFrame) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Each (variant, study), its values (n,) and the number of each one's dataset (n,)."""
    if set(measure["unit"]) - {"score"}:
        raise ValueError("only scores can be put together over datasets")
    names = sorted(set(measure["dataset"]))
    for key, line in measure.groupby(["variant", "study"], sort=False):
        if len(missing := set(names) - set(line["dataset"])):
            raise ValueError(f"{key[0]} is not on {', '.join(sorted(missing))}")
        if line.duplicated(["dataset", "seed"]).any():
            raise ValueError(f"{key[0]}: a seed has several values on a dataset")
        yield key, line["value"].to_numpy(), np.searchsorted(names, line["dataset"])
