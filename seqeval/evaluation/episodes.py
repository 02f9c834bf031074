"""What every backend is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from seqeval.streams import stream


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


def start_seeds(seed: int, samples: int, episodes: int) -> list[int]:
    """What the episodes of a replica begin from, each of them: 0 to 2**31 - 1."""
    return stream(seed, "evaluation", samples).integers(0, 2**31, episodes).tolist()
