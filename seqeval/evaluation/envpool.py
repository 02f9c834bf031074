"""Episodes in EnvPool's environments, which threads of C++ step.

A pool takes its seeds when it is made and never after: so there is a new one for each point, with a seed for
each environment. An environment's numbers hang on its own seed and actions alone, not on the other
environments of the pool or the number of threads. They are not those of Gymnasium's: other generators draw
the start states, and rewards are float32.

The name of an environment promises little: in EnvPool 1.2.5 Pendulum-v1 has the spaces and the limit of
Gymnasium's, and moves otherwise where its speed is limited. So those alone are taken of which the tests show
that, step by step from the same states, they do the same.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import gymnasium
import numpy as np

from seqeval import environments
from seqeval.errors import UserError
from seqeval.evaluation.episodes import Episodes, play, start_seeds

try:
    import envpool
except ImportError as error:
    raise UserError(
        "evaluation.backend envpool: EnvPool is not installed; pip install 'seqeval-rl[fast]'"
    ) from error


ALIKE = tuple(
    f"{name}-{version}"
    for name in ("Ant", "HalfCheetah", "Hopper", "InvertedPendulum", "Swimmer", "Walker2d")
    for version in ("v4", "v5")
)
OPTIONS = ("max_episode_steps", "terminate_when_unhealthy")


class Evaluator:
    """R × E environments, one episode in each."""

    def __init__(self, env_id: str, seeds: Sequence[int], episodes: int) -> None:
        check(env_id)
        self.seeds, self.episodes = tuple(seeds), episodes
        self._name, self._options = environments.split(env_id)

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        """See `episodes.Evaluator`."""
        starts = start_seeds(self.seeds, samples, self.episodes)
        threads = min(len(starts), _processors())
        with _quiet(), closing(_make(self._name, self._options, starts, threads)) as pool:
            dtype = pool.action_space.dtype
            return play(
                lambda actions: pool.step(actions.astype(dtype)),
                pool.reset()[0],
                act,
                len(self.seeds),
                self.episodes,
            )

    def close(self) -> None:
        """There is nothing to close: a pool lives for one call."""


def check(env_id: str) -> None:
    """Raises UserError where EnvPool's environment of this name, or with its options, is not Gymnasium's."""
    name, options = environments.split(env_id)
    if name not in ALIKE:
        _refuse(f"{name} is not among the environments that it is known to have as Gymnasium has them")
    if others := [option for option in options if option not in OPTIONS]:
        _refuse(f"the option {others[0]} of {name} is not known to do the same there")
    env = environments.make(env_id)
    assert env.spec is not None, "it is in Gymnasium's registry"
    limit = env.spec.max_episode_steps
    env.close()
    with _quiet():
        spec = envpool.make_spec(name, **options)
        theirs = spec.gymnasium_observation_space, spec.gymnasium_action_space
    for here, there in zip((env.observation_space, env.action_space), theirs, strict=True):
        if not _same(here, there):
            _refuse(f"{name} has {there} there, and {here} in Gymnasium")
    if limit != spec.config.max_episode_steps:
        there = spec.config.max_episode_steps
        _refuse(f"an episode of {name} has up to {there} steps there, and up to {limit} in Gymnasium")


def _refuse(why: str) -> NoReturn:
    raise UserError(f"evaluation.backend envpool: {why}; leave evaluation.backend out")


def _make(name: str, options: dict[str, Any], seeds: Sequence[int], threads: int) -> Any:
    return envpool.make_gymnasium(name, num_envs=len(seeds), seed=list(seeds), num_threads=threads, **options)


def _same(here: gymnasium.Space, there: gymnasium.Space) -> bool:
    """Whether two spaces have one shape and the same bounds, be it as float32 or as float64."""
    if isinstance(here, gymnasium.spaces.Box) and isinstance(there, gymnasium.spaces.Box):
        return here.shape == there.shape and all(
            np.array_equal(a.astype(np.float32), b.astype(np.float32))
            for a, b in ((here.low, there.low), (here.high, there.high))
        )
    return here == there


def _processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Gymnasium's notes on the precision of EnvPool's bounds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*", category=UserWarning)
        yield
