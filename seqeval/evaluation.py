"""Episodes of the deterministic policy in environments that training never sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from seqeval import environments
from seqeval.streams import stream


@dataclass(frozen=True)
class Episodes:
    """One replica's E episodes."""

    returns: list[float]  # empty where none was played
    lengths: list[int]
    successes: list[bool] | None  # None where the environment reports no success
    finite: bool  # False where the policy gave an action that is not finite; then nothing of this counts


class Evaluator:
    """R × E copies of an environment, stepped together, one episode in each."""

    def __init__(self, env_id: str, seeds: Sequence[int], episodes: int) -> None:
        self.seeds, self.episodes = tuple(seeds), episodes
        self._envs = SyncVectorEnv(
            [lambda: environments.make(env_id)] * (len(self.seeds) * episodes),
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        """The episodes of each replica.

        `act` maps (R, E, observation) to (R, E, action), or to (R, E) where actions are discrete.
        Episode e of a replica begins from a seed that is drawn from its seed and its `samples` alone. An
        environment whose episode is over resets itself at the next step and plays on while others are
        still at it; what it does then is not counted.
        """
        replicas, count = len(self.seeds), len(self.seeds) * self.episodes
        starts = np.concatenate(
            [
                stream(seed, "evaluation", n).integers(0, 2**31, self.episodes)
                for seed, n in zip(self.seeds, samples, strict=True)
            ]
        )
        returns, lengths = np.zeros(count), np.zeros(count, np.int64)
        running, finite, successes = np.ones(count, bool), np.ones(count, bool), None

        observations, _ = self._envs.reset(seed=starts.tolist())
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


class NoEvaluator:
    """Stands for one where there is no environment: no episodes."""

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        return [Episodes([], [], None, finite=True) for _ in samples]

    def close(self) -> None:
        """There is nothing to close."""
