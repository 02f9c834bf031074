"""The data types that the parts of the suite exchange: dataset, environment, minibatch, row of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from seqeval.frames import FrameStacks


DataRules = Literal["strict", "qlearning"]
Order = Literal["shuffled", "episodes", "logged", "segments", "segments-by-episode", "return"]
Precision = Literal["full", "fast"]


@dataclass(frozen=True)
class Reference:
    """The returns that score 0 and 100, and their source."""

    minimum: float
    maximum: float
    source: str

    def score(self, episode_return: float) -> float:
        return 100.0 * (episode_return - self.minimum) / (self.maximum - self.minimum)


@dataclass(frozen=True, eq=False)
class Continuous:
    """Continuous actions: vectors between two bounds."""

    low: np.ndarray  # (action,) float32
    high: np.ndarray  # (action,) float32

    @property
    def size(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class Discrete:
    """Discrete actions: the `size` integers from `first` on."""

    size: int
    first: int


@dataclass(frozen=True)
class Vector:
    """Observations that are vectors of `size` numbers."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an observation."""
        return (self.size,)


@dataclass(frozen=True)
class Image:
    """Observations that are uint8 images, channels first; `stack` consecutive frames make one observation.

    On and off, as in MinAtar, are 0 and 255, so that an encoder divides every image by 255.
    """

    channels: int
    height: int
    width: int
    stack: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an observation: its frames one after the other, oldest first."""
        return self.stack * self.channels, self.height, self.width


def _size(observation: Vector | Image) -> int:
    if not isinstance(observation, Vector):
        raise TypeError(f"{observation} has no size; use its channels, height and width")
    return observation.size


@dataclass(frozen=True, eq=False)
class Environment:
    """What the suite knows about an environment without creating it."""

    name: str  # Gymnasium's id, options included; otherwise the common name
    observation: Vector | Image
    actions: Continuous | Discrete
    time_limit: int | None  # steps; None where the environment has no limit of its own

    @property
    def observation_size(self) -> int:
        """Numbers in a vector observation. Raises TypeError for images."""
        return _size(self.observation)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the study directory."""
        actions: dict[str, Any]
        if isinstance(self.actions, Discrete):
            actions = {"size": self.actions.size, "first": self.actions.first}
        else:
            actions = {"low": self.actions.low.tolist(), "high": self.actions.high.tolist()}
        return {
            "name": self.name,
            "observation": vars(self.observation),
            "actions": actions,
            "time_limit": self.time_limit,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The environment that `to_json` was called on."""
        import numpy as np  # not needed by the command line's help

        # Studies of version 0.1.0 and earlier hold vectors only.
        actions, seen = dict(values["actions"]), values.get("observation")
        seen = {"size": values["observation_size"]} if seen is None else seen
        observation = Vector(**seen) if "size" in seen else Image(**seen)
        if "size" in actions:
            return cls(values["name"], observation, Discrete(**actions), values["time_limit"])
        bounds = {key: np.array(bound, np.float32) for key, bound in actions.items()}
        return cls(values["name"], observation, Continuous(**bounds), values["time_limit"])


@dataclass(frozen=True)
class Dataset:
    """Logged transitions in the order of their file, after the data rules (`datasets._rules`).

    N transitions from E episodes. Arrays are read-only. Actions are in the environment's units: vectors, or
    integers where they are discrete. N is 0 for the dataset `none`. Images are read like arrays (N,
    stack·channels, height, width) of uint8, and are put together from frames that are stored once.
    """

    name: str
    env_id: str | None  # the environment that policies are evaluated in; None where none fits
    observations: np.ndarray | FrameStacks  # (N, observation) float32
    actions: np.ndarray  # (N, action) float32, or (N,) int64 where they are discrete
    rewards: np.ndarray  # (N,) float32
    next_observations: np.ndarray | FrameStacks  # (N, observation) float32; not used where terminated
    terminated: np.ndarray  # (N,) bool: no value follows this transition
    truncated: np.ndarray  # (N,) bool: the episode was cut here; a value still follows
    episode: np.ndarray  # (N,) int32: the episode a transition belongs to, 0..E-1
    episode_returns: np.ndarray  # (E,) float64: undiscounted, over every logged step, dropped ones included
    episode_complete: np.ndarray  # (E,) bool: ended by a terminal or a timeout, not by the end of the file
    segments: tuple[int, ...]  # lengths of the datasets it was joined from, in order; they add up to N
    reference: Reference | None
    digest: str  # xxh3_128 over the arrays: distinguishes datasets of the same name; not cryptographic
    segment_names: tuple[str, ...] = ()  # names of the joined datasets
    notes: tuple[str, ...] = ()  # what the data rules changed, for the user
    card: dict[str, Any] = field(default_factory=dict)  # how the data was collected, where the file says so
    # The environment of the log, where it is not `env_id`, or where the file bounds its actions.
    logged_in: Environment | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def observation(self) -> Vector | Image:
        """What an observation is."""
        import numpy as np  # not at the top, since --help does not need it

        if isinstance(self.observations, np.ndarray):
            return Vector(int(self.observations.shape[1]))
        return self.observations.image

    @property
    def observation_size(self) -> int:
        """Numbers in a vector observation. Raises TypeError for images."""
        return _size(self.observation)

    @property
    def episode_lengths(self) -> np.ndarray:
        """(E,) int64: the transitions of each episode."""
        import numpy as np  # not at the top, since --help does not need it

        return np.bincount(self.episode, minlength=len(self.episode_returns))

    @property
    def environment(self) -> str:
        """The name of the environment that the data was logged in."""
        if self.logged_in is not None:
            return self.logged_in.name
        assert self.env_id is not None, "a dataset without `logged_in` names its environment"
        return self.env_id

    @property
    def behaviour_return(self) -> float | None:
        """Mean return of the complete episodes, or of all episodes where none is complete; None without
        data."""
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
    """What an algorithm must know to build its networks."""

    observation: Vector | Image
    action_size: int  # numbers in an action; number of actions where they are discrete
    discrete: bool = False

    @property
    def observation_size(self) -> int:
        """Numbers in a vector observation. Raises TypeError for images."""
        return _size(self.observation)


@dataclass(frozen=True)
class Batch:
    """One minibatch for each of R replicas: the input of an algorithm's update.

    Observations are normalised if the algorithm's config asks for it, rewards are scaled likewise, actions
    are mapped to [-1, 1] or, where they are discrete, counted from 0. With sequences of length L every
    tensor but `noise` has an axis L after B. Images are uint8, and an observation is (stack·channels, height,
    width), oldest frame first; the encoder divides by 255.
    """

    observations: Tensor  # (R, B, observation)
    actions: Tensor  # (R, B, action); discrete (R, B) int64
    rewards: Tensor  # (R, B); n-step: the discounted sum over `steps` transitions
    next_observations: Tensor  # (R, B, observation); n-step: after the last of `steps` transitions
    terminated: Tensor  # (R, B): 1 where no value follows, else 0; a truncated transition has 0
    noise: dict[str, Tensor] = field(default_factory=dict)  # (R, *shape) each, as the algorithm declared
    # Filled only where the algorithm's `sampling` asks for them. Masks are 1 where the value may be used.
    next_actions: Tensor | None = None  # as `actions`: the next logged action of the same episode
    next_actions_mask: Tensor | None = None  # (R, B): 0 where there is none; `next_actions` repeats `actions`
    returns_to_go: Tensor | None = None  # (R, B): discounted; -inf where masked
    returns_to_go_mask: Tensor | None = None  # (R, B): 0 until the rest of the episode is visible
    rows: Tensor | None = None  # (R, B) int64: rows of the dataset, from N on of the online transitions
    steps: Tensor | None = None  # (R, B) int64, n-step: transitions summed, at most n
    times: Tensor | None = None  # (R, B) int64: the steps of the episode that come before
    mask: Tensor | None = None  # (R, B, L), sequences: 0 behind the last visible transition of the episode


@dataclass(frozen=True)
class Row:
    """One point of one run's curve."""

    study: str
    dataset: str
    algorithm: str
    variant: str
    seed: int
    phase: str  # "offline" or "online"; the row at N is offline
    regime: str  # "stream", "retrain", "warm" or "full"
    samples: int  # n, the visible transitions, online N + e: the x axis
    env_steps: int  # e, steps in the training environment; 0 offline, and for agents that do not learn online
    updates: int
    episode_returns: list[float]  # empty where the status is failed, or where no episodes were run
    episode_lengths: list[int]
    episode_successes: list[bool] | None  # None where the environment reports no success
    return_mean: float | None  # None where the status is failed, or where no episodes were run
    score: float | None  # None also without reference returns: never a guess
    status: str  # "ok", or "failed": losses, actions or returns of this replica were not finite
    # This replica's share of the job's wall time: training since the previous row, and this evaluation, which
    # may have run in parallel with training.
    train_seconds: float
    eval_seconds: float
    metrics: dict[str, float]  # the algorithm's, averaged over the updates since the previous row
    evaluations: dict[str, float] = field(default_factory=dict)  # of the other evaluators
