"""Estimators over runs, and their stratified bootstrap. NumPy alone.

A repetition of the bootstrap draws the seeds of each dataset anew, as many as there are, with replacement
(Agarwal et al. 2021, arXiv 2108.13264). What it drew is a row of weights, one for each run: how often it was
drawn. Every estimator here is a weighted one, so that all repetitions are one product of matrices and runs
are sorted once instead of once a repetition.

Every dataset weighs the same. Where some have fewer seeds than others, each of their runs counts more: the S
seeds of a dataset count L/S each, L the least common multiple of all numbers of seeds. With equal numbers
every run counts once, and the estimators are those of rliable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seqeval.seeding import stream

TAIL = 0.025  # of an interval, at each end
REFERENCE = 100.0  # the score below which the optimality gap counts what is missing


def resample(repetitions: int, strata: np.ndarray, *who: str) -> np.ndarray:
    """Weights (repetitions + 1, n) of n runs, `strata` (n,) the number of each one's dataset.

    The first row is that of the estimate itself, every run once; the others are the bootstrap's. They depend
    on `who` alone, the names of the line that is resampled: its intervals are the same in whatever company.
    """
    _, place, seeds = np.unique(strata, return_inverse=True, return_counts=True)
    random = stream(0, "bootstrap", *who)
    weights = np.ones((repetitions + 1, len(strata)))
    least = int(np.lcm.reduce(seeds))
    for dataset, count in enumerate(seeds):
        drawn = random.integers(0, count, (repetitions, count))
        drawn += count * np.arange(repetitions)[:, None]
        times = np.bincount(drawn.ravel(), minlength=repetitions * count).reshape(repetitions, count)
        mine = place == dataset
        weights[1:, mine] = times
        weights[:, mine] *= least // count
    return weights


def mean(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Mean over all runs. `values` (n, ...), `weights` (R, n), result (R, ...)."""
    return np.tensordot(weights, values, 1) / weights[0].sum()


def median(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Median over datasets of the mean over a dataset's runs. Shapes as of `mean`."""
    return np.median(by_dataset(values, weights, strata), axis=1)


def iqm(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Interquartile mean: of all runs, without the lowest and the highest quarter (of a total weight W, the
    integer part of W/4 at each end, as scipy.stats.trim_mean cuts). Shapes as of `mean`."""
    total = weights[0].sum()
    cut = int(0.25 * total)
    columns = values.reshape(len(values), -1)
    order = np.argsort(columns, axis=0)
    found = np.empty((len(weights), columns.shape[1]))
    for column in range(columns.shape[1]):
        sorting = order[:, column]
        mine = weights[:, sorting]
        up_to = np.cumsum(mine, axis=1)
        kept = np.minimum(up_to, total - cut) - np.maximum(up_to - mine, cut)
        found[:, column] = np.maximum(kept, 0) @ columns[sorting, column]
    return (found / (total - 2 * cut)).reshape(len(weights), *values.shape[1:])


def optimality_gap(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """How far runs fall short of 100 on average, those above it by nothing. Shapes as of `mean`."""
    return REFERENCE - mean(np.minimum(values, REFERENCE), weights, strata)


Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
ESTIMATORS: dict[str, Estimator] = {
    "mean": mean,
    "median": median,
    "iqm": iqm,
    "optimality_gap": optimality_gap,
}


def by_dataset(values: np.ndarray, weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Means over the runs of each dataset, (R, D, ...) in the order of the numbers in `strata`."""
    numbers = np.unique(strata)
    total = weights[0].sum() / len(numbers)
    means = [np.tensordot(weights[:, strata == d], values[strata == d], 1) / total for d in numbers]
    return np.stack(means, axis=1)


def profile(values: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Share of the runs above each level. `values` (n,), `levels` (L,), result (R, L)."""
    return weights @ (values[:, None] > levels) / weights[0].sum()


def improvement(
    first: tuple[np.ndarray, np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Probability that a run of the first beats one of the second on a dataset, a tie counting half, as a
    mean over datasets. Each is (values (n,), weights (R, n), strata (n,)); result (R,)."""
    (x, wx, dx), (y, wy, dy) = first, second
    numbers = np.unique(dx)
    total = np.zeros(len(wx))
    for d in numbers:
        mine, other = x[dx == d], y[dy == d]
        wins = (mine[:, None] > other) + 0.5 * (mine[:, None] == other)
        each_x, each_y = wx[:, dx == d], wy[:, dy == d]
        total += ((each_x @ wins) * each_y).sum(axis=1) / (each_x[0].sum() * each_y[0].sum())
    return total / len(numbers)


def interval_of_runs(estimates: np.ndarray, *strata: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `interval`, but without ends, NaN, where no dataset has two runs: drawn anew, one run is itself."""
    estimate, low, high = interval(estimates)
    if any(len(np.unique(each)) < len(each) for each in strata):
        return estimate, low, high
    return estimate, np.nan * low, np.nan * high


def interval(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate and its 95 % percentile interval from (repetitions + 1, ...), the estimate in front.

    The ends are values that occurred, so that infinite ones stay infinite.
    """
    repetitions = len(estimates) - 1
    low = max(int(np.ceil(TAIL * repetitions)) - 1, 0)
    high = repetitions - 1 - low
    ends = np.partition(estimates[1:], (low, high), axis=0)
    return estimates[0], ends[low], ends[high]
