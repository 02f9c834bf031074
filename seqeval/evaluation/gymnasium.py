"""Episodes in Gymnasium's own environments: the backend that every environment has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from seqeval import environments
from seqeval.evaluation.episodes import Episodes, play, start_seeds


class Evaluator:
    """R × E environments, stepped together, one episode in each."""

    def __init__(self, env_id: str, seeds: Sequence[int], episodes: int) -> None:
        self.seeds, self.episodes = tuple(seeds), episodes
        self._envs = SyncVectorEnv(
            [lambda: environments.make(env_id)] * (len(self.seeds) * episodes),
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        """See `episodes.Evaluator`."""
        starts: list[int | None] = [*start_seeds(self.seeds, samples, self.episodes)]
        observations, _ = self._envs.reset(seed=starts)
        return play(self._envs.step, observations, act, len(self.seeds), self.episodes)

    def close(self) -> None:
        self._envs.close()


def check(env_id: str) -> None:
    """Raises UserError where there is no such environment."""
    environments.describe(env_id)
