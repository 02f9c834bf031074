"""Evaluators measure R agents at the points of their curves; episodes are one evaluator.

An evaluator is a file in `evaluators`, an entry point of the group `seqeval.evaluators`, or a path,
`path/to/mine.py:Name`; `Evaluation.evaluators` lists those of a study. `backends` run the environments of
episodes, `runners` decide in which process evaluators run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from seqeval import loading
from seqeval.config import Evaluation
from seqeval.errors import UserError
from seqeval.types import Row

if TYPE_CHECKING:
    from seqeval.replay.buffer import Buffer

Results = Mapping[str, Sequence[Any]]
EPISODES = ("episode_returns", "episode_lengths", "episode_successes")  # fields of a row with lists
RESERVED = {field.name for field in fields(Row)}.difference(EPISODES)  # names that no metric may have


class Policies(Protocol):
    """R agents as evaluators see them; `training.agents.AgentGroup` in a study."""

    seeds: tuple[int, ...]

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies: (R, E, observation) -> (R, E, action), or (R, E) where discrete. A
        policy that remembers acts as at the start of an episode."""

    @property
    def target_returns(self) -> tuple[float, ...]:
        """The returns that the policies can be asked for; the first gives the score. Usually empty."""

    def start_episodes(self, count: int, target: int = 0) -> Any:
        """What the policies remember at the start of `count` episodes of each replica; `target` is a place
        in `target_returns`."""

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: Any) -> np.ndarray:
        """As `act`, for the next step of episodes: updates their memory. `rewards` (R, E) are those of the
        step before, 0 at the first."""


@dataclass(frozen=True)
class VisibleData:
    """What R agents have been allowed to see at a point."""

    samples: tuple[int, ...]  # (R,): n, the visible transitions of each
    # None for evaluators with `uses_data` False, which may run in a process without the data.
    buffer: Buffer | None = None
    rows: Callable[[int], np.ndarray] | None = None  # replica -> its n visible rows of the buffer, in order


class Evaluator(ABC):
    """Measures R agents; created once for the replicas of a job that learn from one dataset."""

    # Whether `evaluate` reads more of `visible` than `samples`. If one evaluator of a study does, all of them
    # run in the training process, since a second process has no data.
    uses_data: ClassVar[bool] = True

    def __init__(self, env_id: str | None, seeds: Sequence[int], settings: Evaluation) -> None:
        """`env_id` is None if no environment fits the dataset; `seeds` has an entry for each replica."""
        self.env_id, self.seeds, self.settings = env_id, tuple(seeds), settings

    @classmethod
    def check(cls, env_id: str | None, settings: Evaluation) -> None:
        """Raises UserError, before anything is trained, if the evaluator cannot be used."""

    @abstractmethod
    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        """Named metrics, a number for each replica; each becomes a column of the rows.

        Must depend only on the agents, on `visible`, and on streams of each replica's own seed, and must
        change nothing. (Only the built-in `episodes` returns the row's fields `episode_returns`,
        `episode_lengths` and `episode_successes`, a list for each replica.)
        """

    def close(self) -> None:
        """Releases what the evaluator holds."""


def find(name: str) -> type[Evaluator]:
    """The class of an evaluator. Raises UserError if there is none of that name or it cannot be used."""
    return loading.load(KIND, name)


def create(env_id: str | None, seeds: Sequence[int], settings: Evaluation) -> list[Evaluator]:
    """The evaluators of a study, for replicas of these seeds."""
    return [find(name)(env_id, seeds, settings) for name in settings.evaluators]


def check(env_id: str | None, settings: Evaluation) -> None:
    """Raises UserError if an evaluator of the study cannot be used."""
    for name in settings.evaluators:
        loading.refuse_shadowed(KIND, name)
        find(name).check(env_id, settings)


def evaluate(evaluators: Sequence[Evaluator], agents: Policies, visible: VisibleData) -> dict[str, Any]:
    """The results of all evaluators, by name of the metric. Raises UserError if they do not fit into rows."""
    results: dict[str, Any] = {}
    for evaluator in evaluators:
        found = evaluator.evaluate(agents, visible)
        for metric, values in found.items():
            _check(type(evaluator).__name__, metric, len(values), len(evaluator.seeds), {*RESERVED, *results})
        results.update(found)
    return results


def _check(evaluator: str, metric: str, values: int, replicas: int, taken: Collection[str]) -> None:
    if metric in taken or metric.startswith("train/"):
        raise UserError(f"{evaluator}: the metric {metric!r} has the name of a column; rename it")
    if values != replicas:
        raise UserError(f"{evaluator}: the metric {metric!r} has {values} values for {replicas} replicas")


KIND = loading.class_kind(
    "evaluator",
    "seqeval.evaluation.evaluators",
    "seqeval.evaluators",
    Evaluator,
    "an Evaluator of seqeval.evaluation",
)
