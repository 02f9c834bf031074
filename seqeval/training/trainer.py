"""Sequential evaluation itself: data arrives, R agents learn, and now and then their scores are taken; then
they go on online.

The method is from Sujit, Braga, Bornschein, Ebrahimi Kahou, *Bridging the Gap Between Offline and Online
Reinforcement Learning Evaluation Methodologies* (arXiv 2212.08131). `settings.Protocol` says what can be
chosen, `slicing` when each transition arrives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqeval import evaluation as evaluating
from seqeval.algorithm import Algorithm, Config, Spec
from seqeval.config import Evaluation, Online, Protocol
from seqeval.evaluation.episodes import Episodes
from seqeval.evaluation.in_process import Evaluations, Here
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import ObservationScale, RewardScale
from seqeval.replay.samplers import Minibatches
from seqeval.seeding import stream
from seqeval.slicing import Interaction, Schedule, arrival_order, window_start
from seqeval.training.agents import Agents
from seqeval.training.lockstep import Due, in_lockstep
from seqeval.training.online import TrainingEnvironments
from seqeval.training.updater import Meter, Share
from seqeval.types import Dataset, Discrete, Environment, Reference, Row

REFRESHES = 20  # times that `stream` computes the observation normaliser anew between T0 and N
GLANCE = 0.2  # seconds between two moments while it waits for an evaluation
OFFLINE_ALONE = Online()


def make_agents(
    algorithm: type[Algorithm],
    config: Config,
    environment: Environment,
    seeds: Sequence[int],
    total_updates: int,
    device: torch.device,
) -> Agents:
    """Fresh agents for an environment."""
    return Agents(algorithm(spec(environment), config, seeds, total_updates, device), environment)


def spec(environment: Environment) -> Spec:
    """What algorithms know of an environment."""
    discrete = isinstance(environment.actions, Discrete)
    return Spec(environment.observation_size, environment.actions.size, discrete)


def replicas(protocol: Protocol, seeds: Sequence[int], size: int) -> list[tuple[int, Schedule]]:
    """What trains side by side for some seeds on `size` transitions: each replica's seed and schedule.

    A seed's replica that ends with all of the data comes last of the seed's.
    """
    schedules = protocol.schedules(size)
    return [(seed, schedule) for seed in seeds for schedule in schedules]


def updates(protocol: Protocol, online: Online, size: int, algorithm: type[Algorithm]) -> int:
    """How many each replica makes: on `size` transitions of data, and online if it learns there."""
    more = online.schedule(size, protocol.window).updates if algorithm.learns_online else 0
    return protocol.schedules(size)[0].updates + more


def run(
    agents: Agents,
    dataset: Dataset,
    protocol: Protocol,
    evaluation: Evaluation,
    labels: dict[str, Any],
    online: Online = OFFLINE_ALONE,
) -> Iterator[Row]:
    """Trains `agents` on a dataset as it arrives and then online, and yields a row for each replica at each
    point: the rows of `events`, which says the rest."""
    for event in events(agents, dataset, protocol, evaluation, labels, online):
        if isinstance(event, Row):
            yield event


class Moment:
    """The time between two updates, at which a run can be saved."""

    def __init__(self, states: Callable[[], list[dict[str, Any]]]) -> None:
        self.states = states
        """Of each replica all that the rest of its run hangs on, as values that torch.save takes. To be
        called before the next event is asked for. Where rows are still to come of an evaluation, it is what
        there was when that began: so these rows are there once, whenever it goes on from here."""


def events(
    agents: Agents,
    dataset: Dataset,
    protocol: Protocol,
    evaluation: Evaluation,
    labels: dict[str, Any],
    online: Online = OFFLINE_ALONE,
    states: Sequence[Mapping[str, Any]] | None = None,
    evaluations: Evaluations | None = None,
) -> Iterator[Row | Moment]:
    """What happens as `agents` learn from a dataset as it arrives and then online: a row for each replica at
    each point, and a moment after each update, and now and then while it waits for an evaluation.

    The evaluations are made by `evaluations`, which the caller closes, or in turn with the updates where
    there are none. They are at most one point behind, and rows come in the order of their points.

    With `states`, which a moment gave of an equal run, each replica's, it goes on from there; on the CPU as
    if it had never stopped, to the last bit.

    The agents must be as many as `replicas` gives for their seeds. They change in place; once the rows are
    exhausted they are as the last rows saw them. `labels` are the rows' `study`, `algorithm` and `variant`.
    Where the dataset has no environment to evaluate in, the rows have no episodes. Raises UserError where the
    protocol does not fit the dataset, before anything is trained, and EnvironmentFailed where a training
    environment raises.
    """
    what = agents, dataset, protocol, evaluation, labels, online, states, evaluations
    return in_lockstep([course_of(*what)])


def course_of(
    agents: Agents,
    dataset: Dataset,
    protocol: Protocol,
    evaluation: Evaluation,
    labels: dict[str, Any],
    online: Online = OFFLINE_ALONE,
    states: Sequence[Mapping[str, Any]] | None = None,
    evaluations: Evaluations | None = None,
) -> Generator[Row | Moment | Due, None, None]:
    """As `events`, for `in_lockstep`: updates are not made but due."""
    algorithm, seeds = agents.algorithm, agents.algorithm.seeds
    order_of = {seed: _arrival_order(protocol, dataset, seed) for seed in dict.fromkeys(seeds)}
    schedules = [schedule for _, schedule in replicas(protocol, list(order_of), len(dataset))]
    orders = [order_of[seed] for seed in seeds]
    room = online.steps if algorithm.learns_online else 0
    rewards = reward_scale(algorithm.config, dataset, protocol)
    buffer = Buffer(dataset, agents.actions, rewards, algorithm.device, room, len(seeds))
    own = None if evaluations else Here(agents, evaluating.evaluator(dataset.env_id, seeds, evaluation))
    with nullcontext(evaluations) if own is None else closing(own) as making:
        assert making is not None, "the caller's or our own"
        course = Course(agents, buffer, making, dataset, labels | {"regime": protocol.regime})
        if states is not None:
            course.load_states(states)
        handed_over = states is not None and states[0]["environment"] is not None
        if not handed_over:
            yield from _offline(course, buffer, schedules, orders, protocol, evaluation, states)
        if online.steps:
            frozen = protocol.normalizer == "full" or not (len(dataset) and algorithm.learns_online)
            if agents.observations is not None and not frozen and not handed_over:
                # As at every refresh after the row at the same n; from here on it stays as it is.
                agents.observations = _normaliser(buffer, orders, [len(dataset)] * len(seeds), protocol)
            schedule = online.schedule(len(dataset), protocol.window)
            yield from _online(course, buffer, schedule, orders, evaluation, states if handed_over else None)
        yield from course.rest()


@dataclass(frozen=True)
class Asked:
    """Rows whose episodes are still to come: all else that there is to say in them."""

    phase: str
    samples: Sequence[int]
    env_steps: int
    updates: int
    metrics: list[dict[str, float]]
    train_seconds: float
    states: list[dict[str, Any]] | None  # that a moment gives till then; None: there are no moments till then


class Course:
    """R agents as they learn, and the rows of it: evaluations, and metrics and time since the rows before."""

    def __init__(
        self,
        agents: Agents,
        buffer: Buffer,
        evaluations: Evaluations,
        dataset: Dataset,
        labels: dict[str, Any],
    ) -> None:
        self.agents, self.dataset = agents, dataset
        self.updates = 0
        self._evaluations, self._labels = evaluations, labels
        self._meter, self._clock = Meter(), Stopwatch()
        self._share = Share(buffer, self._meter, len(agents.algorithm.seeds))
        self._train_seconds = 0.0  # since a row was asked for last, up to the clock's last lap
        self._learning: tuple[Minibatches, TrainingEnvironments | None] | None = None
        self._asked: Asked | None = None

    def learn(
        self,
        minibatches: Minibatches,
        until: int,
        environments: TrainingEnvironments | None = None,
    ) -> Iterator[Row | Moment | Due]:
        """The updates up to `until` of what is drawn; online, between steps in `environments`."""
        self._learning = minibatches, environments
        for draw in minibatches.until(until):
            due = Due(self.agents, self._share, draw, self.updates, alone=environments is not None)
            self._train_seconds += self._clock.lap()
            yield due
            self._clock.lap()  # other courses' too
            self._train_seconds += due.seconds
            self.updates += 1
            if self._asked is not None and self._evaluations.over():
                yield from self._answered(self._asked)
            yield Moment(self._states)

    def stand_still(self) -> None:
        """From here on there is nothing to go on from but what was saved before."""
        self._learning = None

    def _states(self) -> list[dict[str, Any]]:
        """See `Moment.states`."""
        if self._asked is not None and self._asked.states is not None:
            return self._asked.states
        assert self._learning is not None, "moments come after updates"
        minibatches, environments = self._learning
        return [
            {
                "updates": self.updates,
                "agent": self.agents.state_of(replica),
                "metrics": self._meter.state_of(replica),
                "minibatches": minibatches.state_of(replica),
                "environment": None if environments is None else environments.state_of(replica),
            }
            for replica in range(len(self.agents.algorithm.seeds))
        ]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes its part of what a moment gave."""
        self.updates = states[0]["updates"]
        self.agents.load_states([state["agent"] for state in states])
        device = self.agents.algorithm.device
        self._meter.load_states([state["metrics"] for state in states], device)

    def rows(self, phase: str, samples: Sequence[int], env_steps: int) -> Iterator[Row | Moment]:
        """Asks for a row of each replica, which has seen so many samples. Gives the rows that were asked for
        before, and these if they are there at once."""
        replicas = range(len(self.agents.algorithm.seeds))
        metrics = self._meter.means(len(replicas))
        self._train_seconds += self._clock.lap()
        yield from self.rest()
        states: list[dict[str, Any]] | None = None

        def of_agents() -> list[dict[str, Any]]:
            nonlocal states
            if self._learning is None:
                return [self.agents.state_of(replica) for replica in replicas]
            states = self._states()
            return [state["agent"] for state in states]

        self._evaluations.begin(samples, of_agents)
        self._meter.clear()
        self._asked = Asked(phase, samples, env_steps, self.updates, metrics, self._train_seconds, states)
        self._train_seconds = 0.0
        if self._evaluations.over():
            self._clock.lap()  # the evaluation's
            yield from self._answered(self._asked)
        elif states is None:  # nothing to go on from would bring this row again
            yield from self.rest()

    def rest(self) -> Iterator[Row | Moment]:
        """Waits for the rows that are still to come."""
        if self._asked is None:
            return
        while not self._evaluations.over(GLANCE):
            if self._asked.states is not None:
                yield Moment(self._states)
        self._clock.lap()  # waiting is no training, and evaluations tell their time themselves
        yield from self._answered(self._asked)

    def _answered(self, asked: Asked) -> Iterator[Row]:
        """The rows that were asked for."""
        self._train_seconds += self._clock.lap()
        episodes, eval_seconds = self._evaluations.take()
        self._asked = None
        seeds = self.agents.algorithm.seeds
        for replica, seed in enumerate(seeds):
            yield Row(
                **self._labels,
                dataset=self.dataset.name,
                seed=seed,
                phase=asked.phase,
                samples=asked.samples[replica],
                env_steps=asked.env_steps,
                updates=asked.updates,
                train_seconds=asked.train_seconds / len(seeds),
                eval_seconds=eval_seconds / len(seeds),
                **_outcome(episodes[replica], asked.metrics[replica], self.dataset.reference),
            )
        self._clock.lap()  # what the caller did with the rows is nobody's time


