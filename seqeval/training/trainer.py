"""The training loop: trains R agents on a growing dataset and evaluates them at the points of their curves,
optionally followed by an online phase.

The method is from Sujit, Braga, Bornschein, Ebrahimi Kahou, *Bridging the Gap Between Offline and Online
Reinforcement Learning Evaluation Methodologies* (arXiv 2212.08131). `config.Protocol` holds the settings,
`slicing` decides when each transition becomes visible, `job` what a replica is and when its rows are due;
`updater` makes an update, which an algorithm computes in `Algorithm.update`.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from seqeval.algorithm import Config, Sampling
from seqeval.config import Protocol
from seqeval.evaluation import VisibleData
from seqeval.evaluation.runners import EvaluationRunner
from seqeval.replay.buffer import Buffer
from seqeval.replay.episodes import BestEpisodes
from seqeval.replay.indices import IndexSampler
from seqeval.replay.normalization import RewardScale, action_mapping
from seqeval.replay.samplers import make_sampler
from seqeval.slicing import window_start
from seqeval.training.agents import AgentGroup, Agents
from seqeval.training.arrival import Arrival, arrival
from seqeval.training.data_evaluation import DataEvaluation
from seqeval.training.job import Job, Point, Replica
from seqeval.training.metrics import MetricMeans
from seqeval.training.online import TrainingEnvironments
from seqeval.training.rows import PendingRows
from seqeval.training.updater import make_updater
from seqeval.types import Dataset, Row

POLL = 0.2  # seconds between two looks at a running evaluation


State = Mapping[str, typing.Any]  # of one replica: values that torch.save accepts


class Checkpoints(typing.Protocol):
    """Keeps the states of a job's runs; `execution.checkpoints` keeps them in files."""

    @property
    def stopping(self) -> bool:
        """Whether the job has been asked to save itself and end."""

    def due(self) -> bool:
        """Whether it is time to save; always true while stopping."""

    keeps_policies: bool  # whether to call `keep_policies`

    def keep_policies(self, samples: Mapping[Replica, int], policies: Mapping[Replica, State]) -> None:
        """Stores policies that are about to be evaluated, each after so many visible transitions."""

    def save(self, updates: int, states: Mapping[Replica, State]) -> None:
        """Saves the states of all replicas of some runs after so many updates; their rows up to now are
        stored."""

    def finish(self, updates: int, agents: Mapping[Replica, State]) -> None:
        """Stores the final agents of some runs, and marks the runs as finished."""


