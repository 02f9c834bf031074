"""Weighted estimators over runs and their stratified bootstrap, in NumPy alone.

A bootstrap repetition resamples the seeds of each dataset with replacement (Agarwal et al. 2021, arXiv
2108.13264). It is stored as a row of weights: how often each run was drawn. All repetitions of an estimator
are then one matrix product, and runs are sorted once instead of once per repetition.

Every dataset has the same weight. If datasets have different numbers of seeds, each of the S runs of a
dataset counts L/S times, where L is the least common multiple of all numbers of seeds. With equal numbers of
seeds every run counts once, and the estimators are those of rliable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seqeval.seeding import stream

TAIL = 0.025  # probability outside a 95 % interval, at each end
REFERENCE = 100.0  # score that the optimality gap is measured from


def resample(repetitions: int, strata: np.ndarray, *key: str) -> np.ndarray:
    """Bootstrap weights (repetitions + 1, n) of n runs; `strata` (n,) holds the dataset number of each run.

    The first row belongs to the estimate itself: every run once. The random numbers depend on `key` alone
    (the names of the resampled line), so an interval does not depend on which other lines are computed.
    """
    _, stratum, seeds = np.unique(strata, return_inverse=True, return_counts=True)
    random = stream(0, "bootstrap", *key)
    weights = np.ones((repetitions + 1, len(strata)))
    multiple = int(np.lcm.reduce(seeds))
    for dataset, count in enumerate(seeds):
        drawn = random.integers(0, count, (repetitions, count))
        drawn += count * np.arange(repetitions)[:, None]
        times = np.bincount(drawn.ravel(), minlength=repetitions * count).reshape(repetitions, count)
        weights[1:, stratum == dataset] = times
        weights[:, stratum == dataset] *= multiple // count
    return weights


def mean(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Mean over all runs. `values` (n, ...), `weights` (R, n), result (R, ...)."""
    return np.tensordot(weights, values, 1) / weights[0].sum()


def median(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Median over datasets of the mean of each dataset's runs. Shapes as in `mean`."""
    return np.median(dataset_means(values, weights, strata), axis=1)


def iqm(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Interquartile mean: the mean of all runs without the lowest and the highest quarter.

    Of a total weight W, the integer part of W/4 is cut at each end, as in scipy.stats.trim_mean. Shapes as in
    `mean`.
    """
    total = weights[0].sum()
    cut = int(0.25 * total)
    columns = values.reshape(len(values), -1)
    order = np.argsort(columns, axis=0)
    sums = np.empty((len(weights), columns.shape[1]))
    for column in range(columns.shape[1]):
        ascending = order[:, column]
        sorted_weights = weights[:, ascending]
        cumulative = np.cumsum(sorted_weights, axis=1)
        kept = np.minimum(cumulative, total - cut) - np.maximum(cumulative - sorted_weights, cut)
        sums[:, column] = np.maximum(kept, 0) @ columns[ascending, column]
    return (sums / (total - 2 * cut)).reshape(len(weights), *values.shape[1:])


def optimality_gap(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Mean amount by which runs fall short of a score of 100; runs above it count 0. Shapes as in `mean`."""
    return REFERENCE - mean(np.minimum(values, REFERENCE), weights, strata)


Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
ESTIMATORS: dict[str, Estimator] = {
    estimator.__name__: estimator for estimator in (mean, median, iqm, optimality_gap)
}


def dataset_means(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Mean of the runs of each dataset, (R, D, ...), in the order of the dataset numbers in `strata`."""
    numbers = np.unique(strata)
    total = weights[0].sum() / len(numbers)
    means = [np.tensordot(weights[:, strata == d], values[strata == d], 1) / total for d in numbers]
    return np.stack(means, axis=1)


def resampled_mean(values: np.ndarray, repetitions: int, *key: str) -> np.ndarray:
    """Mean over the seeds of one line: the estimate, then its bootstrap repetitions.

    `values` (seeds, ...), result (repetitions + 1, ...).
    """
    strata = np.zeros(len(values), int)
    return mean(values, resample(repetitions, strata, *key), strata)


def profile(values: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Share of the runs above each level. `values` (n,), `levels` (L,), result (R, L)."""
    return weights @ (values[:, None] > levels) / weights[0].sum()


def improvement(
    first: tuple[np.ndarray, np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Probability that a run of the first line beats one of the second on the same dataset, result (R, ...).

    The mean over datasets; a tie counts one half. Both are (values (n, ...), weights (R, n), strata (n,)).
    """
    (x, x_weights, x_strata), (y, y_weights, y_strata) = first, second
    datasets = np.unique(x_strata)
    total = np.zeros((len(x_weights), *x.shape[1:]))
    for dataset in datasets:
        of_x, of_y = x_strata == dataset, y_strata == dataset
        wins = (x[of_x][:, None] > y[of_y]) + 0.5 * (x[of_x][:, None] == y[of_y])
        wx, wy = x_weights[:, of_x], y_weights[:, of_y]
        count = wx[0].sum() * wy[0].sum()
        for run, wins_over_run in zip(wy.T, np.moveaxis(wins, 1, 0), strict=True):
            weighted = np.tensordot(wx, wins_over_run, 1)  # (R, ...)
            total += weighted * run.reshape(-1, *[1] * (x.ndim - 1)) / count
    return total / len(datasets)


def interval(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, low and high end of the 95 % percentile interval, each of shape (...).

    `estimates` (repetitions + 1, ...) holds the estimate first, then its bootstrap repetitions. The ends are
    values that occurred, so infinite ends stay infinite.
    """
    repetitions = len(estimates) - 1
    low = max(int(np.ceil(TAIL * repetitions)) - 1, 0)
    high = repetitions - 1 - low
    ends = np.partition(estimates[1:], (low, high), axis=0)
    return estimates[0], ends[low], ends[high]


def interval_over_seeds(
    estimates: np.ndarray, *strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `interval`, but with NaN for both ends if no dataset has two runs: one run has no spread."""
    estimate, low, high = interval(estimates)
    if any(len(np.unique(numbers)) < len(numbers) for numbers in strata):
        return estimate, low, high
    return estimate, np.nan * low, np.nan * high
