"""Episodes of the deterministic policies, in environments that training never uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqeval.config import Evaluation, Study
from seqeval.evaluation import AT_TARGET, Evaluator, Policies, Results, VisibleData, backends
from seqeval.seeding import stream
from seqeval.types import Dataset


class Episodes(Evaluator):
    """Returns, lengths and successes of E episodes of each agent. Without an environment there are none."""

    uses_data = False

    def __init__(
        self, env_id: str | None, seeds: Sequence[int], settings: Evaluation, config: Any = None
    ) -> None:
        super().__init__(env_id, seeds, settings, config)
        self._environments = (
            None
            if env_id is None
            else backends.find(settings.backend)(env_id, len(self.seeds) * settings.episodes)
        )

    @classmethod
    def check(cls, dataset: Dataset, study: Study) -> None:
        if dataset.env_id is not None:
            backends.find(study.evaluation.backend).check(dataset.env_id)

    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        """A replica's episodes depend only on its seed, its number of samples and its policy."""
        if self._environments is None:
            return {}
        results = self._run(agents, visible, 0)
        for target, wanted in enumerate(agents.target_returns[1:], 1):
            returns = self._run(agents, visible, target)["episode_returns"]
            results[f"{AT_TARGET} {wanted:g}"] = [float(np.mean(values)) for values in returns]
        return results

    def _run(self, agents: Policies, visible: VisibleData, target: int) -> dict[str, list[Any]]:
        """Episodes of policies that are asked for a target return, or for none."""
        assert self._environments is not None
        episodes, memory = self.settings.episodes, agents.start_episodes(self.settings.episodes, target)
        observations = self._environments.reset(start_seeds(self.seeds, visible.samples, episodes))

        def act(observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
            return agents.act_in_episodes(observations, rewards, memory)

        return run_episodes(self._environments.step, observations, act, len(self.seeds), episodes)

    def close(self) -> None:
        if self._environments is not None:
            self._environments.close()


def start_seeds(seeds: Sequence[int], samples: Sequence[int], episodes: int) -> list[int]:
    """The seeds of the R × E episodes, from 0 to 2**31 - 1, from each replica's seed and samples alone."""
    return [
        int(start)
        for seed, n in zip(seeds, samples, strict=True)
        for start in stream(seed, "evaluation", n).integers(0, 2**31, episodes)
    ]


def run_episodes(
    step: Callable[[np.ndarray], tuple[Any, ...]],
    observations: np.ndarray,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    replicas: int,
    episodes: int,
) -> dict[str, list[Any]]:
    """Runs the first episode of each of R × E environments from the given first observations.

    `step` accepts actions (R·E, action) or (R·E,) and returns what a vectorised Gymnasium environment
    returns. An environment whose episode has ended resets itself at the next step and continues; what follows
    is not counted. `act` gets observations and the rewards of the previous step, 0 at the first. The returns
    of a replica that took an action that is not finite are NaN.
    """
    count = replicas * episodes
    rewards = np.zeros(count)
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    running, finite, successes = np.ones(count, bool), np.ones(count, bool), None

    while running.any():
        actions = act(
            observations.reshape(replicas, episodes, *observations.shape[1:]),
            rewards.reshape(replicas, episodes),
        )
        actions = actions.reshape(count, *actions.shape[2:])
        finite &= np.isfinite(actions).reshape(count, -1).all(axis=1) | ~running
        actions = np.nan_to_num(actions, posinf=0.0, neginf=0.0)
        observations, rewards, terminated, truncated, info = step(actions)
        returns += np.where(running, rewards, 0.0)
        lengths += running
        for key in ("success", "is_success"):
            if key in info:
                successes = np.zeros(count, bool) if successes is None else successes
                successes |= running & np.asarray(info[key], bool)
        running &= ~(terminated | truncated)
    returns[~finite] = np.nan

    def by_replica(values: np.ndarray) -> list[Any]:
        return values.reshape(replicas, episodes).tolist()

    return {
        "episode_returns": by_replica(returns),
        "episode_lengths": by_replica(lengths),
        "episode_successes": [None] * replicas if successes is None else by_replica(successes),
    }
