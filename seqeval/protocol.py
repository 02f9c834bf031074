"""Sequential evaluation itself: data arrives, R agents learn, and now and then their scores are taken.

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
from seqeval.sampling import Minibatches
from seqeval.scaling import RewardScale
from seqeval.settings import Evaluation, Protocol
from seqeval.slicing import Schedule, arrival_order, window_start
from seqeval.streams import stream
from seqeval.types import Dataset, Reference, Row

REFRESHES = 20  # times that `stream` computes the observation normaliser anew between T0 and N


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
    spec = Spec(environment.observation_size, len(environment.action_low))
    return Agents(algorithm(spec, config, seeds, total_updates, device), environment)


def replicas(protocol: Protocol, seeds: Sequence[int], size: int) -> list[tuple[int, Schedule]]:
    """What trains side by side for some seeds on `size` transitions: each replica's seed and schedule.

    A seed's replica that ends with all of the data comes last of the seed's.
    """
    schedules = protocol.schedules(size)
    return [(seed, schedule) for seed in seeds for schedule in schedules]


def run(
    agents: Agents, dataset: Dataset, protocol: Protocol, evaluation: Evaluation, labels: dict[str, Any]
) -> Iterator[Row]:
    """Trains `agents` on a dataset as it arrives, and yields a row for each replica at each point.

    The agents must be as many as `replicas` gives for their seeds. They change in place; once the rows are
    exhausted they are as the last rows saw them. `labels` are the rows' `study`, `algorithm` and `variant`.
    Raises UserError where the protocol does not fit the dataset, before anything is trained.
    """
    algorithm, seeds = agents.algorithm, agents.algorithm.seeds
    config = algorithm.config
    order_of = {seed: _arrival_order(protocol, dataset, seed) for seed in dict.fromkeys(seeds)}
    schedules = [schedule for _, schedule in replicas(protocol, list(order_of), len(dataset))]
    orders = [order_of[seed] for seed in seeds]
    buffer = Buffer(dataset, agents.actions, reward_scale(config, dataset, protocol), algorithm.device)
    minibatches = Minibatches(buffer, schedules, orders, seeds, config.batch_size, algorithm.noise)
    meter, clock = Meter(), Stopwatch()

    rows_due = _together(schedule.points(evaluation.points, evaluation.every) for schedule in schedules)
    refreshes = _together(schedule.refreshes(REFRESHES) for schedule in schedules)
    if not config.normalize_observations:
        refreshes = {}
    elif protocol.normalizer == "full":
        refreshes = {}
        agents.observations = buffer.observation_scale(orders)
    with closing(Evaluator(dataset.env_id, seeds, evaluation.episodes)) as evaluate:
        for updates in sorted(rows_due.keys() | refreshes.keys()):
            for batch in minibatches.until(updates, agents.observations):
                meter.add(algorithm.update(batch))
            # A row is taken before a refresh at the same n.
            if updates in rows_due:
                metrics = meter.take(len(seeds))
                train_seconds = clock.lap() / len(seeds)
                episodes = evaluate(agents.act, rows_due[updates])
                eval_seconds = clock.lap() / len(seeds)
                for replica, (seed, samples) in enumerate(zip(seeds, rows_due[updates], strict=True)):
                    yield Row(
                        **labels,
                        dataset=dataset.name,
                        seed=seed,
                        phase="offline",
                        regime=protocol.regime,
                        samples=samples,
                        env_steps=0,
                        updates=updates,
                        train_seconds=train_seconds,
                        eval_seconds=eval_seconds,
                        **_outcome(episodes[replica], metrics[replica], dataset.reference),
                    )
                clock.lap()  # what the caller did with the rows is nobody's time
            if updates in refreshes:
                agents.observations = buffer.observation_scale(
                    [
                        order[window_start(n, protocol.window) : n]
                        for order, n in zip(orders, refreshes[updates], strict=True)
                    ]
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
    if protocol.reward_scale == "full":
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
