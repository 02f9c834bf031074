"""Budgeted choice among the kept policies of a study: a bandit that runs the episodes that it pulls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqeval import analysis
from seqeval.analysis import bandit, tuning
from seqeval.errors import UserError
from seqeval.execution.episodes import EpisodeBlock, in_order
from seqeval.execution.storage import StudyDirectory, frame
from seqeval.policy_episodes import PolicyEpisodes, RowKey
from seqeval.types import Reference

BLOCK = 10  # episodes that are run together when a pull needs one
ACROSS = "all algorithms"  # in the column `algorithm`, where the variants of all of them are candidates
Report = Callable[[RowKey, EpisodeBlock], None]


def choose(
    directory: str | Path,
    budget: int = 200,
    k: int | None = None,
    trials: int = 20,
    across_algorithms: bool = False,
    report: Report = lambda key, block: None,
    leave_out_incomplete: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """The table of `analysis.tuning.choices` for a study, with a bandit that has a budget of episodes.

    Each sweep, or with `across_algorithms` all variants of a dataset, is chosen from at every size. A pull
    takes the episodes of the policy's row first, each once per trial, and then new ones, which are run from
    the kept policy (`keep_policies`) and stored: another call or trial uses them again. With `k`, each trial
    chooses among k of the policies, drawn at random. The value of a policy is the mean over its row's
    episodes. With `leave_out_incomplete` runs that failed or are not finished are left out, of which `note`
    gets a sentence each, and a seed that lacks a setting of a sweep does not choose from it. It trusts
    whoever wrote the study directory, as `load_policy` does. Raises UserError for what does not fit.
    """
    for name, value in (("budget", budget), ("trials", trials), ("k", 1 if k is None else k)):
        if value < 1:
            raise UserError(f"{name}: must be at least 1, not {value}")
    where = StudyDirectory(Path(directory))
    rows = frame([where.path])
    study = analysis.studies_of(rows)
    rows, notes = analysis.complete_rows(analysis.with_planned_end(rows, study), leave_out_incomplete)
    for text in notes:
        note(text)
    if across_algorithms:
        rows = rows.assign(algorithm=ACROSS)
    declared = analysis.declared_metrics(study.values())
    metrics = {
        name: metric["better"] == "higher"
        for name, metric in declared.items()
        if metric["better"] is not None and name in rows
    }
    references = {
        name: None if entry["reference"] is None else Reference(**entry["reference"])
        for name, entry in where.study()["datasets"].items()
    }
    with where.locked():
        kept = PolicyEpisodes(where)
        with kept.session():
            arms = _Arms(kept, k, trials, report)
            table = tuning.choices(rows, metrics, references, pulls(budget), deployed=arms.deployed)
    if table.empty:
        raise UserError(f"{where.path}: no size has a value of every variant and seed")
    return table


def pulls(budget: int) -> list[int]:
    """The numbers of pulls after which the choice is reported: all up to 10, then more and more apart."""
    wide = np.geomspace(1, budget, 20).round().astype(int).tolist()
    return sorted({*range(1, min(budget, 10) + 1), *wide})


class _Arms:
    """Deploys policies by a bandit that runs episodes on demand."""

    def __init__(self, kept: PolicyEpisodes, k: int | None, trials: int, report: Report) -> None:
        self._kept, self._k, self._trials, self._report = kept, k, trials, report

    def deployed(
        self, arms: pd.DataFrame, reference: Any, budget: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See `analysis.tuning.Deployed`."""
        if self._k is not None and self._k > len(arms):
            raise UserError(f"k: must be at most {len(arms)}, the number of policies, not {self._k}")
        sources = [_Source(self._kept, row, self._report) for row in arms.to_dict("records")]

        def episode(arm: int, number: int) -> float:
            value = sources[arm].episode(number)
            return value if reference is None else reference.score(value)

        values = arms["value"].to_numpy(float)
        return bandit.deployed_on_demand(values, episode, budget, self._trials, rng, self._k).mean(axis=0)


class _Source:
    """The returns of a policy: those of its row, then stored ones, then new ones."""

    def __init__(self, kept: PolicyEpisodes, row: Any, report: Report) -> None:
        self._kept, self._report = kept, report
        self._key = RowKey(row["dataset"], row["variant"], row["seed"], row["samples"])
        self._returns = list(row["episode_returns"])
        blocks = kept.file(self._key).blocks()
        later = [block.env for block in blocks if block.use == "rows"]
        self._env = later[0] if later else None  # of the returns of its row, where the study has none
        for block in in_order(blocks, self._key.samples, "choice", len(self._returns)):
            self._returns += block.returns

    def episode(self, number: int) -> float:
        """The return of an episode. Raises UserError if there is no policy to run it."""
        if number >= len(self._returns):
            env = self._kept.environment(self._key.dataset, self._env)
            block = self._kept.run(self._key, env, "choice", len(self._returns), BLOCK)
            self._report(self._key, block)
            self._returns += block.returns
        value = self._returns[number]
        if not np.isfinite(value):
            raise UserError(f"{self._key}: episode {number} has no finite return, so it cannot be chosen")
        return float(value)
