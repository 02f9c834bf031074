"""The log: what an environment receives and gives back."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from seqeval import environments


class Log:
    """Transitions in the order they were taken, under D4RL's names, up to a capacity.

    `fields` are arrays of `capacity` rows, of which `size` are filled: float32, flags bool, and actions
    float32 (capacity, action) or, where discrete, int64 (capacity,).
    """

    def __init__(self, env_id: str, capacity: int) -> None:
        about = environments.describe(env_id)
        discrete = isinstance(about.actions, environments.Discrete)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "observations": ((about.observation_size,), np.float32),
            "actions": ((), np.int64) if discrete else ((about.actions.size,), np.float32),
            "rewards": ((), np.float32),
            "next_observations": ((about.observation_size,), np.float32),
            "terminals": ((), np.bool_),
            "timeouts": ((), np.bool_),
        }
        self.size = 0
        self.fields: dict[str, np.ndarray] = {
            key: np.zeros((capacity, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }

    def append(self, **step: Any) -> None:
        for key, values in self.fields.items():
            values[self.size] = step[key]
        self.size += 1

    def rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {key: values[first:last] for key, values in self.fields.items()}

    def cut(self, row: int) -> None:
        """Ends the episode of a row there: with a timeout, unless it terminates."""
        self.fields["timeouts"][row] = not self.fields["terminals"][row]


class Logged(gymnasium.Wrapper):
    """An environment whose every step is logged, as it received and answered it."""

    def __init__(self, env: gymnasium.Env, log: Log) -> None:
        super().__init__(env)
        self.log = log

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.observation = np.copy(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        following, reward, terminated, truncated, info = self.env.step(action)
        self.log.append(
            observations=self.observation,
            actions=action,
            rewards=reward,
            next_observations=following,
            terminals=terminated,
            timeouts=truncated and not terminated,
        )
        self.observation = np.copy(following)
        return following, reward, terminated, truncated, info
