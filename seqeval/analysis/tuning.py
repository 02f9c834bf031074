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

from seqeval.errors import UserError, nearest
from seqeval.seeding import stream

from . import bandit, bootstrap
from .curves import common_grid, line_curves
from .lines import with_values
from .metrics import lower_is_better
from .provenance import Studies

REPETITIONS = 500
MAX_VALUES = 6  # of a setting that are shown one by one
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
    1, 2, 4, ... and all. The value of a setting is its mean over seeds; where lower is better, the best is
    the least one. Needs complete rows. Raises UserError if k exceeds the number of settings of a sweep.
    """
    sign = -1.0 if lower_is_better(rows) else 1.0
    found = []
    for sweep, part in sweeps(rows[rows["phase"] == "offline"]):
        lines = line_curves(part)
        wanted = default_k(len(lines)) if k is None else list(k)
        if max(wanted) > len(lines):
            raise UserError(
                f"k: {max(wanted)} settings cannot be chosen from the {len(lines)} of {sweep[1]} "
                f"on {sweep[0]}"
            )
        if min(wanted) < 1:
            raise UserError(f"k: must be at least 1, not {min(wanted)}")
        grid, means, seeds = _resampled(lines, repetitions)
        unit = next(iter(lines))[3]
        for number, best in zip(wanted, sign * expected_best(sign * means, wanted), strict=True):
            points = zip(grid, *bootstrap.interval_over_seeds(best, seeds), strict=True)
            found += [(*sweep, unit, len(lines), number, *point) for point in points]
    columns = [*SWEEP, "unit", "settings", "k", "samples", "estimate", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def setting_effects(
    rows: pd.DataFrame, studies: Studies, setting: str | None = None, repetitions: int = REPETITIONS
) -> pd.DataFrame:
    """The effect of each setting of each sweep at every x: for each of its values the mean over all settings
    of the sweep that have it, with intervals over seeds.

    Of a number with more than `MAX_VALUES` values, as in a random search, quarters of the values of similar
    size are taken together. Columns: [dataset, algorithm, study, unit, setting, value, settings, samples,
    estimate, low, high], with values in ascending order and the number of `settings` that have it. Needs
    complete rows. Raises UserError if no sweep has the setting.
    """
    found, known = [], set()
    for sweep, part in sweeps(rows[rows["phase"] == "offline"]):
        lines = line_curves(part)
        configs = [studies[study]["algorithms"][variant]["config"] for _, variant, study, _ in lines]
        swept = [name for name in configs[0] if len({repr(config.get(name)) for config in configs}) > 1]
        known.update(swept)
        grid, means, seeds = _resampled(lines, repetitions)
        for name in (name for name in swept if setting in (None, name)):
            for value, members in _value_groups([config.get(name) for config in configs]):
                of_value = bootstrap.interval_over_seeds(
                    means[members].mean(0), seeds[np.isin(seeds, members)]
                )
                unit = next(iter(lines))[3]
                points = zip(grid, *of_value, strict=True)
                found += [(*sweep, unit, name, value, len(members), *point) for point in points]
    if setting is not None and setting not in known:
        raise UserError(
            f"setting: {setting!r} takes several values in no sweep{nearest(setting, sorted(known))}; "
            f"choose one of: {', '.join(sorted(known))}"
        )
    columns = [*SWEEP, "unit", "setting", "value", "settings", "samples", "estimate", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def _value_groups(values: Sequence[Any]) -> list[tuple[str, np.ndarray]]:
    """The text of each value, in ascending order, and the places that have it."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ordered = sorted(set(values)) if numeric else sorted({repr(value) for value in values})
    given = list(values) if numeric else [repr(value) for value in values]
    if not numeric or len(ordered) <= MAX_VALUES:
        texts = [f"{value:g}" if numeric else value.strip("'") for value in ordered]
        return [
            (text, np.flatnonzero([value == one for value in given]))
            for text, one in zip(texts, ordered, strict=True)
        ]
    quarters = [part for part in np.array_split(np.array(ordered), 4) if len(part)]
    return [
        (f"{part[0]:g} to {part[-1]:g}", np.flatnonzero(np.isin(np.array(given), part))) for part in quarters
    ]


def _resampled(
    lines: Mapping[Any, tuple[np.ndarray, np.ndarray]], repetitions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid that all lines share (X,), their means over resampled seeds there (lines, repetitions + 1, X),
    and for each seed of each line the place of the line.

    The settings of a sweep share seeds, and with them the order of the data, so every line gets the same
    resampled seeds.
    """
    grid = common_grid([x for x, _ in lines.values()])
    dataset = next(iter(lines))[0]
    means = [
        bootstrap.resampled_mean(
            np.stack([np.interp(grid, x, seed) for seed in values]), repetitions, dataset, "sweep"
        )
        for x, values in lines.values()
    ]
    places = [np.full(len(values), place) for place, (_, values) in enumerate(lines.values())]
    return grid, np.stack(means), np.concatenate(places)


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
    that has all settings chooses among its own policies; reported is the mean over seeds, with intervals over
    seeds. The true value is the mean over a policy's episodes, so the oracle is biased upwards by their
    noise. The bandit draws episodes of the rows with replacement, unless `deployed` says what it deploys.

    `references` holds the `types.Reference` of each dataset, None where it has none. A metric that is missing
    for a setting gives no rule on that sweep. Columns: [dataset, algorithm, study, unit, rule, samples,
    estimate, low, high], sweeps in the order of the rows. Needs complete rows.
    """
    found = []
    valued = with_values(rows[rows["phase"] == "offline"])
    for sweep, part in sweeps(valued):
        of_sweep = []
        for samples, at in part.groupby("samples"):
            values = at.pivot(index="variant", columns="seed", values="value")
            values = values.reindex(sorted(part["variant"].unique())).dropna(axis=1)
            if values.empty:  # a size that not every setting has
                continue
            at = at[at["seed"].isin(values.columns)]
            rules = _rules(at, values, metrics)
            if budgets:
                reference = references.get(str(sweep[0]))
                rules |= _bandit_rules(at, values, reference, budgets, sweep, deployed or _with_replacement)
            for rule, chosen in rules.items():
                ends = bootstrap.interval_over_seeds(
                    bootstrap.resampled_mean(chosen, repetitions, *map(str, sweep)), np.zeros(len(chosen))
                )
                of_sweep.append((*sweep, part["unit"].iloc[0], rule, samples, *ends))
        found += sorted(of_sweep, key=lambda row: row[4:6])  # by rule and samples
    columns = [*SWEEP, "unit", "rule", "samples", "estimate", "low", "high"]
    return pd.DataFrame(found, columns=columns)


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


def sweeps(rows: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Each (dataset, algorithm, study) with its rows, one dataset after the other.

    Raises UserError if none has two settings.
    """
    found = [(key, part) for key, part in rows.groupby(SWEEP, sort=False) if part["variant"].nunique() > 1]
    if not found:
        raise UserError(
            "no algorithm has several settings here; train a sweep, for example "
            '--algorithms "iql:expectile=0.5|0.7|0.9"'
        )
    datasets = list(rows["dataset"].unique())
    yield from sorted(found, key=lambda sweep: datasets.index(sweep[0][0]))