def _offline(
    course: Course,
    buffer: Buffer,
    schedules: Sequence[Schedule],
    orders: Sequence[np.ndarray],
    protocol: Protocol,
    evaluation: Evaluation,
    states: Sequence[Mapping[str, Any]] | None,
) -> Iterator[Row | Moment | Due]:
    """The data arrives and is learnt from."""
    agents, algorithm = course.agents, course.agents.algorithm
    batch_size, noise = algorithm.config.batch_size, algorithm.noise
    minibatches = Minibatches(algorithm.device, schedules, orders, algorithm.seeds, batch_size, noise)
    if states is not None:
        minibatches.load_states([state["minibatches"] for state in states])
    rows_due = _together(schedule.points(evaluation.points, evaluation.every) for schedule in schedules)
    refreshes = _together(schedule.refreshes(REFRESHES) for schedule in schedules)
    if agents.observations is None or not buffer.size:
        refreshes = {}
    elif protocol.normalizer == "full":
        refreshes = {}
        agents.observations = buffer.observation_scale(orders)
    # Moments come after updates and before what is due there, so that what is due at this number still is.
    for updates in sorted(u for u in rows_due.keys() | refreshes.keys() if u >= course.updates):
        yield from course.learn(minibatches, updates)
        # A row is taken before a refresh at the same n.
        if updates in rows_due:
            yield from course.rows("offline", rows_due[updates], env_steps=0)
        if updates in refreshes:
            agents.observations = _normaliser(buffer, orders, refreshes[updates], protocol)


