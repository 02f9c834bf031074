"""Statistics at every x, and of where curves cross a level or each other, with 95 % bootstrap intervals.

What is drawn anew are seeds with their whole curves. Curves whose points lie at different x are compared on
the union of these, inside the range that all of them have, along straight lines between a curve's own points;
never beyond. Complete rows are wanted, as for measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, groupby

import numpy as np
import pandas as pd

from seqeval.errors import UserError

from . import bootstrap
from .measures import runs
from .rows import LINE
from .summaries import labels

REPETITIONS = 500
OF_CROSSINGS = 4000  # whose ends jump from one resample to the next where seeds are few
MOST = 201  # points of a grid; a union of more is thinned to even distances


def along(
    rows: pd.DataFrame,
    transitions: Mapping[str, int],
    statistics: Sequence[str] = tuple(bootstrap.ESTIMATORS),
    repetitions: int = REPETITIONS,
) -> pd.DataFrame:
    """Statistics over datasets of the offline curves at each share n/N of the data, N = `transitions` of a
    dataset: [variant, study, share, statistic, estimate, low, high].

    Raises ValueError as `across`, and UserError where the curves have no share in common.
    """
    grid, lines = _by_share(rows, transitions)
    found = []
    for key, (values, strata) in lines.items():
        weights = bootstrap.resample(repetitions, strata, *key)
        for name in statistics:
            ends = bootstrap.interval(bootstrap.ESTIMATORS[name](values, weights, strata))
            found.append(_table(key, grid, ends).assign(statistic=name))
    columns = ["variant", "study", "share", "statistic", "estimate", "low", "high"]
    return pd.concat(found, ignore_index=True)[columns]


def ranks(rows: pd.DataFrame, transitions: Mapping[str, int], repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Mean rank over datasets of each line's mean over seeds, 1 the best, ties shared, at each share of the
    data: [variant, study, share, estimate, low, high]. Raises as `along`."""
    grid, lines = _by_share(rows, transitions)
    means = np.stack(
        [
            bootstrap.by_dataset(values, bootstrap.resample(repetitions, strata, *key), strata)
            for key, (values, strata) in lines.items()
        ]
    )  # (lines, repetitions + 1, datasets, x)
    found = []
    for key, mine in zip(lines, means, strict=True):
        above, level = (means > mine).sum(axis=0), (means == mine).sum(axis=0)
        rank = 1 + above + (level - 1) / 2
        found.append(_table(key, grid, bootstrap.interval(rank.mean(axis=1))))
    return pd.concat(found, ignore_index=True)


def samples_to(
    rows: pd.DataFrame,
    level: float | None = None,
    share: float | None = None,
    repetitions: int = OF_CROSSINGS,
) -> pd.DataFrame:
    """The first n at which each line's mean over seeds has come to a level, or to a share of its own last
    value: [dataset, variant, study, unit, level, estimate, low, high], infinite where it never does.

    Between two points by linear interpolation; a line that begins above the level has come to it at its first
    n. The rows may hold both phases. A share of a last value that is not positive means nothing: such a line
    is left out. Raises ValueError unless one of `level` and `share` is given.
    """
    if (level is None) == (share is None):
        raise ValueError("give a level or a share of the last value")
    found = []
    for key, (grid, values) in _lines(rows).items():
        curves = _means(values, key[:3], repetitions)
        wanted = np.full(len(curves), level) if share is None else share * curves[:, -1]
        if share is not None and wanted[0] <= 0:
            continue
        ends = bootstrap.interval(_first_at(grid, curves, wanted))
        found.append((*key, wanted[0], *ends))
    return pd.DataFrame(found, columns=[*LINE, "unit", "level", "estimate", "low", "high"])


def overtakings(rows: pd.DataFrame, repetitions: int = OF_CROSSINGS) -> pd.DataFrame:
    """From which n on one line stays ahead of another, for each pair on each dataset: [dataset, unit, ahead,
    behind, estimate, low, high, holds].

    It is the last change of sign of the difference of their means over seeds; where there is none, the first
    n of both. Ahead is who is ahead at the last n that both have; pairs that are level there are left out, as
    are pairs without a common range. In repetitions that end the other way round it is infinite, and `holds`
    is the share of those that do not. The rows may hold both phases.
    """
    lines = _lines(rows)
    called = labels([key[1:3] for key in lines])
    found = []
    for _, of_dataset in groupby(lines, key=lambda key: key[0]):
        mine = list(of_dataset)
        # Most are compared on their own points: their means are drawn anew once, and not for each pair.
        own = {key: _means(lines[key][1], key[:3], repetitions) for key in mine} if len(mine) > 1 else {}
        for one, other in combinations(mine, 2):
            grid = _union([lines[one][0], lines[other][0]])
            if one[3] != other[3] or not len(grid):
                continue
            means = [
                own[key]
                if np.array_equal(grid, lines[key][0])
                else _means(_interpolate(grid, *lines[key]), key[:3], repetitions)
                for key in (one, other)
            ]
            lead = means[0] - means[1]
            sign = np.sign(lead[0, -1])
            if sign == 0:
                continue
            since = _since(grid, sign * lead)
            winner, loser = (one, other) if sign > 0 else (other, one)
            holds = float(np.isfinite(since[1:]).mean())
            names = called[winner[1:3]], called[loser[1:3]]
            found.append((one[0], one[3], *names, *bootstrap.interval(since), holds))
    columns = ["dataset", "unit", "ahead", "behind", "estimate", "low", "high", "holds"]
    return pd.DataFrame(found, columns=columns)


