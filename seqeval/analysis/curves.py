"""Statistics of whole curves: at every x, and where a curve reaches a level or overtakes another.

All have 95 % bootstrap intervals; the bootstrap resamples seeds with their whole curves. Curves with points
at different x are interpolated linearly on the union of these x, inside the range that all of them share.
All functions need complete rows (`complete_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, groupby

import numpy as np
import pandas as pd

from seqeval.errors import UserError

from . import bootstrap
from .lines import LINE, line_labels, run_curves, with_values
from .metrics import ascending
from .summaries import require_one_unit

REPETITIONS = 500
CROSSING_REPETITIONS = 4000  # with few seeds the ends of a crossing's interval vary more
MAX_POINTS = 201  # of a grid; a larger union of x is replaced by an even grid


def aggregate_curves(
    rows: pd.DataFrame,
    transitions: Mapping[str, int],
    estimators: Sequence[str] = tuple(bootstrap.ESTIMATORS),
    repetitions: int = REPETITIONS,
) -> pd.DataFrame:
    """Estimators over datasets of the offline curves, at each share n/N of the data.

    `transitions` holds N of each dataset. Columns: [variant, study, share, estimator, estimate, low, high].
    Raises ValueError as `aggregate`, and UserError if the curves have no share of the data in common.
    """
    require_one_unit(with_values(rows))
    grid, lines = _curves_by_share(rows, transitions)
    found = []
    for key, (values, strata) in lines.items():
        weights = bootstrap.resample(repetitions, strata, *key)
        for name in estimators:
            ends = bootstrap.interval(bootstrap.ESTIMATORS[name](values, weights, strata))
            found += [(*key, share, name, *point) for share, *point in zip(grid, *ends, strict=True)]
    columns = ["variant", "study", "share", "estimator", "estimate", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def mean_ranks(
    rows: pd.DataFrame, transitions: Mapping[str, int], repetitions: int = REPETITIONS
) -> pd.DataFrame:
    """Mean over datasets of the rank of a run among runs of the other lines, at each share n/N of the data.

    The rank of a run is 1 plus the number of other lines with a better run, where every line takes part with
    one of its runs, drawn at random; a tie counts half. So it is 1 plus the sum of the probabilities that a
    run of another line is better. (The rank of the means over seeds would be 1 or 2 where the runs are level,
    and its bootstrap repetitions, which are noisier than the means, would all lie on one side of it.)
    Columns: [variant, study, share, estimate, low, high]. Raises as `aggregate_curves`.
    """
    grid, lines = _curves_by_share(ascending(with_values(rows)), transitions)
    drawn = {
        key: (values, bootstrap.resample(repetitions, strata, *key), strata)
        for key, (values, strata) in lines.items()
    }
    ranks = {key: np.ones((len(weights), len(grid))) for key, (_, weights, _) in drawn.items()}
    for first, second in combinations(lines, 2):
        better = bootstrap.improvement(drawn[first], drawn[second])
        ranks[second] += better
        ranks[first] += 1 - better
    found = [
        (*key, *point)
        for key, rank in ranks.items()
        for point in zip(grid, *bootstrap.interval(rank), strict=True)
    ]
    return pd.DataFrame(found, columns=["variant", "study", "share", "estimate", "low", "high"])


def samples_to_level(
    rows: pd.DataFrame,
    level: float | None = None,
    share: float | None = None,
    repetitions: int = CROSSING_REPETITIONS,
) -> pd.DataFrame:
    """The first n at which each line's mean over seeds reaches a level, or a share of its own last value.

    Columns: [dataset, variant, study, unit, level, estimate, low, high]; infinite if the level is never
    reached. Between two points the curve is linear; a line that starts above the level reaches it at its
    first n. With `share`, lines whose last value is not positive are left out. The rows may have both phases.
    Raises ValueError unless exactly one of `level` and `share` is given.
    """
    if (level is None) == (share is None):
        raise ValueError("give a level or a share of the last value")
    found = []
    for key, (grid, values) in line_curves(rows).items():
        curves = bootstrap.resampled_mean(values, repetitions, *key[:3])
        levels = np.full(len(curves), level) if share is None else share * curves[:, -1]
        if share is None or levels[0] > 0:
            found.append((*key, levels[0], *bootstrap.interval(_first_crossings(grid, curves, levels))))
    return pd.DataFrame(found, columns=[*LINE, "unit", "level", "estimate", "low", "high"])


def overtakings(rows: pd.DataFrame, repetitions: int = CROSSING_REPETITIONS) -> pd.DataFrame:
    """The n from which one line stays ahead of another, for each pair of lines on each dataset.

    Columns: [dataset, unit, ahead, behind, estimate, low, high, holds]. The n is the last change of sign of
    the difference of their means over seeds, or the first common n if there is none. `ahead` leads at the
    last common n; pairs that are level there or have no common range are left out. In bootstrap repetitions
    in which the other line leads at the end, n is infinite; `holds` is the share of the others. The rows may
    have both phases.
    """
    lines = line_curves(rows)
    labels = line_labels([key[1:3] for key in lines])
    found = []
    for (dataset, unit), group in groupby(lines, key=lambda key: (key[0], key[3])):
        keys = list(group)
        # Most pairs have the same x, where each line's bootstrap is needed for several pairs.
        means = {key: bootstrap.resampled_mean(lines[key][1], repetitions, *key[:3]) for key in keys}
        for first, second in combinations(keys, 2):
            grid = common_grid([lines[first][0], lines[second][0]])
            if not len(grid):
                continue
            first_mean, second_mean = (
                means[key]
                if np.array_equal(grid, lines[key][0])
                else bootstrap.resampled_mean(_interpolate(grid, *lines[key]), repetitions, *key[:3])
                for key in (first, second)
            )
            lead = first_mean - second_mean
            if lead[0, -1] == 0:
                continue
            ahead, behind = (first, second) if lead[0, -1] > 0 else (second, first)
            crossings = _last_crossings(grid, np.sign(lead[0, -1]) * lead)
            holds = float(np.isfinite(crossings[1:]).mean())
            names = labels[ahead[1:3]], labels[behind[1:3]]
            found.append((dataset, unit, *names, *bootstrap.interval(crossings), holds))
    columns = ["dataset", "unit", "ahead", "behind", "estimate", "low", "high", "holds"]
    return pd.DataFrame(found, columns=columns)


def _first_crossings(grid: np.ndarray, curves: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The first x at which each curve (R, X) reaches its level (R,); infinite if it never does."""
    reached = curves >= levels[:, None]
    after = np.argmax(reached, axis=1)
    index, before = np.arange(len(curves)), np.maximum(after - 1, 0)
    low, high = curves[index, before], curves[index, after]
    step = np.divide(levels - low, high - low, out=np.ones(len(curves)), where=high > low)
    crossing = grid[before] + step * (grid[after] - grid[before])
    return np.where(reached.any(axis=1), np.where(after == 0, grid[0], crossing), np.inf)


