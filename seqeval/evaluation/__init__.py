"""Episodes of the deterministic policy in environments that training never sees.

One file for each backend, with a class `Evaluator` (see `episodes`) and a function `check`;
`settings.Evaluation.backend` names them. `here` and `beside` say in which process they are played.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from seqeval.config import Evaluation
from seqeval.evaluation.episodes import Episodes, Evaluator


def evaluator(env_id: str | None, seeds: Sequence[int], how: Evaluation) -> Evaluator:
    """Who plays the episodes of replicas of these seeds; where there is no environment, nobody."""
    if env_id is None:
        return Nobody()
    return _backend(how).Evaluator(env_id, seeds, how.episodes)


def check(env_id: str | None, how: Evaluation) -> None:
    """Raises UserError where the backend is not installed, or cannot play in this environment."""
    if env_id is not None:
        _backend(how).check(env_id)


def _backend(how: Evaluation) -> Any:
    return import_module(f"seqeval.evaluation.{how.backend}")


class Nobody:
    """Stands for an evaluator where there is no environment: no episodes."""

    def __call__(self, act: Callable[[np.ndarray], np.ndarray], samples: Sequence[int]) -> list[Episodes]:
        return [Episodes([], [], None, finite=True) for _ in samples]

    def close(self) -> None:
        """There is nothing to close."""