def _online(
    course: Course,
    buffer: Buffer,
    schedule: Interaction,
    orders: Sequence[np.ndarray],
    evaluation: Evaluation,
    states: Sequence[Mapping[str, Any]] | None,
) -> Iterator[Row | Moment | Due]:
    """The agents go on in environments, and learn from what they see there and from the data."""
    agents, algorithm = course.agents, course.agents.algorithm
    seeds, config = algorithm.seeds, algorithm.config
    due = schedule.points(evaluation.points, evaluation.every)
    if not schedule.size and states is None:  # where there is data, the offline phase has this row
        yield from course.rows("online", [0] * len(seeds), env_steps=0)
    if not algorithm.learns_online:
        course.stand_still()
        for _, samples in due:
            yield from course.rows("online", [samples] * len(seeds), env_steps=0)
        return
    rows = [np.concatenate([order, buffer.own_rows(replica)]) for replica, order in enumerate(orders)]
    schedules = [schedule] * len(seeds)
    minibatches = Minibatches(
        algorithm.device, schedules, rows, seeds, config.batch_size, algorithm.noise, phase=("online",)
    )
    env_id = course.dataset.env_id
    assert env_id is not None, "without an environment there is no online phase"
    with closing(TrainingEnvironments(env_id, agents, buffer)) as environments:
        if states is not None:
            minibatches.load_states([state["minibatches"] for state in states])
            environments.load_states([state["environment"] for state in states])
        for _, samples in due:
            if samples < schedule.size + environments.steps:
                continue  # the row was there before the run stopped
            while True:
                updates = environments.steps * schedule.updates_per_step
                yield from course.learn(minibatches, updates, environments)
                if schedule.size + environments.steps == samples:
                    break
                environments.step()
            yield from course.rows("online", [samples] * len(seeds), environments.steps)


