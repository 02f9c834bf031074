"""The contract between the training loop and what keeps its runs; `execution.checkpoints` keeps them in files
and describes what happens when a job is killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from seqeval.training.job import Replica

State = Mapping[str, Any]  # of one replica: values that torch.save accepts


class Checkpoints(Protocol):
    """Keeps the states of a job's runs."""

    @property
    def stopping(self) -> bool:
        """Whether the job has been asked to save itself and end."""

    def due(self) -> bool:
        """Whether it is time to save; always true while stopping."""

    def save(self, updates: int, states: Mapping[Replica, State]) -> None:
        """Saves the states of all replicas of some runs after so many updates; their rows up to now are
        stored."""

    def finish(self, updates: int, agents: Mapping[Replica, State]) -> None:
        """Stores the final agents of some runs, and marks the runs as finished."""
