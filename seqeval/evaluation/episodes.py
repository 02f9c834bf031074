"""What every backend is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from seqeval.seeding import stream


@dataclass(frozen=True)
class Episodes:
    """One replica's E episodes."""

    returns: list[float]  # empty where none was played
    lengths: list[int]
    successes: list[bool] | None  # None where the environment reports no success
    finite: bool  # False where the policy gave an action that is not finite; then nothing of this counts


class Evaluator(Protocol):
    """R × E copies of an environment, one episode in each."""

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        """The episodes of each replica.

        `act` maps (R, E, observation) to (R, E, action), or to (R, E) where actions are discrete. The
        episodes of a replica hang on `start_seeds` of its seed and its `samples`, and on its actions: on
        nothing that is played beside them.
        """

    def close(self) -> None:
        """Gives back what it holds."""


def start_seeds(seeds: Sequence[int], samples: Sequence[int], episodes: int) -> list[int]:
    """What each of the R × E episodes begins from, drawn from its replica's seed and samples alone: numbers
    from 0 to 2**31 - 1."""
    return [
        int(start)
        for seed, n in zip(seeds, samples, strict=True)
        for start in stream(seed, "evaluation", n).integers(0, 2**31, episodes)
    ]


def play(
    step: Callable[[np.ndarray], tuple[Any, ...]],
    observations: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    replicas: int,
    episodes: int,
) -> list[Episodes]:
    """The first episode of each of R × E environments, whose first observations are given.

    `step` takes actions (R·E, action) or (R·E,) and gives what a vectorised environment of Gymnasium gives.
    An environment whose episode is over resets itself at the next step and plays on while others are still
    at it; what it does then is not counted.
    """
    count = replicas * episodes
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    running, finite, successes = np.ones(count, bool), np.ones(count, bool), None

    while running.any():
        actions = act(observations.reshape(replicas, episodes, -1))
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

    def of_replica(values: np.ndarray) -> np.ndarray:
        return values.reshape(replicas, episodes)

    return [
        Episodes(
            of_replica(returns)[r].tolist(),
            of_replica(lengths)[r].tolist(),
            None if successes is None else of_replica(successes)[r].tolist(),
            bool(of_replica(finite)[r].all()),
        )
        for r in range(replicas)
    ]