class Trainer:
    """Trains the replicas of a job and yields their rows."""

    def __init__(
        self,
        job: Job,
        datasets: Mapping[str, Dataset],
        runner: EvaluationRunner,
        checkpoints: Checkpoints,
        study_name: str,
        states: Mapping[Replica, State] | None = None,
    ) -> None:
        """`datasets` holds the job's datasets by name; `states` is the checkpointed state of each replica to
        resume from, None to start fresh."""
        self.job, self.datasets, self.runner, self.checkpoints = job, datasets, runner, checkpoints
        self.study, self.study_name = job.study, study_name
        self.config: Config = job.config
        self.device = torch.device(job.device)
        self.updates = self._saved_updates = job.done
        self.train_seconds = 0.0  # of each replica, up to now
        self.environments: TrainingEnvironments | None = None
        self.total_updates = {replica: job.total_updates(replica) for replica in job.replicas}
        self.points = {replica: job.points(replica) for replica in job.replicas}
        self.refreshes = {replica: job.refreshes(replica) for replica in job.replicas}
        self.updates_per_step = job.online_schedule(job.replicas[0]).updates_per_step  # online
        self._pending: PendingRows | None = None
        self._row_seconds = dict.fromkeys(job.datasets, 0.0)  # `train_seconds` at the last row
        self._data_evaluation = DataEvaluation(job, datasets)
        agents = job.create_agents(self.device)
        self.buffer, self._arrivals = self._fill_buffer(agents.algorithm.sampling)
        self._start(job.replicas, agents, states)

    def train(self) -> Iterator[Row]:
        """The training loop: yields the rows of each run in order, and ends when every replica has ended or
        when the job is asked to stop.

        `updates` counts the gradient updates of every replica. Each iteration makes one update and then
        everything that is due after it (evaluation, checkpoint, change of phase), so a checkpoint never
        splits an iteration.
        """
        if not self.updates:
            yield from self._evaluate()  # without offline data the first row is the untrained agent
        yield from self._end_phases()
        while self.replicas and not self.checkpoints.stopping:
            start = time.perf_counter()
            if self.environments is not None and self._step_due():
                self.environments.step()
            self._refresh_normalizer()
            self.updater.update(self.indices.draw())
            self.updates += 1
            self.train_seconds += (time.perf_counter() - start) / len(self.replicas)

            yield from self._evaluate()
            yield from self._finished_rows(wait=self._must_wait())
            if self._pending is None and self.checkpoints.due():
                self._save()
            yield from self._end_phases()
        if self.replicas and self._saved_updates < self.updates:  # asked to stop since the last checkpoint
            yield from self._finished_rows(wait=True)
            self._save()

    def close(self) -> None:
        """Closes the training environments and the evaluators."""
        self._data_evaluation.close()
        if self.environments is not None:
            self.environments.close()
            self.environments = None

    def _start(
        self, replicas: Sequence[Replica], agents: Agents, states: Mapping[Replica, State] | None
    ) -> None:
        """Makes these the current replicas, with fresh agents or from their states."""
        self.replicas, self.agents = tuple(replicas), agents
        self._point_updates = {updates for replica in replicas for updates in self.points[replica]}
        loaded = None if states is None else [states[replica] for replica in replicas]
        self.metrics = MetricMeans(len(replicas))
        if loaded is not None:
            self.agents.load_states([state["agent"] for state in loaded])
            self.metrics.load_states([state["metrics"] for state in loaded], self.device)
            evaluators = [state["evaluators"] for state in loaded]
            self._data_evaluation.load_states(dict(zip(replicas, evaluators, strict=True)))
        elif self.agents.normalizer is not None and self.study.protocol.normalizer == "full":
            for place, order in enumerate(self._orders(self.replicas)):
                if len(order):
                    self.agents.normalizer.set(place, *self.buffer.observation_statistics(order))
        self._start_phase(loaded)

    def _fill_buffer(self, sampling: Sampling) -> tuple[Buffer, dict[tuple[str, int], Arrival]]:
        """Moves the data of the job to its device. Returns also how it arrives for each dataset and seed."""
        names, protocol = self.job.datasets, self.study.protocol
        spaces = [self.job.environments[name].actions for name in names]
        buffer = Buffer(
            [self.datasets[name] for name in names],
            [action_mapping(space, self.device) for space in spaces],
            self.device,
            self.study.online.steps if self.job.continues_online else 0,
            len(self.job.replicas),
            episodes=sampling.kind != "transitions" or sampling.next_actions or sampling.times,
        )
        first_rows = dict(zip(names, buffer.offsets, strict=True))
        seeds = {(replica.dataset, replica.seed) for replica in self.job.replicas}
        arrivals = {
            (name, seed): arrival(protocol, self.datasets[name], seed, self.job.sizes[name], first_rows[name])
            for name, seed in seeds
        }
        return buffer, arrivals

    def _orders(self, replicas: Sequence[Replica]) -> list[np.ndarray]:
        """The buffer's rows of each replica's data in the order of arrival."""
        return [self._arrivals[replica.dataset, replica.seed].order for replica in replicas]

    def _start_phase(self, states: Sequence[State] | None) -> None:
        """Starts or resumes the offline or the online phase of the present replicas."""
        algorithm, online = self.agents.algorithm, self._is_online()
        schedules = [replica.schedule for replica in self.replicas]
        orders = self._orders(self.replicas)
        if online:
            self._refresh_normalizer()
            schedules = [self.job.online_schedule(replica) for replica in self.replicas]
            orders = [
                np.concatenate([order, self.buffer.online_rows(place)]) for place, order in enumerate(orders)
            ]
            env_ids = [str(self.datasets[replica.dataset].env_id) for replica in self.replicas]
            self.environments = TrainingEnvironments(env_ids, self.agents, self.buffer)
            algorithm.start_online()
        self.indices = IndexSampler(
            self.device,
            schedules,
            orders,
            algorithm.seeds,
            self.config.batch_size,
            algorithm.noise,
            ("online",) if online else (),
            () if online else self._best_episodes(algorithm.sampling.best_episodes),
        )
        if states is not None and online == (states[0]["environment"] is not None):
            self.indices.load_states([state["indices"] for state in states])
            if self.environments is not None:
                self.environments.load_states([state["environment"] for state in states])
        self._reward_scales = [
            reward_scale(self.config, self.datasets[replica.dataset], self.study.protocol)
            for replica in self.replicas
        ]
        datasets = [self.datasets[name] for name in self.job.datasets]
        sampler = make_sampler(
            self.buffer, algorithm.sampling, self._reward_scales, self.agents.normalizer, orders, datasets
        )
        self.updater = make_updater(algorithm, sampler, self.metrics)

    def _best_episodes(self, share: float | None) -> list[BestEpisodes]:
        """What draws the rows of replicas that learn from their best episodes; none for other algorithms."""
        if share is None:
            return []
        first_rows = dict(zip(self.job.datasets, self.buffer.offsets, strict=True))
        return [
            BestEpisodes(
                share, replica.schedule, order, self.datasets[replica.dataset], first_rows[replica.dataset]
            )
            for replica, order in zip(self.replicas, self._orders(self.replicas), strict=True)
        ]

    def _is_online(self) -> bool:
        """Whether the next update belongs to the online phase."""
        offline = self.replicas[0].schedule.updates
        return self.updates > offline or (self.updates == offline and self.job.continues_online)

    def _end_phases(self) -> Iterator[Row]:
        """Finishes the replicas that have made their last update, and starts the online phase once the data
        of all replicas is used up. Replicas whose data is used up before that of the others are saved and
        leave; a job of their own continues them online."""
        ended = [replica for replica in self.replicas if self.updates >= self._phase_end(replica)]
        if not ended:
            return
        yield from self._finished_rows(wait=True)
        finished = [replica for replica in ended if self.updates >= self.total_updates[replica]]
        if finished:
            places = {replica: place for place, replica in enumerate(self.replicas)}
            final = {replica: self.agents.state_of(places[replica]) for replica in finished}
            self.checkpoints.finish(self.updates, final)
        elif self.job.continues_online:
            if self.environments is None:
                self._start_phase(None)
            return
        handed_over = [replica for replica in ended if replica not in finished]
        if handed_over:
            self.checkpoints.save(self.updates, self._states(handed_over))
        remaining = [replica for replica in self.replicas if replica not in ended]
        if remaining:
            agents = self.job.with_replicas(remaining).create_agents(self.device)
            self._start(remaining, agents, self._states(remaining))
        self.replicas = tuple(remaining)

    def _phase_end(self, replica: Replica) -> int:
        """The number of updates after which the present phase of a replica ends."""
        offline = replica.schedule.updates
        return (
            offline if self.updates <= offline and self.environments is None else self.total_updates[replica]
        )

    def _step_due(self) -> bool:
        """Whether an environment step comes before the next update."""
        made = self.updates - self.replicas[0].schedule.updates
        return made % self.updates_per_step == 0

    def _refresh_normalizer(self) -> None:
        """Recomputes the observation normalisers that are due, from what is visible, within the window."""
        if self.agents.normalizer is None:
            return
        for place, replica in enumerate(self.replicas):
            visible = self.refreshes[replica].pop(self.updates, None)
            if visible is not None:
                (order,) = self._orders([replica])
                rows = order[window_start(visible, self.study.protocol.window) : visible]
                self.agents.normalizer.set(place, *self.buffer.observation_statistics(rows))

    def _evaluate(self) -> Iterator[Row]:
        """Submits the evaluations that are due now, one dataset after the other. Yields the rows of the
        previous ones, since one runs at a time."""
        if self.updates not in self._point_updates:
            return
        for name in dict.fromkeys(replica.dataset for replica in self.replicas):
            places = [place for place, replica in enumerate(self.replicas) if replica.dataset == name]
            group = slice(places[0], places[-1] + 1)
            due = (self.points[replica].get(self.updates, ()) for replica in self.replicas[group])
            for points in zip(*due, strict=True):
                yield from self._finished_rows(wait=True)
                self._submit(name, group, points)

    def _submit(self, dataset: str, group: slice, points: Sequence[Point]) -> None:
        start = time.perf_counter()
        metrics = self.metrics.means(group)  # waits for a GPU to finish its updates
        self.metrics.clear(group)
        if self.environments is not None:
            regrets = self.environments.regrets(group)
            metrics = [of_updates | regret for of_updates, regret in zip(metrics, regrets, strict=True)]
        self.train_seconds += (time.perf_counter() - start) / len(self.replicas)
        seconds, self._row_seconds[dataset] = self._row_seconds[dataset], self.train_seconds
        replicas, visible = self.replicas[group], self.visible(dataset, group, points)
        if self.checkpoints.keeps_policies:
            places = range(len(self.replicas))[group]
            self.checkpoints.keep_policies(
                {replica: point.samples for replica, point in zip(replicas, points, strict=True)},
                {
                    replica: self.agents.policy_of(place)
                    for replica, place in zip(replicas, places, strict=True)
                },
            )
        agents = AgentGroup(self.agents, group, self.updater.sampler)
        self.runner.submit(dataset, agents, visible)
        self._pending = PendingRows(
            self.study_name,
            self.study.protocol.regime,
            replicas,
            points,
            self.updates,
            metrics,
            self.train_seconds - seconds,
            self._data_evaluation.evaluate(dataset, agents, visible),
        )

    def visible(self, dataset: str, group: slice, points: Sequence[Point]) -> VisibleData:
        """What the replicas of a dataset have seen at these points, and what arrives up to the next ones."""
        orders = self.indices.orders[group]
        arrivals = [self._arrivals[dataset, replica.seed] for replica in self.replicas[group]]
        samples = tuple(point.samples for point in points)
        until = [self.job.arrived_next(dataset, n) for n in samples]
        return VisibleData(
            samples,
            self.buffer,
            rows=lambda place: orders[place][: samples[place]],
            arriving=lambda place: arrivals[place].order[samples[place] : until[place]],
            held_out=lambda place: arrivals[place].held_out,
            dataset=self.datasets[dataset],
            offset=self.buffer.offsets[self.job.datasets.index(dataset)],
            reward_factors=tuple(scale.factor for scale in self._reward_scales[group]),
        )

    def _must_wait(self) -> bool:
        """Whether to wait for the running evaluation: the next one is due after the next update, or the job
        is stopping. Otherwise evaluations that follow each other would never let a checkpoint be saved."""
        return self._pending is not None and (
            self.updates + 1 in self._point_updates or self.checkpoints.stopping
        )

    def _finished_rows(self, wait: bool) -> Iterator[Row]:
        """The rows of the submitted evaluation, once it has finished."""
        while self._pending is not None:
            outcome = self.runner.collect(POLL if wait else 0.0)
            if outcome is None:
                if wait:
                    continue
                return
            pending, self._pending = self._pending, None
            yield from pending.rows(outcome, self.datasets[pending.replicas[0].dataset].reference)

    def _save(self) -> None:
        self.checkpoints.save(self.updates, self._states(self.replicas))
        self._saved_updates = self.updates

    def _states(self, replicas: Sequence[Replica]) -> dict[Replica, State]:
        """The complete training state of these replicas."""
        places = {replica: place for place, replica in enumerate(self.replicas)}
        return {
            replica: {
                "agent": self.agents.state_of(places[replica]),
                "metrics": self.metrics.state_of(places[replica]),
                "indices": self.indices.state_of(places[replica]),
                "environment": self.environments and self.environments.state_of(places[replica]),
                "evaluators": self._data_evaluation.state_of(replica),
            }
            for replica in replicas
        }


def reward_scale(config: Config, dataset: Dataset, protocol: Protocol) -> RewardScale:
    """The scale of an algorithm's rewards, if its config asks for one. Raises UserError if it is unknown."""
    if not config.scale_rewards:
        return RewardScale()
    if protocol.reward_scale == "full" and len(dataset):
        return RewardScale.known_from_all_data(dataset)
    return RewardScale.known_before_data(dataset)
