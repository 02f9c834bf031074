"""Environment backends: one file for each, with a class `Environments`; `Evaluation.backend` names it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np


class VectorEnvironments(Protocol):
    """Copies of one environment that are stepped together. Numbers of a copy depend on its seed and actions
    alone."""

    def __init__(self, env_id: str, count: int) -> None: ...

    @staticmethod
    def check(env_id: str) -> None:
        """Raises UserError if the backend is not installed or cannot run this environment."""

    def reset(self, seeds: list[int]) -> np.ndarray:
        """Starts an episode in each copy; returns the first observations, (count, ...)."""

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """As a vectorised Gymnasium environment with autoreset at the next step."""

    def close(self) -> None:
        """Releases what the environments hold."""


def find(name: str) -> type[VectorEnvironments]:
    """The backend of a name. Raises UserError if its package is not installed."""
    return import_module(f"{__name__}.{name}").Environments
