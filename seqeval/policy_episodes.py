"""Episodes of the policies that a study kept, run after it: returns for its rows, and pulls of a bandit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqeval import environments
from seqeval.config import Evaluation
from seqeval.errors import UserError, nearest
from seqeval.evaluation import backends
from seqeval.evaluation.evaluators.episodes import run_episodes, start_seeds
from seqeval.execution.episodes import EpisodeBlock, EpisodeFile, in_order
from seqeval.execution.storage import StudyDirectory
from seqeval.policy import load_policy
from seqeval.training import matmul
from seqeval.training.matmul import MatmulBackend
from seqeval.types import Environment


@dataclass(frozen=True)
class RowKey:
    """A row of a study: a point of a run."""

    dataset: str
    variant: str
    seed: int
    samples: int

    def __str__(self) -> str:
        return f"{self.dataset}, {self.variant}, seed {self.seed}, n = {self.samples}"


class PolicyEpisodes:
    """Runs episodes of a study's kept policies and stores them, within `session`, which uses one thread.

    An episode depends on its policy, seed, point and number alone, and is the one that the study itself would
    have run (on a CPU to the last bit).
    """

    def __init__(self, directory: StudyDirectory) -> None:
        self._directory, self._study = directory, directory.study()
        self._backend: str = self._study["evaluation"]["backend"]
        self._environments: tuple[tuple[str, int], Any] | None = None

    @contextmanager
    def session(self) -> Iterator[None]:
        """The numeric settings of the study, and the environments, which it closes."""
        recorded, threads = self._study["matmul"].get("cpu"), torch.get_num_threads()
        backend = (
            matmul.default_backend("cpu", self._study["precision"])
            if recorded is None
            else MatmulBackend(**recorded)
        )
        torch.set_num_threads(1)
        try:
            with matmul.using(backend):
                yield
        finally:
            torch.set_num_threads(threads)
            if self._environments is not None:
                self._environments[1].close()

    def environment(self, dataset: str, env: str | None) -> str:
        """The environment for a dataset's policies. Raises UserError if none is given or it does not fit."""
        entry = self._study["datasets"][dataset]
        env_id: str | None = env or entry["env_id"]
        if env_id is None:
            raise UserError(
                f"{self._directory.path}: {dataset} has no environment; give one with the same spaces "
                "with --env"
            )
        if env_id != entry["env_id"]:
            needed = (
                Environment.from_json(entry["logged_in"])
                if entry["logged_in"]
                else environments.describe(entry["env_id"])
            )
            has, needs = map(environments.spaces_text, (environments.describe(env_id), needed))
            if has != needs:
                raise UserError(f"env: {env_id} has {has}, but {dataset} has {needs}")
        backends.find(self._backend).check(env_id)
        return env_id

    def file(self, key: RowKey) -> EpisodeFile:
        """The stored episodes of the run of a row."""
        return EpisodeFile(self._directory.run(key.dataset, key.variant, key.seed).folder)

    def run(self, key: RowKey, env_id: str, use: Any, first: int, count: int) -> EpisodeBlock:
        """Runs and stores `count` episodes from number `first` on. Raises UserError without the policy."""
        path = self._directory.path
        policy = load_policy(path, key.dataset, key.variant, key.seed, key.samples)
        act = policy.start_episodes(count)
        vector = self._vector(env_id, count)
        starts = start_seeds([key.seed], [key.samples], first + count)[first:]

        def act_of_one(observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
            return act(observations[0], rewards[0])[None]

        found = run_episodes(vector.step, vector.reset(starts), act_of_one, 1, count)
        returns, lengths, successes = (
            found[name][0] for name in ("episode_returns", "episode_lengths", "episode_successes")
        )
        block = EpisodeBlock(use, key.samples, first, env_id, self._backend, returns, lengths, successes)
        self.file(key).append(block)
        return block

    def _vector(self, env_id: str, count: int) -> Any:
        if self._environments is None or self._environments[0] != (env_id, count):
            if self._environments is not None:
                self._environments[1].close()
            self._environments = (env_id, count), backends.find(self._backend)(env_id, count)
        return self._environments[1]


def evaluate(
    directory: str | Path,
    env: str | None = None,
    episodes: int = Evaluation().episodes,
    datasets: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    report: Callable[[RowKey, EpisodeBlock], None] = lambda key, block: None,
) -> int:
    """Adds episode returns to the rows of a study that have none, and returns the number of these rows.

    They come from the kept policies (`keep_policies`) of finished runs; no names mean all of them. Episodes
    that are stored already are not run again. `env` is needed where the study has no environment. It trusts
    whoever wrote the study directory, as `load_policy` does. Raises UserError for what does not fit.
    """
    if episodes < 1:
        raise UserError(f"episodes: must be at least 1, not {episodes}")
    where = StudyDirectory(Path(directory))
    study = where.study()
    for kind, names in (("datasets", datasets), ("algorithms", algorithms)):
        for name in names:
            if name not in study[kind]:
                raise UserError(f"{directory}: no {name!r} among its {kind}{nearest(name, study[kind])}")
    with where.locked():
        wanted = _rows_without_returns(where, env, datasets, algorithms, seeds)
        kept = PolicyEpisodes(where)
        with kept.session():
            env_ids = {name: kept.environment(name, env) for name in {key.dataset for key in wanted}}
            _refuse_other_environments(kept, wanted, env_ids)
            for key in wanted:
                stored = in_order(kept.file(key).blocks(), key.samples, "rows")
                first = sum(len(block.returns) for block in stored)
                if first < episodes:
                    report(key, kept.run(key, env_ids[key.dataset], "rows", first, episodes - first))
    return len(wanted)


def _rows_without_returns(
    directory: StudyDirectory,
    env: str | None,
    datasets: Sequence[str],
    algorithms: Sequence[str],
    seeds: Sequence[int],
) -> list[RowKey]:
    """The rows to evaluate. Raises UserError if there are none, if their runs have not finished, or if a
    dataset has rows with returns from another environment."""
    study, found, chosen = directory.study(), [], 0
    for row in directory.rows():
        key = RowKey(row["dataset"], row["variant"], row["seed"], row["samples"])
        if any(
            names and value not in names
            for names, value in ((datasets, key.dataset), (algorithms, key.variant), (seeds, key.seed))
        ):
            continue
        chosen += 1
        own = study["datasets"][key.dataset]["env_id"]
        if row["return_mean"] is not None:
            if env not in (None, own):
                raise UserError(
                    f"{directory.path}: the rows of {key.dataset} have returns from {own}; returns from "
                    f"{env} cannot be mixed with them"
                )
        elif row["status"] == "ok":
            if not directory.run(key.dataset, key.variant, key.seed).finished:
                raise UserError(f"{directory.path}: {key} has not finished; finish the study first")
            found.append(key)
    if not chosen:
        raise UserError(f"{directory.path}: no rows of these datasets, algorithms and seeds")
    return found


def _refuse_other_environments(
    kept: PolicyEpisodes, wanted: Sequence[RowKey], env_ids: dict[str, str]
) -> None:
    """Raises UserError if a row has stored episodes in another environment."""
    for key in wanted:
        file = kept.file(key)
        for block in file.blocks():
            if block.env != env_ids[key.dataset]:
                raise UserError(
                    f"{file.path}: holds episodes in {block.env}, which cannot be mixed with "
                    f"{env_ids[key.dataset]}; give --env {block.env}, or remove the file"
                )
