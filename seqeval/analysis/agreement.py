"""Which metric could have chosen: metrics that need no environment against true values, at every x.

The candidates are all runs (variant × seed) on a dataset at the same n. Rank correlation and regret@k as in
Fu et al., *Benchmarks for Deep Off-Policy Evaluation* (arXiv 2103.16596).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqeval.errors import UserError
from seqeval.seeding import stream

from . import bootstrap
from .lines import LINE, with_values

REPETITIONS = 1000
TOP = (1, 3)  # k of regret@k
RANKED = 2  # runs with a metric, at the least
RANDOM = "random choice"  # in the column `metric`: what a metric has to beat


def agreement(
    rows: pd.DataFrame,
    declared: Mapping[str, Mapping[str, Any]],
    top: Sequence[int] = TOP,
    repetitions: int = REPETITIONS,
) -> pd.DataFrame:
    """Spearman correlation and regret@k of each metric with the true values of the offline phase.

    `declared` is that of `declared_metrics`; metrics without a direction are left out. Columns: [dataset,
    metric, samples, statistic, unit, runs, ranked, estimate, low, high], with `runs` that have a true value
    and `ranked` that have the metric too.

    - `spearman`: rank correlation over the ranked runs, positive where the metric ranks as the true values do
    - `regret@k`: the best true value of all runs, minus the best among the k that the metric ranks highest;
      of runs with an equal metric the worst comes first

    The metric `RANDOM` has the mean regret of k runs drawn at random without replacement.

    The intervals (95 %) resample the seeds of each line, the same ones for all metrics and x; NaN where every
    line has one seed. A dataset on which no metric ranks two runs is left out. Raises UserError if no row
    has a true value, or none a metric, or if no dataset is left.
    """
    valued = with_values(rows[(rows["phase"] == "offline") & (rows["status"] == "ok")])
    valued = valued[valued["value"].notna()]
    metrics = [
        name
        for name, metric in declared.items()
        if metric["better"] is not None and name in valued and valued[name].notna().any()
    ]
    if valued.empty:
        raise UserError("agreement: no run has returns to compare metrics with; evaluate episodes with --env")
    if not metrics:
        raise UserError(
            "agreement: no run with returns has a metric; add some, for example --evaluation.metrics "
            "episodes prequential initial-value fqe"
        )
    found: list[tuple[Any, ...]] = []
    for (dataset, samples, unit), candidates in valued.groupby(["dataset", "samples", "unit"], sort=True):
        candidates = candidates.sort_values([*LINE, "seed"])
        drawn = _draw(candidates, repetitions, str(dataset))
        for name in metrics:
            if candidates[name].notna().sum() < RANKED:
                continue
            sign = 1.0 if declared[name]["better"] == "higher" else -1.0
            statistics = _statistics(
                sign * candidates[name].to_numpy(float), candidates["value"].to_numpy(), drawn, top
            )
            counts = len(candidates), int(candidates[name].notna().sum())
            for statistic, ends in statistics.items():
                of = "" if statistic == "spearman" else unit
                found.append((dataset, name, samples, statistic, of, *counts, *ends))
        values, spread = candidates["value"].to_numpy()[drawn], _has_spread(drawn)
        for k in top:
            ends = _ends(random_regret(values, k), spread)
            counts = len(candidates), len(candidates)
            found.append((dataset, RANDOM, samples, f"regret@{k}", unit, *counts, *ends))
    columns = ["dataset", "metric", "samples", "statistic", "unit", "runs", "ranked"]
    numbers = pd.DataFrame(found, columns=[*columns, "estimate", "low", "high"])
    with_metric = numbers["dataset"].isin(numbers.loc[numbers["metric"] != RANDOM, "dataset"])
    if not with_metric.any():
        raise UserError(
            f"agreement: needs at least {RANKED} runs (variants × seeds) on a dataset that have a metric and "
            "returns, and there are fewer; add variants or seeds"
        )
    return numbers[with_metric].reset_index(drop=True)


def _statistics(
    metric: np.ndarray, value: np.ndarray, drawn: np.ndarray, top: Sequence[int]
) -> dict[str, tuple[float, float, float]]:
    """Estimate and ends of each statistic. `metric` and `value` (n,), higher is better; `drawn` (r + 1, n)
    holds the candidates of each repetition, all of them first."""
    estimates = {"spearman": spearman(metric[drawn], value[drawn])}
    estimates |= {f"regret@{k}": regret(metric[drawn], value[drawn], k) for k in top}
    return {name: _ends(values, _has_spread(drawn)) for name, values in estimates.items()}


def spearman(metric: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of two arrays (r, n), without the columns whose metric is NaN:
    (r,). NaN where all ranks are equal."""
    known = ~np.isnan(metric)
    middle = (known.sum(1, keepdims=True) + 1) / 2  # mean rank
    centred = []
    for values in (metric, value):
        ranks = pd.DataFrame(np.where(known, values, np.nan)).rank(axis=1).to_numpy()
        centred.append(np.where(known, ranks - middle, 0.0))
    covariance = (centred[0] * centred[1]).sum(1)
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.divide(covariance, scale, out=np.full(len(scale), np.nan), where=scale > 0)


def regret(metric: np.ndarray, value: np.ndarray, k: int) -> np.ndarray:
    """Best value minus the best among the k columns of highest metric, for each row of (r, n): (r,).

    A column whose metric is NaN is never chosen. NaN where none can be chosen.
    """
    chosen = np.lexsort((value, -metric), axis=1)[:, :k]  # NaN is last
    known = ~np.isnan(np.take_along_axis(metric, chosen, 1))
    best = np.where(known, np.take_along_axis(value, chosen, 1), -np.inf).max(1)
    return np.where(np.isfinite(best), value.max(1) - best, np.nan)


def random_regret(value: np.ndarray, k: int) -> np.ndarray:
    """Best value minus the mean best of k distinct columns drawn at random, for each row of (r, n): (r,)."""
    n = value.shape[1]
    k = min(k, n)
    # Of all choices of k columns, those whose best is the i-th lowest value.
    weights = np.array([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)])
    ordered = np.sort(value, axis=1)
    return ordered[:, -1] - ordered @ weights


def _has_spread(drawn: np.ndarray) -> bool:
    return bool((drawn[1:] != drawn[0]).any())


def _draw(candidates: pd.DataFrame, repetitions: int, dataset: str) -> np.ndarray:
    """The candidates of each repetition: (repetitions + 1, n), all of them first, then with the seeds of each
    line resampled. `candidates` are sorted by line."""
    sizes = candidates.groupby(LINE, sort=False).size().to_numpy()
    rng, first = stream(0, "bootstrap", "agreement", dataset), 0
    parts = []
    for size in sizes:
        parts.append(first + rng.integers(0, size, (repetitions, size)))
        first += size
    return np.vstack([np.arange(first), np.hstack(parts)])


def _ends(estimates: np.ndarray, spread: bool) -> tuple[float, float, float]:
    resampled = estimates[1:][~np.isnan(estimates[1:])]
    if not spread or not len(resampled) or np.isnan(estimates[0]):
        return float(estimates[0]), np.nan, np.nan
    estimate, low, high = bootstrap.interval(np.concatenate([estimates[:1], resampled]))
    return float(estimate), float(low), float(high)
