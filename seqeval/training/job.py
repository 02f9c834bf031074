"""A job is a list of replicas: learning agents of one algorithm that are trained together in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from seqeval import evaluation, plugins
from seqeval.algorithm import Algorithm
from seqeval.config import Online, Study
from seqeval.evaluation import Evaluator
from seqeval.plugins import Variant
from seqeval.seeding import stream
from seqeval.slicing import Interaction, Schedule, Steps
from seqeval.training import matmul
from seqeval.training.agents import Agents
from seqeval.training.matmul import MatmulBackend
from seqeval.types import Environment

NORMALIZER_REFRESHES = 20  # recomputations of the observation normaliser between T0 and N (stream)


class RunKey(NamedTuple):
    """What identifies a run in a study."""

    dataset: str
    variant: str
    seed: int


@dataclass(frozen=True)
class Replica:
    """One learning agent."""

    dataset: str  # its name in the study
    variant: Variant  # the algorithm and its settings
    seed: int
    schedule: Schedule  # when its offline data arrives

    @property
    def run(self) -> RunKey:
        """The run that it belongs to; in `retrain` a run has a replica for each size."""
        return RunKey(self.dataset, self.variant.name, self.seed)

    @property
    def agent_seed(self) -> int:
        """The seed of its first weights, minibatches and noise: in `stream` that of the run, otherwise one
        for the (first) size too, since errors along a curve must not be correlated by a shared start."""
        if not isinstance(self.schedule, Steps) or not self.schedule.sizes:
            return self.seed
        return int(stream(self.seed, "size", self.schedule.sizes[0]).integers(2**31))


class Point(NamedTuple):
    """The position of a row on a replica's curve."""

    phase: str
    samples: int
    env_steps: int


@dataclass(frozen=True)
class Job:
    """Replicas that are trained together, ordered by dataset; R is their number."""

    study: Study
    replicas: tuple[Replica, ...]
    sources: Mapping[str, str]  # dataset -> the name or path that the user gave
    environments: Mapping[str, Environment]  # dataset -> the environment that it was collected in
    sizes: Mapping[str, int]  # dataset -> number of transitions
    device: str
    backend: MatmulBackend
    done: int = 0  # updates that every replica had made when the job was interrupted

    @property
    def variant(self) -> Variant:
        """The algorithm and its settings, the same for all replicas."""
        return self.replicas[0].variant

    @property
    def algorithm(self) -> type[Algorithm]:
        return plugins.find(self.variant.algorithm)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(replica.dataset for replica in self.replicas))

    @property
    def runs(self) -> list[RunKey]:
        return list(dict.fromkeys(replica.run for replica in self.replicas))

    @property
    def title(self) -> str:
        names, seeds = self.datasets, sorted({replica.seed for replica in self.replicas})
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{names[0]}{more} · {self.variant.name} · seed {', '.join(map(str, seeds))}"

    @property
    def updates(self) -> int:
        """Updates of all replicas together."""
        return sum(self.total_updates(replica) for replica in self.replicas)

    @property
    def continues_online(self) -> bool:
        """Whether the replicas start their online phase together. Replicas whose data is used up at different
        times continue online in jobs of their own."""
        together = len({replica.schedule.updates for replica in self.replicas}) == 1
        return together and self.study.online.steps > 0 and self.algorithm.learns_online

    @property
    def online(self) -> Online:
        """The settings of the online phase, the algorithm's own where the study gives none."""
        return self.study.online.with_defaults(self.algorithm.updates_per_step, self.algorithm.mix)

    def online_schedule(self, replica: Replica) -> Interaction:
        return self.online.schedule(self.sizes[replica.dataset], self.study.protocol.window)

    def total_updates(self, replica: Replica) -> int:
        """Updates of a replica, offline and online."""
        online = self.online_schedule(replica).updates if self.algorithm.learns_online else 0
        return replica.schedule.updates + online

    def with_replicas(self, replicas: Iterable[Replica]) -> Job:
        """The same job with these replicas only."""
        return replace(self, replicas=tuple(replicas))

    def create_agents(self, device: torch.device) -> Agents:
        """Fresh agents for all replicas."""
        return Agents(
            self.algorithm,
            self.variant.config,
            [self.environments[replica.dataset] for replica in self.replicas],
            [replica.agent_seed for replica in self.replicas],
            max(map(self.total_updates, self.replicas)),
            device,
        )

    def points(self, replica: Replica) -> dict[int, list[Point]]:
        """The points of a replica's curve, by the number of updates after which they are taken."""
        settings, size = self.study.evaluation, self.sizes[replica.dataset]
        points: dict[int, list[Point]] = {}
        for updates, visible in replica.schedule.points(settings.points, settings.every):
            points.setdefault(updates, []).append(Point("offline", visible, 0))
        online = self.online_schedule(replica)
        if online.steps and not replica.schedule.updates:  # otherwise the offline phase has the row at N
            points.setdefault(0, []).append(Point("online", size, 0))
        for updates, samples in online.points(settings.points, settings.every) if online.steps else ():
            learns = self.algorithm.learns_online
            # Without online learning the policy of the last offline update is evaluated at every point.
            at = replica.schedule.updates + (updates if learns else 0)
            points.setdefault(at, []).append(Point("online", samples, (samples - size) if learns else 0))
        return points

    def refreshes(self, replica: Replica) -> dict[int, int]:
        """Before which updates the observation normaliser is recomputed, and from how many transitions."""
        protocol, size = self.study.protocol, self.sizes[replica.dataset]
        if not self.variant.config.normalize_observations or not size or protocol.normalizer == "full":
            return {}
        refreshes = dict(replica.schedule.refreshes(NORMALIZER_REFRESHES))
        if self.study.online.steps and self.algorithm.learns_online:
            refreshes[replica.schedule.updates] = size  # frozen at N
        return refreshes


@dataclass(frozen=True)
class JobEvaluation:
    """Creates the agents and evaluators of a job in another process, on the CPU."""

    job: Job
    env_ids: Mapping[str, str | None]  # by dataset
    dtype: torch.dtype

    @contextmanager
    def session(self) -> Iterator[None]:
        """The numeric settings of the training process."""
        torch.set_default_dtype(self.dtype)
        with matmul.using(self.job.backend):
            yield

    def create(self, dataset: str) -> tuple[Agents, list[Evaluator]]:
        replicas = (replica for replica in self.job.replicas if replica.dataset == dataset)
        agents = self.job.with_replicas(replicas).create_agents(torch.device("cpu"))
        return agents, self.evaluators(dataset)

    def evaluators(self, dataset: str) -> list[Evaluator]:
        seeds = [replica.seed for replica in self.job.replicas if replica.dataset == dataset]
        return evaluation.create(self.env_ids[dataset], seeds, self.job.study.evaluation)
