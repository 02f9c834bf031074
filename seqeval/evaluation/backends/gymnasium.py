"""Gymnasium's environments: the backend that every environment has."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from seqeval import environments


class Environments:
    """See `backends.VectorEnvironments`."""

    def __init__(self, env_id: str, count: int) -> None:
        self._envs = SyncVectorEnv(
            [lambda: environments.make(env_id)] * count, autoreset_mode=AutoresetMode.NEXT_STEP
        )

    @staticmethod
    def check(env_id: str) -> None:
        environments.spaces(env_id)

    def reset(self, seeds: list[int]) -> np.ndarray:
        starts: list[int | None] = [*seeds]
        return self._envs.reset(seed=starts)[0]

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        return self._envs.step(actions)

    def close(self) -> None:
        self._envs.close()