def _last_crossings(grid: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """The x from which each lead (R, X) is positive up to its end; infinite if it is not positive there."""
    behind = leads <= 0
    before = leads.shape[1] - 1 - np.argmax(behind[:, ::-1], axis=1)  # last x behind, if there is one
    index, after = np.arange(len(leads)), np.minimum(before + 1, leads.shape[1] - 1)
    rise = leads[index, after] - leads[index, before]
    step = np.divide(-leads[index, before], rise, out=np.zeros(len(leads)), where=rise > 0)
    crossing = grid[before] + step * (grid[after] - grid[before])
    return np.where(behind[:, -1], np.inf, np.where(behind.any(axis=1), crossing, grid[0]))


def line_curves(rows: pd.DataFrame) -> dict[tuple[str, str, str, str], tuple[np.ndarray, np.ndarray]]:
    """For each line (dataset, variant, study, unit) its grid (X,) and its seeds' values there (S, X)."""
    lines = {}
    for key, runs in groupby(run_curves(rows), key=lambda run: (*run[0][:3], run[0][4])):
        seeds = [(n, values) for _, n, values in runs]
        grid = common_grid([n for n, _ in seeds])
        if len(grid):
            lines[key] = grid, np.stack([np.interp(grid, n, values) for n, values in seeds])
    return lines


def _curves_by_share(
    rows: pd.DataFrame, transitions: Mapping[str, int]
) -> tuple[np.ndarray, dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]]:
    """A grid of shares (X,); for each (variant, study) the scores of its runs there (n, X) and their dataset
    numbers (n,)."""
    offline = line_curves(rows[rows["phase"] == "offline"])
    names = sorted({key[0] for key in offline})
    shares = {key: line[0] / transitions[key[0]] for key, line in offline.items()}
    grid = common_grid(list(shares.values()))
    if not len(grid):
        late = max(shares, key=lambda key: shares[key][0])
        early = min(shares, key=lambda key: shares[key][-1])
        raise UserError(
            "no share of the data is common to all lines: "
            f"{early[1]} of {early[2]} ends at {100 * shares[early][-1]:.3g} % of {early[0]}, "
            f"{late[1]} of {late[2]} begins at {100 * shares[late][0]:.3g} % of {late[0]}; "
            "leave out one of them"
        )
    lines = {}
    for line in dict.fromkeys(key[1:3] for key in offline):
        curves = {
            key[0]: _interpolate(grid, shares[key], values)
            for key, (_, values) in offline.items()
            if key[1:3] == line
        }
        if missing := set(names) - set(curves):
            raise ValueError(f"{line[0]} is not on {', '.join(sorted(missing))}")
        strata = np.repeat(np.searchsorted(names, list(curves)), [len(seeds) for seeds in curves.values()])
        lines[line] = np.concatenate(list(curves.values())), strata
    return grid, lines


def common_grid(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Every x of any grid inside the range that all share; an even grid there if these are too many."""
    low, high = max(grid[0] for grid in grids), min(grid[-1] for grid in grids)
    union = np.unique(np.concatenate(grids))
    union = union[(union >= low) & (union <= high)]
    return union if len(union) <= MAX_POINTS else np.linspace(low, high, MAX_POINTS)


def _interpolate(grid: np.ndarray, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(grid, x, curve) for curve in values])