def _normaliser(
    buffer: Buffer, orders: Sequence[np.ndarray], visible: Sequence[int], protocol: Protocol
) -> ObservationScale:
    """Each replica's, of what it may draw when so much is visible."""
    return buffer.observation_scale(
        [order[window_start(n, protocol.window) : n] for order, n in zip(orders, visible, strict=True)]
    )


def _together(points: Iterable[list[tuple[int, int]]]) -> dict[int, list[int]]:
    """From each replica's points: at which updates they are, and how much each replica sees there."""
    found: dict[int, list[int]] = {}
    for mine in points:
        for updates, visible in mine:
            found.setdefault(updates, []).append(visible)
    return found


def reward_scale(config: Config, dataset: Dataset, protocol: Protocol) -> RewardScale:
    """What an algorithm's rewards are multiplied by, if its config asks for that."""
    if not config.scale_rewards:
        return RewardScale()
    if protocol.reward_scale == "full" and len(dataset):
        return RewardScale.known_from_all_data(dataset)
    return RewardScale.known_before_data(dataset)


def _arrival_order(protocol: Protocol, dataset: Dataset, seed: int) -> np.ndarray:
    rng = stream(seed, "order")
    return arrival_order(protocol.order, rng, dataset.episode, dataset.episode_returns, dataset.segments)


def _outcome(episodes: Episodes, metrics: dict[str, float], reference: Reference | None) -> dict[str, Any]:
    """A row's results. A replica whose losses, actions or returns are not finite has failed."""
    mean = float(np.mean(episodes.returns)) if episodes.returns else None
    finite = episodes.finite and (mean is None or math.isfinite(mean))
    if not (finite and all(map(math.isfinite, metrics.values()))):
        return {
            "status": "failed",
            "episode_returns": [],
            "episode_lengths": [],
            "episode_successes": None,
            "return_mean": None,
            "score": None,
            "metrics": metrics,
        }
    return {
        "status": "ok",
        "episode_returns": episodes.returns,
        "episode_lengths": episodes.lengths,
        "episode_successes": episodes.successes,
        "return_mean": mean,
        "score": None if reference is None or mean is None else reference.score(mean),
        "metrics": metrics,
    }


class Stopwatch:
    def __init__(self) -> None:
        self._began = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._began = self._began, time.perf_counter()
        return self._began - before
