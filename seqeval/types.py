"""What the parts of the suite hand to each other: a dataset, a minibatch, a row of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


DataRules = Literal["strict", "qlearning"]
Precision = Literal["full", "fast"]


@dataclass(frozen=True)
class Reference:
    """The two returns between which a score runs from 0 to 100, and where they come from."""

    minimum: float
    maximum: float
    source: str

    def score(self, episode_return: float) -> float:
        return 100.0 * (episode_return - self.minimum) / (self.maximum - self.minimum)


@dataclass(frozen=True, eq=False)
class Continuous:
    """Actions that are vectors between two bounds."""

    low: np.ndarray  # (action,) float32
    high: np.ndarray  # (action,) float32

    @property
    def size(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class Discrete:
    """Actions that are numbers first, first + 1, …, `size` of them."""

    size: int
    first: int


@dataclass(frozen=True, eq=False)
class Environment:
    """What the suite needs to know of an environment before it makes one, and to learn without making it."""

    name: str  # Gymnasium's, options included; else whatever people call it
    observation_size: int
    actions: Continuous | Discrete
    time_limit: int | None  # steps; None where the environment has none of its own

    def plain(self) -> dict[str, Any]:
        """As plain values, for the run directory; only those whose actions are vectors."""
        assert isinstance(self.actions, Continuous), "nothing with other actions is without an environment"
        bounds = {"low": self.actions.low.tolist(), "high": self.actions.high.tolist()}
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"actions": bounds}

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> Self:
        """What `plain` was made of."""
        bounds = {key: np.array(values, np.float32) for key, values in plain["actions"].items()}
        return cls(**{**plain, "actions": Continuous(**bounds)})


@dataclass(frozen=True)
class Dataset:
    """Logged transitions in the order of their file, after the data rules (`datasets._rules`).

    N transitions, of E episodes. Arrays are read-only. Actions are in the environment's own units: vectors,
    or numbers where they are discrete. N is 0 for a dataset that stands for none at all.
    """

    name: str
    env_id: str | None  # the environment of its evaluation; None where there is none that fits
    observations: np.ndarray  # (N, observation) float32
    actions: np.ndarray  # (N, action) float32, or (N,) int64 where they are discrete
    rewards: np.ndarray  # (N,) float32
    next_observations: np.ndarray  # (N, observation) float32; where terminated, of no consequence
    terminated: np.ndarray  # (N,) bool: no value beyond this transition
    truncated: np.ndarray  # (N,) bool: the episode was cut here, its value goes on
    episode: np.ndarray  # (N,) int32: the episode a transition belongs to, 0..E-1
    episode_returns: np.ndarray  # (E,) float64: undiscounted, over every logged step, dropped ones included
    episode_complete: np.ndarray  # (E,) bool: ended by a terminal or a timeout, not by the end of the file
    segments: tuple[int, ...]  # lengths of the parts it was joined from, in order; their sum is N
    reference: Reference | None
    digest: str  # xxh3_128 over the arrays: tells two of one name apart. Not cryptographic: nobody attacks it
    segment_names: tuple[str, ...] = ()  # what the parts are called
    notes: tuple[str, ...] = ()  # what the data rules did, for people
    card: dict[str, Any] = field(default_factory=dict)  # how the data came about, where it says so
    logged_in: Environment | None = None  # what it was logged in, where that is not `env_id`

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def observation_size(self) -> int:
        return int(self.observations.shape[1])

    @property
    def environment(self) -> str:
        """The name of the environment that it was logged in."""
        if self.logged_in is not None:
            return self.logged_in.name
        assert self.env_id is not None, "what was logged in no other environment names one"
        return self.env_id

    @property
    def behaviour_return(self) -> float | None:
        """Mean return of the complete episodes (of all, where none is complete): the data's own level. None
        without data."""
        if not len(self):
            return None
        returns = (
            self.episode_returns[self.episode_complete]
            if self.episode_complete.any()
            else self.episode_returns
        )
        return float(returns.mean())


@dataclass(frozen=True)
class Spec:
    """What an algorithm must know of the data to build its networks."""

    observation_size: int
    action_size: int  # numbers in an action; where actions are discrete, how many there are
    discrete: bool = False


@dataclass(frozen=True)
class Batch:
    """One minibatch for each of R replicas: what an algorithm's update sees.

    Observations are normalised where the algorithm's config asks for it, rewards scaled likewise, actions
    mapped to [-1, 1] or, where they are discrete, numbered from 0.
    """

    observations: Tensor  # (R, B, observation)
    actions: Tensor  # (R, B, action); discrete (R, B) int64
    rewards: Tensor  # (R, B)
    next_observations: Tensor  # (R, B, observation)
    terminated: Tensor  # (R, B): 1 where no value follows, else 0; a truncated transition has 0
    noise: dict[str, Tensor] = field(default_factory=dict)  # (R, *shape) each, as the algorithm declared


@dataclass(frozen=True)
class Row:
    """One point of one seed's curve."""

    study: str
    dataset: str
    algorithm: str
    variant: str
    seed: int
    phase: str  # "offline" or "online"; the row at N is offline's
    regime: str  # "stream"
    samples: int  # n, the visible transitions, online N + e: the x axis
    env_steps: int  # e, steps in the training environment; 0 while offline, and of who does not learn online
    updates: int
    episode_returns: list[float]  # empty where the status is failed, or where there is no environment
    episode_lengths: list[int]
    episode_successes: list[bool] | None  # None where the environment reports no success
    return_mean: float | None  # None where the status is failed, or where there is no environment
    score: float | None  # None too without reference returns: never a guess
    status: str  # "ok", or "failed": this seed's losses or actions were not finite
    # The seed's share of its group's wall time: of training since the row before was asked for, waiting for
    # evaluations left out; and of this row's evaluation, which may have gone on beside training.
    train_seconds: float
    eval_seconds: float
    metrics: dict[str, float]  # the algorithm's, averaged over the updates since the row before