def _since(grid: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """From where on each lead (R, X) is positive to its end; infinite where it does not end so."""
    behind = lead <= 0
    last = lead.shape[1] - 1 - np.argmax(behind[:, ::-1], axis=1)  # of those that are behind somewhere
    each = np.arange(len(lead))
    after = np.minimum(last + 1, lead.shape[1] - 1)
    rise = lead[each, after] - lead[each, last]
    step = np.divide(-lead[each, last], rise, out=np.zeros(len(lead)), where=rise > 0)
    since = np.where(behind.any(axis=1), grid[last] + step * (grid[after] - grid[last]), grid[0])
    return np.where(behind[:, -1], np.inf, since)


def _first_at(grid: np.ndarray, curves: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first x at which each curve (R, X) has come to what is wanted (R,) of it; infinite if never."""
    there = curves >= wanted[:, None]
    first = np.argmax(there, axis=1)
    each, before = np.arange(len(curves)), np.maximum(first - 1, 0)
    low, high = curves[each, before], curves[each, first]
    step = np.divide(wanted - low, high - low, out=np.ones(len(curves)), where=high > low)
    found = grid[before] + step * (grid[first] - grid[before])
    return np.where(there.any(axis=1), np.where(first == 0, grid[0], found), np.inf)


def _means(values: np.ndarray, who: tuple[str, ...], repetitions: int) -> np.ndarray:
    """Mean curves (repetitions + 1, X) of seeds (S, X) drawn anew."""
    strata = np.zeros(len(values), int)
    return bootstrap.mean(values, bootstrap.resample(repetitions, strata, *who), strata)


def _lines(rows: pd.DataFrame) -> dict[tuple[str, str, str, str], tuple[np.ndarray, np.ndarray]]:
    """Of each line (dataset, variant, study, unit) its grid (X,) and its seeds' values there (S, X)."""
    found: dict[tuple[str, str, str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for (dataset, variant, study, _, unit), n, values in runs(rows):
        found.setdefault((dataset, variant, study, unit), []).append((n, values))
    lines = {}
    for key, seeds in sorted(found.items()):
        grid = _union([n for n, _ in seeds])
        if len(grid):
            lines[key] = grid, np.stack([np.interp(grid, n, values) for n, values in seeds])
    return lines


def _by_share(
    rows: pd.DataFrame, transitions: Mapping[str, int]
) -> tuple[np.ndarray, dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]]:
    """A grid of shares (X,), and of each (variant, study) its runs' scores there (n, X) and the number of
    each one's dataset (n,)."""
    offline = _lines(rows[rows["phase"] == "offline"])
    names = sorted({key[0] for key in offline})
    if {key[3] for key in offline} - {"score"}:
        raise ValueError("only scores can be put together over datasets")
    shares = {key: line[0] / transitions[key[0]] for key, line in offline.items()}
    grid = _union(list(shares.values()))
    if not len(grid):
        late = max(shares, key=lambda key: shares[key][0])
        early = min(shares, key=lambda key: shares[key][-1])
        raise UserError(
            "no share of the data is common to all lines: "
            f"{early[1]} of {early[2]} ends at {100 * shares[early][-1]:.3g} % of {early[0]}, "
            f"{late[1]} of {late[2]} begins at {100 * shares[late][0]:.3g} % of {late[0]}; "
            "leave one of them out"
        )
    parts: dict[tuple[str, str], list[tuple[int, np.ndarray]]] = {}
    for key, (_, values) in offline.items():
        on_grid = _interpolate(grid, shares[key], values)
        parts.setdefault(key[1:3], []).append((names.index(key[0]), on_grid))
    for (variant, _), mine in parts.items():
        if missing := set(range(len(names))) - {dataset for dataset, _ in mine}:
            raise ValueError(f"{variant} is not on {', '.join(names[d] for d in sorted(missing))}")
    return grid, {
        key: (
            np.concatenate([values for _, values in mine]),
            np.concatenate([np.full(len(values), dataset) for dataset, values in mine]),
        )
        for key, mine in parts.items()
    }


def _union(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Every x of some grid inside the range that all have; if those are too many, even distances there."""
    low, high = max(grid[0] for grid in grids), min(grid[-1] for grid in grids)
    union = np.unique(np.concatenate(grids))
    union = union[(union >= low) & (union <= high)]
    return union if len(union) <= MOST else np.linspace(low, high, MOST)


def _interpolate(grid: np.ndarray, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(grid, x, each) for each in values])


def _table(key: tuple[str, str], grid: np.ndarray, ends: tuple[np.ndarray, ...]) -> pd.DataFrame:
    estimate, low, high = ends
    variant, study = key
    columns = {"share": grid, "estimate": estimate, "low": low, "high": high}
    return pd.DataFrame(columns).assign(variant=variant, study=study)
