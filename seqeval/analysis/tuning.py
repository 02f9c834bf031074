"""What tuning costs at every size of the data: the expected best of k settings, and which setting a rule of
choice would deploy.

A sweep is all variants of one algorithm on one dataset in one study. Kurenkov, Kolesnikov, *Showing Your
Offline Reinforcement Learning Work: Online Evaluation Budget Matters* (arXiv 2110.04156).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqeval.errors import UserError
from seqeval.seeding import stream

from . import bandit, bootstrap
from .curves import common_grid, line_curves
from .lines import with_values

REPETITIONS = 500
TRIALS = 1000  # of the bandit on each seed, at each size
SWEEP = ["dataset", "algorithm", "study"]
ORACLE, RANDOM = "oracle", "random"
# The rows of a sweep's policies at a point of a seed, the reference returns of the dataset, a number of
# pulls, a random stream -> the expected value (pulls,) of the policy that a bandit would deploy after each.
Deployed = Callable[[pd.DataFrame, Any, int, np.random.Generator], np.ndarray]


def expected_best(values: np.ndarray, k: Sequence[int]) -> np.ndarray:
    """Expected greatest of k values drawn with replacement: `values` (m, ...) -> (len(k), ...).

    E = Σᵢ v₍ᵢ₎ ((i/m)ᵏ - ((i-1)/m)ᵏ), with the values in ascending order.
    """
    share = np.arange(len(values) + 1) / len(values)
    weights = np.diff(share ** np.asarray(k)[:, None], axis=1)
    return np.tensordot(weights, np.sort(values, axis=0), 1)


def default_k(settings: int) -> list[int]:
    """1, 2, 4, ... and the number of settings."""
    return sorted({2**i for i in range(settings.bit_length())} | {settings})


def best_of_k(
    rows: pd.DataFrame, k: Sequence[int] | None = None, repetitions: int = REPETITIONS
) -> pd.DataFrame:
    """The expected best of k settings of each sweep at every x, with intervals over seeds.

    Columns: [dataset, algorithm, study, unit, settings, k, samples, estimate, low, high]; by default for k =
    1, 2, 4, ... and all. The value of a setting is its mean over seeds. Needs complete rows. Raises UserError
    if k exceeds the number of settings of a sweep.
    """
    sweeps = _sweeps(rows)
    found = []
    for sweep, part in sweeps:
        lines = line_curves(part)
        wanted = default_k(len(lines)) if k is None else list(k)
        if max(wanted) > len(lines):
            raise UserError(
                f"k: {max(wanted)} settings cannot be chosen from the {len(lines)} of {sweep[1]} "
                f"on {sweep[0]}"
            )
        if min(wanted) < 1:
            raise UserError(f"k: must be at least 1, not {min(wanted)}")
        grid = common_grid([x for x, _ in lines.values()])
        means = np.stack(
            [
                bootstrap.resampled_mean(
                    np.stack([np.interp(grid, x, seed) for seed in values]), repetitions, *key[:3]
                )
                for key, (x, values) in lines.items()
            ]
        )  # (settings, repetitions + 1, x)
        unit = next(iter(lines))[3]
        seeds = np.concatenate(
            [np.full(len(values), place) for place, (_, values) in enumerate(lines.values())]
        )
        for number, best in zip(wanted, expected_best(means, wanted), strict=True):
            points = zip(grid, *bootstrap.interval_over_seeds(best, seeds), strict=True)
            found += [(*sweep, unit, len(lines), number, *point) for point in points]
    columns = [*SWEEP, "unit", "settings", "k", "samples", "estimate", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def choices(
    rows: pd.DataFrame,
    metrics: Mapping[str, bool],
    references: Mapping[str, Any],
    budgets: Sequence[int] = (),
    repetitions: int = REPETITIONS,
    deployed: Deployed | None = None,
) -> pd.DataFrame:
    """The true value of the policy that each rule would deploy from each sweep at every x.

    Rules: `oracle`, the setting with the best value; `random`, a setting drawn uniformly; each metric (a
    column of the rows; True: higher is better); and `bandit N`, a UCB bandit after N episodes. Every seed
    chooses among its own policies; reported is the mean over seeds, with intervals over seeds. The true value
    is the mean over a policy's episodes, so the oracle is biased upwards by their noise. The bandit draws
    episodes of the rows with replacement, unless `deployed` says what it deploys.

    `references` holds the `types.Reference` of each dataset, None where it has none. A metric that is missing
    for a setting gives no rule on that sweep. Columns: [dataset, algorithm, study, unit, rule, samples,
    estimate, low, high]. Needs complete rows.
    """
    found = []
    valued = with_values(rows[rows["phase"] == "offline"])
    for sweep, part in _sweeps(valued):
        for samples, at in part.groupby("samples"):
            values = at.pivot(index="variant", columns="seed", values="value")
            if values.isna().any(axis=None):  # sizes that not every setting has
                continue
            rules = _rules(at, values, metrics)
            if budgets:
                reference = references.get(str(sweep[0]))
                rules |= _bandit_rules(at, values, reference, budgets, sweep, deployed or _with_replacement)
            for rule, chosen in rules.items():
                ends = bootstrap.interval_over_seeds(
                    bootstrap.resampled_mean(chosen, repetitions, *map(str, sweep)), np.zeros(len(chosen))
                )
                found.append((*sweep, part["unit"].iloc[0], rule, samples, *ends))
    return pd.DataFrame(
        found, columns=[*SWEEP, "unit", "rule", "samples", "estimate", "low", "high"]
    ).sort_values([*SWEEP, "rule", "samples"], ignore_index=True)


def _rules(at: pd.DataFrame, values: pd.DataFrame, metrics: Mapping[str, bool]) -> dict[str, np.ndarray]:
    """The value (seeds,) of the policy that each rule without episodes chooses on each seed."""
    table = values.to_numpy()
    rules = {ORACLE: table.max(axis=0), RANDOM: table.mean(axis=0)}
    for metric, higher in metrics.items():
        measured = at.pivot(index="variant", columns="seed", values=metric).to_numpy(float)
        if not np.isnan(measured).any():
            ranked = measured if higher else -measured
            tied = ranked == ranked.max(axis=0)  # among equals any may be chosen
            rules[metric] = (table * tied).sum(axis=0) / tied.sum(axis=0)
    return rules


def _bandit_rules(
    at: pd.DataFrame,
    values: pd.DataFrame,
    reference: Any,
    budgets: Sequence[int],
    key: Sequence[Any],
    deployed: Deployed,
) -> dict[str, np.ndarray]:
    """The expected value (seeds,) of the policy that a bandit would deploy after each budget of episodes."""
    curves = []
    for seed in values.columns:
        arms = at[at["seed"] == seed].set_index("variant").loc[values.index].reset_index()
        rng = stream(int(seed), "bandit", *map(str, key))
        curves.append(deployed(arms, reference, max(budgets), rng))
    return {f"bandit {budget}": np.array([curve[budget - 1] for curve in curves]) for budget in budgets}


def _with_replacement(arms: pd.DataFrame, reference: Any, pulls: int, rng: np.random.Generator) -> np.ndarray:
    """What a bandit would deploy that draws the episodes of the rows with replacement."""
    returns = np.array(arms["episode_returns"].tolist(), float)  # (settings, episodes)
    if reference is not None:
        returns = reference.score(returns)
    return bandit.deployed_values(returns, pulls, TRIALS, rng).mean(axis=0)


def _sweeps(rows: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Each (dataset, algorithm, study) with its rows. Raises UserError if none has two settings."""
    sweeps = [(key, part) for key, part in rows.groupby(SWEEP, sort=False) if part["variant"].nunique() > 1]
    if not sweeps:
        raise UserError(
            "no algorithm has several settings here; train a sweep, for example "
            '--algorithms "iql:expectile=0.5|0.7|0.9"'
        )
    yield from sweeps
