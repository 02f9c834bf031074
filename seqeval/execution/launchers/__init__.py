"""Where the jobs of a study run: one file for each launcher, with a subclass of `Launcher`;
`Execution.launcher` names it, or an entry point of the group `seqeval.launchers`, or `path/to/mine.py:Name`.

Settings of a built-in launcher are a dataclass in `config.Execution`. A job on another machine is a
`remote.RemoteJob`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from seqeval import loading
from seqeval.config import Execution
from seqeval.execution.worker import Failure, JobPayload


class Launcher(ABC):
    """Runs jobs. A context manager, entered before the jobs are divided among its slots."""

    device: str | None = None  # "cpu" or "cuda": what jobs compute on; None: as on this machine

    def __init__(self, execution: Execution, out: Path) -> None:
        self.execution, self.out = execution, out
        self.notes: list[str] = []  # messages for the user, which the driver prints and removes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Releases what the launcher holds."""

    @abstractmethod
    def slots(self, device: str) -> int:
        """The number of jobs to divide a study into if there is room: those that run in parallel."""

    @abstractmethod
    def has_spare_cpu(self, device: str, jobs: int) -> bool:
        """Whether each of so many jobs has a processor for evaluating while it trains."""

    @abstractmethod
    def submit(self, payloads: Sequence[JobPayload], stop: Event) -> None:
        """Accepts all jobs of a study. Once `stop` is set, running jobs are to save themselves and end, and
        waiting ones are not to start. Raises UserError if the jobs cannot be run."""

    @abstractmethod
    def poll(self) -> Mapping[int, Failure | None]:
        """Waits for a moment; returns the jobs that have ended since the last call, by their place among the
        submitted ones, with why they failed, if they did."""

    @abstractmethod
    def cancel(self) -> None:
        """Ends all jobs at once."""


def find(name: str) -> type[Launcher]:
    """The class of a launcher. Raises UserError if there is none of that name, or its package is missing."""
    return loading.load(KIND, name)


KIND = loading.class_kind(
    "launcher",
    "seqeval.execution.launchers",
    "seqeval.launchers",
    Launcher,
    "a Launcher of seqeval.execution.launchers",
)
