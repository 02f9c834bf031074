"""EnvPool's environments, which C++ threads step.

A pool is seeded only when it is created, so each reset creates a new one with a seed for each copy. The
numbers of a copy depend on its seed and actions alone, not on the other copies or the number of threads. They
differ from Gymnasium's: other generators draw the start states, and rewards are float32.

An environment of the same name may behave differently: in EnvPool 1.2.5 Pendulum-v1 has the spaces and the
time limit of Gymnasium's, but limits the speed in another way. Only environments are accepted for which the
tests show, step by step from the same states, that they do the same.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import gymnasium
import numpy as np

from seqeval import environments
from seqeval.errors import UserError

try:
    import envpool
except ImportError as error:
    raise UserError(
        "evaluation.backend envpool: EnvPool is not installed; pip install 'seqeval-rl[fast]'"
    ) from error


VERIFIED = tuple(
    f"{name}-{version}"
    for name in ("Ant", "HalfCheetah", "Hopper", "InvertedPendulum", "Swimmer", "Walker2d")
    for version in ("v4", "v5")
)
OPTIONS = ("max_episode_steps", "terminate_when_unhealthy")


class Environments:
    """See `backends.VectorEnvironments`."""

    def __init__(self, env_id: str, count: int) -> None:
        self.check(env_id)
        self._threads = min(count, _processors())
        self._name, self._options = environments.split(env_id)
        self._pool: Any = None

    @staticmethod
    def check(env_id: str) -> None:
        """Raises UserError if EnvPool's environment differs from Gymnasium's, or may differ."""
        name, options = environments.split(env_id)
        if name not in VERIFIED:
            _refuse(f"{name} is not among the environments that are verified to behave as Gymnasium's")
        if others := [option for option in options if option not in OPTIONS]:
            _refuse(f"the option {others[0]} of {name} is not verified to have the same effect")
        env = environments.make(env_id)
        assert env.spec is not None, "it is in Gymnasium's registry"
        limit = env.spec.max_episode_steps
        env.close()
        with _quiet():
            spec = envpool.make_spec(name, **options)
            spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space
        for expected, space in zip((env.observation_space, env.action_space), spaces, strict=True):
            if not _same(expected, space):
                _refuse(f"{name} has {space} in EnvPool and {expected} in Gymnasium")
        if limit != (pool_limit := spec.config.max_episode_steps):
            _refuse(f"an episode of {name} has up to {pool_limit} steps in EnvPool and {limit} in Gymnasium")

    def reset(self, seeds: list[int]) -> np.ndarray:
        self.close()
        with _quiet():
            self._pool = _make(self._name, self._options, seeds, self._threads)
        return self._pool.reset()[0]

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        return self._pool.step(actions.astype(self._pool.action_space.dtype))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _refuse(why: str) -> NoReturn:
    raise UserError(f"evaluation.backend envpool: {why}; use the default, evaluation.backend gymnasium")


def _make(name: str, options: dict[str, Any], seeds: Sequence[int], threads: int) -> Any:
    return envpool.make_gymnasium(name, num_envs=len(seeds), seed=list(seeds), num_threads=threads, **options)


def _same(expected: gymnasium.Space, space: gymnasium.Space) -> bool:
    """Whether two spaces have the same shape and bounds, as float32 or float64."""
    if isinstance(expected, gymnasium.spaces.Box) and isinstance(space, gymnasium.spaces.Box):
        return expected.shape == space.shape and all(
            np.array_equal(a.astype(np.float32), b.astype(np.float32))
            for a, b in ((expected.low, space.low), (expected.high, space.high))
        )
    return expected == space


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides Gymnasium's warnings on the precision of EnvPool's bounds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*", category=UserWarning)
        yield
