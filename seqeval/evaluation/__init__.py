"""Evaluators measure R agents at the points of their curves; episodes are one evaluator.

An evaluator is a file in `evaluators`, an entry point of the group `seqeval.evaluators`, or a path,
`path/to/mine.py:Name`; `Evaluation.metrics` lists those of a study, each optionally with settings:
`fqe:updates=500`. `backends` run the environments of episodes, `runners` decide in which process evaluators
run that need no data. The others run in the training process.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_type_hints

import numpy as np

from seqeval import loading
from seqeval.config import Evaluation, Study
from seqeval.errors import PluginError, UserError, nearest
from seqeval.types import Dataset

if TYPE_CHECKING:
    from torch import Tensor

    from seqeval.algorithm import Algorithm
    from seqeval.replay.buffer import Buffer

Results = Mapping[str, Sequence[Any]]
Rows = Callable[[int], np.ndarray]  # replica -> some rows of the buffer, in order of arrival
EPISODES = ("episode_returns", "episode_lengths", "episode_successes")  # fields of a row with lists
AT_TARGET = "return_mean at target"  # of `episodes`, followed by a target return of the algorithm


@dataclass(frozen=True)
class Metric:
    """The unit of a metric, and whether higher or lower values are better; None if neither is."""

    unit: str
    better: Literal["higher", "lower"] | None


class Policies(Protocol):
    """R agents as evaluators see them; `training.agents.AgentGroup` in a study."""

    seeds: tuple[int, ...]
    discounts: tuple[float, ...]  # (R,): of the algorithm
    algorithm: Algorithm  # its settings; call it through the methods below only

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic policies in the units of the environment: (R, E, observation) -> (R, E, action),
        or (R, E) where discrete. A policy that remembers acts as at the start of an episode."""

    @property
    def target_returns(self) -> tuple[float, ...]:
        """The returns that the policies can be asked for; the first gives the score. Usually empty."""

    def start_episodes(self, count: int, target: int = 0) -> Any:
        """What the policies remember at the start of `count` episodes of each replica; `target` is a place
        in `target_returns`."""

    def act_in_episodes(self, observations: np.ndarray, rewards: np.ndarray, memory: Any) -> np.ndarray:
        """As `act`, for the next step of episodes: updates their memory. `rewards` (R, E) are those of the
        step before, 0 at the first."""

    def policy_actions(self, observations: Tensor) -> Tensor:
        """The deterministic policies with actions as the buffer stores them, in [-1, 1] or counted from 0."""

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """`Algorithm.log_prob` of observations and actions as the buffer stores them: (R, B)."""

    def q_value(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """`Algorithm.q_value` likewise: (R, B), in the units of the algorithm's scaled rewards."""

    def td_error(self, rows: Tensor, visible: Tensor, noise: Mapping[str, Tensor]) -> Tensor | None:
        """`Algorithm.td_error` of a minibatch of these rows of the buffer, (R, B), when the first `visible`
        (R,) transitions are known: (R, C, B), in the units of the algorithm's scaled rewards. Not for
        evaluators with `uses_data` False."""


@dataclass(frozen=True)
class VisibleData:
    """What R agents have been allowed to see at a point, and what evaluators may compare it with."""

    samples: tuple[int, ...]  # (R,): n, the visible transitions of each
    # None for evaluators with `uses_data` False, which may run in a process without the data.
    buffer: Buffer | None = None
    rows: Rows | None = None  # the n visible rows
    arriving: Rows | None = None  # the rows that arrive up to the next point, and no agent has seen
    held_out: Rows | None = None  # the rows of the held-out episodes, which never arrive
    dataset: Dataset | None = None  # to be read at these rows only
    offset: int = 0  # the buffer's row of the dataset's first transition
    reward_factors: tuple[float, ...] = ()  # (R,): what the algorithm's rewards are multiplied by


class Evaluator(ABC):
    """Measures R agents; created once for the replicas of a job that learn from one dataset."""

    # Whether `evaluate` reads more of `visible` than `samples`. If so, it runs in the training process, since
    # a second process has no data.
    uses_data: ClassVar[bool] = True
    Config: ClassVar[type] = type("Config", (), {})  # its settings: a frozen dataclass with defaults
    # Unit and direction of each metric that `evaluate` returns; a study fails if it returns another one.
    metrics: ClassVar[Mapping[str, Metric]] = {}

    def __init__(
        self, env_id: str | None, seeds: Sequence[int], settings: Evaluation, config: Any = None
    ) -> None:
        """`env_id` is None if no environment fits the dataset; `seeds` has an entry for each replica;
        `config` is a `Config`."""
        self.env_id, self.seeds, self.settings = env_id, tuple(seeds), settings
        self.config = self.Config() if config is None else config

    @classmethod
    def check(cls, dataset: Dataset, study: Study) -> None:
        """Raises UserError, before anything is trained, if the evaluator cannot be used."""

    @classmethod
    def notes(cls, dataset: Dataset, config: Any) -> list[str]:
        """Notes for the user, before anything is trained, on measuring agents that learn from a dataset;
        `config` is a `Config`."""
        return []

    @abstractmethod
    def evaluate(self, agents: Policies, visible: VisibleData) -> Results:
        """Named metrics, a number for each replica; each becomes a column `eval/NAME` of the rows.

        A replica whose value is None lacks the metric, and so do all if it is left out. Must depend only on
        the agents, on `visible`, and on streams of each replica's own seed, and must change nothing but the
        evaluator's own state. (Only the built-in `episodes` returns the row's fields `episode_returns`,
        `episode_lengths` and `episode_successes`, a list for each replica.)
        """

    def state_of(self, replica: int) -> dict[str, Any]:
        """What later results of a replica depend on, for `load_states`: values that torch.save accepts. Only
        for evaluators with `uses_data`."""
        return {}

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads what `state_of` returned for each replica, in their order."""

    def close(self) -> None:
        """Releases what the evaluator holds."""


def find(name: str) -> type[Evaluator]:
    """The class of an evaluator, which may be followed by settings. Raises UserError if there is none of that
    name or it cannot be used."""
    return loading.load(KIND, _split(name)[0])


def validate(text: str) -> None:
    """Raises UserError if there is no evaluator of that name, or if its settings are invalid."""
    loading.refuse_shadowed(KIND, _split(text)[0])
    _config(text)


def create(
    env_id: str | None, seeds: Sequence[int], settings: Evaluation, uses_data: bool
) -> list[Evaluator]:
    """The evaluators of a study that use the data, or those that do not, for replicas of these seeds."""
    chosen = [text for text in settings.metrics if find(text).uses_data == uses_data]
    return [find(text)(env_id, seeds, settings, _config(text)) for text in chosen]


def check(dataset: Dataset, study: Study) -> list[str]:
    """What the evaluators of a study note on a dataset. Raises UserError if one cannot be used."""
    notes = []
    chosen: dict[type[Evaluator], str] = {}
    for text in study.evaluation.metrics:
        validate(text)
        found = find(text)
        if found in chosen:
            raise UserError(f"evaluation.metrics: {chosen[found]} and {text} are the same evaluator")
        chosen[found] = text
        found.check(dataset, study)
        notes += [f"{text}: {note}" for note in found.notes(dataset, _config(text))]
    return notes


def declared(settings: Evaluation) -> dict[str, dict[str, Any]]:
    """Unit and direction of the metrics of a study, by column, as plain values."""
    found = (find(text).metrics.items() for text in settings.metrics)
    return {f"eval/{name}": asdict(metric) for metrics in found for name, metric in metrics}


def evaluate(evaluators: Sequence[Evaluator], agents: Policies, visible: VisibleData) -> dict[str, Any]:
    """The results of all evaluators, by name of the metric. Raises UserError if they do not fit into rows,
    and PluginError if a metric is not declared."""
    results: dict[str, Any] = {}
    for evaluator in evaluators:
        found = evaluator.evaluate(agents, visible)
        for metric, values in found.items():
            if metric not in (*evaluator.metrics, *EPISODES) and not str(metric).startswith(AT_TARGET):
                raise _undeclared(evaluator, str(metric))
            if len(values) != len(evaluator.seeds):
                raise UserError(
                    f"{type(evaluator).__name__}: the metric {metric!r} has {len(values)} values for "
                    f"{len(evaluator.seeds)} replicas"
                )
        results = joined(results, found)
    return results


def _undeclared(evaluator: Evaluator, metric: str) -> PluginError:
    """The fault of an evaluator that returns a metric without its unit and direction."""
    name, declared = type(evaluator).__name__, ", ".join(evaluator.metrics) or "none"
    hint = nearest(metric, evaluator.metrics) or f"; declared: {declared}"
    text = f"{name} returns eval/{metric}, but {metric!r} is not declared in {name}.metrics{hint}"
    return PluginError(text, text)


def joined(results: Results, more: Results) -> dict[str, Any]:
    """The results of several evaluators. Raises UserError if two have the same name."""
    if twice := results.keys() & more.keys():
        raise UserError(f"evaluation.metrics: two evaluators return {min(twice)!r}; rename one of them")
    return {**results, **more}


def _split(text: str) -> tuple[str, str]:
    """The name of an evaluator (a path made absolute) and the text of its settings."""
    if path := loading.split_path(text):
        name, _, settings = path[1].partition(":")
        return f"{path[0]}:{name}", settings
    name, _, settings = text.partition(":")
    return name, settings


def _config(text: str) -> Any:
    """The settings that a text gives. Raises UserError if one is unknown or invalid."""
    from seqeval import plugins  # imports torch, which an evaluating process needs seconds for

    found, (name, settings) = find(text), _split(text)
    types, values = get_type_hints(found.Config), {}
    for item in re.split(r",(?![^(]*\))", settings) if settings else []:
        key, equals, value = item.partition("=")
        if not equals or key not in types:
            raise UserError(
                f"evaluation.metrics: {name} has no setting {key!r}{nearest(key, types)}; write "
                f"{name}:key=value with one of: {', '.join(types) or 'none'}"
            )
        try:
            values[key] = plugins.parse_value(key, value, types[key])
        except UserError as error:
            raise UserError(f"evaluation.metrics: {name}: {error}") from None
    try:
        return found.Config(**values)
    except UserError as error:
        raise UserError(f"evaluation.metrics: {name}: {error}") from None


KIND = loading.class_kind(
    "evaluator",
    "seqeval.evaluation.evaluators",
    "seqeval.evaluators",
    Evaluator,
    "an Evaluator of seqeval.evaluation",
    hyphens=True,
)
