"""The transition log: what an environment receives and returns."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from seqeval import environments


class TransitionLog:
    """Transitions in the order they were taken, under D4RL's names, up to a fixed capacity.

    `fields` are arrays of `capacity` rows, the first `size` of which are filled: float32, flags bool, and
    actions float32 (capacity, action size) or, if discrete, int64 (capacity,).
    """

    def __init__(self, env_id: str, capacity: int) -> None:
        environment = environments.describe(env_id)
        discrete = isinstance(environment.actions, environments.Discrete)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "observations": ((environment.observation_size,), np.float32),
            "actions": ((), np.int64) if discrete else ((environment.actions.size,), np.float32),
            "rewards": ((), np.float32),
            "next_observations": ((environment.observation_size,), np.float32),
            "terminals": ((), np.bool_),
            "timeouts": ((), np.bool_),
        }
        self.size = 0
        self.fields: dict[str, np.ndarray] = {
            key: np.zeros((capacity, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }

    def append(self, **transition: Any) -> None:
        for key, values in self.fields.items():
            values[self.size] = transition[key]
        self.size += 1

    def rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """The fields of rows `first` to `last` - 1."""
        return {key: values[first:last] for key, values in self.fields.items()}

    def end_episode(self, row: int) -> None:
        """Makes a row the last of its episode: it is marked as a timeout unless it terminates."""
        self.fields["timeouts"][row] = not self.fields["terminals"][row]


class LoggingEnv(gymnasium.Wrapper):
    """An environment that logs each of its steps."""

    def __init__(self, env: gymnasium.Env, log: TransitionLog) -> None:
        super().__init__(env)
        self.log = log

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.observation = np.copy(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        next_observation, reward, terminated, truncated, info = self.env.step(action)
        self.log.append(
            observations=self.observation,
            actions=action,
            rewards=reward,
            next_observations=next_observation,
            terminals=terminated,
            timeouts=truncated and not terminated,
        )
        self.observation = np.copy(next_observation)
        return next_observation, reward, terminated, truncated, info
