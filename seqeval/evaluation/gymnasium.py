"""Episodes in Gymnasium's own environments: the backend that every environment has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from seqeval import environments
from seqeval.evaluation.episodes import Episodes, start_seeds


class Evaluator:
    """R × E copies of an environment, stepped together, one episode in each."""

    def __init__(self, env_id: str, seeds: Sequence[int], episodes: int) -> None:
        self.seeds, self.episodes = tuple(seeds), episodes
        self._envs = SyncVectorEnv(
            [lambda: environments.make(env_id)] * (len(self.seeds) * episodes),
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        """See `episodes.Evaluator`. An environment whose episode is over resets itself at the next step and
        plays on while others are still at it; what it does then is not counted."""
        replicas, count = len(self.seeds), len(self.seeds) * self.episodes
        starts: list[int | None] = [
            start
            for seed, n in zip(self.seeds, samples, strict=True)
            for start in start_seeds(seed, n, self.episodes)
        ]
        returns, lengths = np.zeros(count), np.zeros(count, np.int64)
        running, finite, successes = np.ones(count, bool), np.ones(count, bool), None

        observations, _ = self._envs.reset(seed=starts)
        while running.any():
            actions = act(observations.reshape(replicas, self.episodes, -1))
            actions = actions.reshape(count, *actions.shape[2:])
            finite &= np.isfinite(actions).reshape(count, -1).all(axis=1) | ~running
            actions = np.nan_to_num(actions, posinf=0.0, neginf=0.0)
            observations, rewards, terminated, truncated, info = self._envs.step(actions)
            returns += np.where(running, rewards, 0.0)
            lengths += running
            for key in ("success", "is_success"):
                if key in info:
                    successes = np.zeros(count, bool) if successes is None else successes
                    successes |= running & np.asarray(info[key], bool)
            running &= ~(terminated | truncated)

        def of_replica(values: np.ndarray) -> np.ndarray:
            return values.reshape(replicas, self.episodes)

        return [
            Episodes(
                of_replica(returns)[r].tolist(),
                of_replica(lengths)[r].tolist(),
                None if successes is None else of_replica(successes)[r].tolist(),
                bool(of_replica(finite)[r].all()),
            )
            for r in range(replicas)
        ]

    def close(self) -> None:
        self._envs.close()
