"""Sequential evaluation itself: data arrives, R agents learn, and now and then their scores are taken; then
they go on online.

The method is from Sujit, Braga, Bornschein, Ebrahimi Kahou, *Bridging the Gap Between Offline and Online
Reinforcement Learning Evaluation Methodologies* (arXiv 2212.08131). `settings.Protocol` says what can be
chosen, `slicing` when each transition arrives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqeval import environments
from seqeval.agents import Agents
from seqeval.algorithm import Algorithm, Config, Spec
from seqeval.buffer import Buffer
from seqeval.evaluation import Episodes, Evaluator
from seqeval.online import TrainingEnvironments
from seqeval.sampling import Minibatches
from seqeval.scaling import ObservationScale, RewardScale
from seqeval.settings import Evaluation, Online, Protocol
from seqeval.slicing import Interaction, Schedule, arrival_order, window_start
from seqeval.streams import stream
from seqeval.types import Batch, Dataset, Reference, Row

REFRESHES = 20  # times that `stream` computes the observation normaliser anew between T0 and N
OFFLINE_ALONE = Online()


def make_agents(
    algorithm: type[Algorithm],
    config: Config,
    env_id: str,
    seeds: Sequence[int],
    total_updates: int,
    device: torch.device,
) -> Agents:
    """Fresh agents for an environment."""
    environment = environments.describe(env_id)
    discrete = isinstance(environment.actions, environments.Discrete)
    spec = Spec(environment.observation_size, environment.actions.size, discrete)
    return Agents(algorithm(spec, config, seeds, total_updates, device), environment)


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
    point.

    The agents must be as many as `replicas` gives for their seeds. They change in place; once the rows are
    exhausted they are as the last rows saw them. `labels` are the rows' `study`, `algorithm` and `variant`.
    Raises UserError where the protocol does not fit the dataset, before anything is trained, and
    EnvironmentFailed where a training environment raises.
    """
    algorithm, seeds = agents.algorithm, agents.algorithm.seeds
    order_of = {seed: _arrival_order(protocol, dataset, seed) for seed in dict.fromkeys(seeds)}
    schedules = [schedule for _, schedule in replicas(protocol, list(order_of), len(dataset))]
    orders = [order_of[seed] for seed in seeds]
    room = online.steps if algorithm.learns_online else 0
    rewards = reward_scale(algorithm.config, dataset, protocol)
    buffer = Buffer(dataset, agents.actions, rewards, algorithm.device, room, len(seeds))
    with closing(Evaluator(dataset.env_id, seeds, evaluation.episodes)) as evaluator:
        course = Course(agents, evaluator, dataset, labels | {"regime": protocol.regime})
        yield from _offline(course, buffer, schedules, orders, protocol, evaluation)
        if online.steps:
            frozen = protocol.normalizer == "full" or not (len(dataset) and algorithm.learns_online)
            if agents.observations is not None and not frozen:
                # As at every refresh after the row at the same n; from here on it stays as it is.
                agents.observations = _normaliser(buffer, orders, [len(dataset)] * len(seeds), protocol)
            schedule = online.schedule(len(dataset), protocol.window)
            yield from _online(course, buffer, schedule, orders, evaluation)


class Course:
    """R agents as they learn, and the rows of it: evaluations, and metrics and time since the rows before."""

    def __init__(
        self, agents: Agents, evaluator: Evaluator, dataset: Dataset, labels: dict[str, Any]
    ) -> None:
        self.agents, self.dataset = agents, dataset
        self.updates = 0
        self._evaluator, self._labels = evaluator, labels
        self._meter, self._clock = Meter(), Stopwatch()

    def learn(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._meter.add(self.agents.algorithm.update(batch))
            self.updates += 1

    def rows(self, phase: str, samples: Sequence[int], env_steps: int) -> Iterator[Row]:
        """A row for each replica, which has seen so many samples."""
        seeds = self.agents.algorithm.seeds
        metrics = self._meter.take(len(seeds))
        train_seconds = self._clock.lap() / len(seeds)
        episodes = self._evaluator(self.agents.act, samples)
        eval_seconds = self._clock.lap() / len(seeds)
        for replica, seed in enumerate(seeds):
            yield Row(
                **self._labels,
                dataset=self.dataset.name,
                seed=seed,
                phase=phase,
                samples=samples[replica],
                env_steps=env_steps,
                updates=self.updates,
                train_seconds=train_seconds,
                eval_seconds=eval_seconds,
                **_outcome(episodes[replica], metrics[replica], self.dataset.reference),
            )
        self._clock.lap()  # what the caller did with the rows is nobody's time


def _offline(
    course: Course,
    buffer: Buffer,
    schedules: Sequence[Schedule],
    orders: Sequence[np.ndarray],
    protocol: Protocol,
    evaluation: Evaluation,
) -> Iterator[Row]:
    """The data arrives and is learnt from."""
    agents, algorithm = course.agents, course.agents.algorithm
    batch_size, noise = algorithm.config.batch_size, algorithm.noise
    minibatches = Minibatches(buffer, schedules, orders, algorithm.seeds, batch_size, noise)
    rows_due = _together(schedule.points(evaluation.points, evaluation.every) for schedule in schedules)
    refreshes = _together(schedule.refreshes(REFRESHES) for schedule in schedules)
    if agents.observations is None or not buffer.size:
        refreshes = {}
    elif protocol.normalizer == "full":
        refreshes = {}
        agents.observations = buffer.observation_scale(orders)
    for updates in sorted(rows_due.keys() | refreshes.keys()):
        course.learn(minibatches.until(updates, agents.observations))
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
) -> Iterator[Row]:
    """The agents go on in environments, and learn from what they see there and from the data."""
    agents, algorithm = course.agents, course.agents.algorithm
    seeds, config = algorithm.seeds, algorithm.config
    due = schedule.points(evaluation.points, evaluation.every)
    if not schedule.size:  # where there is data, the offline phase has this row
        yield from course.rows("online", [0] * len(seeds), env_steps=0)
    if not algorithm.learns_online:
        for _, samples in due:
            yield from course.rows("online", [samples] * len(seeds), env_steps=0)
        return
    rows = [np.concatenate([order, buffer.own_rows(replica)]) for replica, order in enumerate(orders)]
    schedules = [schedule] * len(seeds)
    minibatches = Minibatches(
        buffer, schedules, rows, seeds, config.batch_size, algorithm.noise, phase=("online",)
    )
    with closing(TrainingEnvironments(course.dataset.env_id, agents, buffer)) as environments:
        for _, samples in due:
            while schedule.size + environments.steps < samples:
                environments.step()
                updates = environments.steps * schedule.updates_per_step
                course.learn(minibatches.until(updates, agents.observations))
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
    mean = float(np.mean(episodes.returns))
    if not (episodes.finite and math.isfinite(mean) and all(map(math.isfinite, metrics.values()))):
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
        "score": None if reference is None else reference.score(mean),
        "metrics": metrics,
    }


class Meter:
    """Means of metrics for each replica. They stay on the device until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, values in metrics.items():
            if name in self._sums:
                self._sums[name].add_(values)
            else:
                self._sums[name] = values.double()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, replicas: int) -> list[dict[str, float]]:
        """Each replica's means since the last call."""
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return [{name: values[replica] for name, values in means.items()} for replica in range(replicas)]


class Stopwatch:
    def __init__(self) -> None:
        self._began = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._began = self._began, time.perf_counter()
        return self._began - before
