"""What a study would take: its jobs, their time and their memory, from a short measurement of each kind.

Each kind of job, an algorithm with so many replicas in an environment, is trained for some seconds in a
process of its own, which also runs its evaluators. Estimates assume that updates cost the same later on,
that evaluation episodes become as long as logged ones, and that jobs in parallel do not slow each other down.
"""

from __future__ import annotations

import io
import multiprocessing
import pickle
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seqeval.algorithm import structure
from seqeval.config import Execution, Study
from seqeval.errors import UserError
from seqeval.evaluation import VisibleData
from seqeval.evaluation.runners import Outcome, SavablePolicies
from seqeval.execution.driver import prepare
from seqeval.execution.storage import Run, StudyDirectory
from seqeval.execution.worker import load_data
from seqeval.training import matmul
from seqeval.training.agents import AgentGroup
from seqeval.training.job import Job, Point, Replica
from seqeval.training.trainer import State, Trainer
from seqeval.types import Dataset

WARM_UP = 30  # updates before the measurement
SECONDS = 2.0  # of a measurement


@dataclass(frozen=True)
class Measurement:
    """What a job takes."""

    update: float  # seconds of an update of all replicas
    environment_step: float  # seconds of a step of one replica
    evaluation: float  # seconds of an evaluation of all replicas
    memory: int  # bytes at the most, of its process
    gpu_memory: int  # bytes at the most
    policy: int  # bytes of a stored policy


@dataclass(frozen=True)
class JobEstimate:
    """A job and what is left to do in it."""

    title: str
    runs: int
    updates: int  # of all replicas together
    seconds: float
    memory: int  # bytes
    gpu_memory: int  # bytes
    policies: int  # bytes of the policies that it keeps, without --keep-policies 0


@dataclass(frozen=True)
class Estimate:
    """The jobs of a study, in the order in which they start."""

    jobs: Sequence[JobEstimate]
    parallel: int | None  # jobs at the same time; None: as many as a cluster has room for
    device: str
    notes: Sequence[str]

    @property
    def seconds(self) -> float:
        """The time of the whole study; on a cluster the time of all jobs together."""
        ends = [0.0] * (self.parallel or 1)
        for job in self.jobs:
            ends[ends.index(min(ends))] += job.seconds
        return max(ends)

    @property
    def memory(self) -> int:
        """Bytes that the largest jobs at the same time take at the most."""
        return sum(sorted((job.memory for job in self.jobs), reverse=True)[: self.parallel])


def estimate(
    study: Study, out: Path, execution: Execution, report: Callable[[str], None] = lambda title: None
) -> Estimate:
    """Estimates what is left of a study, without writing to `out`. `report` is called before each measurement
    with the title of its job.

    Raises UserError for what a study would be refused for.
    """
    launcher, resolved = prepare(study, out, execution)
    resolved = resolved.resumed(StudyDirectory(out).merged(resolved.describe(), execution.redo))
    with launcher:
        slots = launcher.slots(resolved.device)
        jobs = resolved.jobs(WithoutRuns(out, execution.redo), slots, execution.group)
    measured: dict[Any, Measurement] = {}
    if resolved.device == "cuda" and not torch.cuda.is_available():
        raise UserError("dry run: the jobs run on a GPU, which this machine does not have to measure them")
    # The largest dataset first: its memory is the most that any of its kind takes.
    for job in sorted(jobs, key=lambda job: -max(job.sizes[name] for name in job.datasets)):
        if _kind(job) not in measured:
            report(job.title)
            measured[_kind(job)] = _in_new_process(job)
    return Estimate(
        [_estimate(job, measured[_kind(job)], execution.keep_policies) for job in jobs],
        slots if execution.launcher == "local" else execution.jobs,
        resolved.device,
        resolved.notes,
    )


def _kind(job: Job) -> Any:
    """Equal for jobs that take the same time for an update and for an evaluation."""
    environments = tuple(sorted({job.environments[name].name for name in job.datasets}))
    settings = job.replicas[0].variant.algorithm, structure(job.config)
    return settings, environments, len(job.replicas), len(job.datasets)


def _estimate(job: Job, measured: Measurement, keep_policies: bool) -> JobEstimate:
    left = [job.total_updates(replica) - job.done for replica in job.replicas]
    points = sum(
        len(due)
        for replica in job.replicas
        for updates, due in job.points(replica).items()
        if updates > job.done or not job.done
    )
    online = job.online_schedule(job.replicas[0])
    steps = sum(
        min(online.steps, updates // online.updates_per_step)
        for updates, replica in zip(left, job.replicas, strict=True)
        if replica.schedule.updates and job.algorithm.learns_online
    )
    # An update and an evaluation were measured for all replicas together.
    seconds = (
        measured.update * max(left)
        + measured.environment_step * steps
        + measured.evaluation * points / len(job.replicas)
    )
    kept = points * measured.policy if keep_policies else 0
    return JobEstimate(
        job.title, len(job.runs), sum(left), seconds, measured.memory, measured.gpu_memory, kept
    )


def _in_new_process(job: Job) -> Measurement:
    """The measurement of a job in a process of its own, whose memory is the job's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, pickle.dumps(replace(job, done=0))).result()


def _measure(pickled: bytes) -> Measurement:
    torch.set_num_threads(1)
    job: Job = pickle.loads(pickled)
    # The trainer evaluates nothing: an evaluation between two updates would count as time of updates.
    without = replace(job.study, evaluation=replace(job.study.evaluation, metrics=()))
    with matmul.using(job.backend):
        data, stopwatch = load_data(job), Stopwatch(job.device)
        trainer = Trainer(replace(job, study=without), data, NoEvaluation(), stopwatch, "", None)
        stopwatch.trainer, agents = trainer, trainer.agents
        try:
            evaluation, step = _time_evaluation(job, data, trainer)
            stopwatch.restart()
            for _ in trainer.train():
                pass
        finally:
            trainer.close()
    file = io.BytesIO()
    torch.save(agents.policy_of(0), file)
    gpu_memory = torch.cuda.max_memory_reserved() if job.device == "cuda" else 0
    return Measurement(
        stopwatch.seconds_per_update, step, evaluation, _peak_memory(), gpu_memory, file.tell()
    )


def _time_evaluation(job: Job, data: Mapping[str, Dataset], trainer: Trainer) -> tuple[float, float]:
    """Seconds of an evaluation of all replicas, with episodes as long as logged ones, and of a step of one
    environment. The trainer has not started."""
    total, step = 0.0, 0.0
    for name, dataset in data.items():
        places = [place for place, replica in enumerate(job.replicas) if replica.dataset == name]
        group = slice(places[0], places[-1] + 1)
        visible = trainer.visible(name, group, [_middle_point(job, r) for r in job.replicas[group]])
        policies = AgentGroup(trainer.agents, group, trainer.updater.sampler)
        for uses_data in (True, False):
            for evaluator in job.create_evaluators(name, dataset.env_id, uses_data):
                if uses_data:  # the first time takes longer: it creates networks
                    evaluator.evaluate(policies, visible)
                start = time.perf_counter()
                results = evaluator.evaluate(policies, visible)
                seconds = time.perf_counter() - start
                evaluator.close()
                if lengths := [n for replica in results.get("episode_lengths", ()) for n in replica]:
                    # All environments step until the last has ended.
                    step = seconds / (max(lengths) * len(lengths))
                    logged = len(dataset) / max(1, len(dataset.episode_returns))
                    seconds *= max(1.0, logged / max(lengths))
                total += seconds
    return total, step


def _middle_point(job: Job, replica: Replica) -> Point:
    """The point in the middle of a replica's curve, of its offline phase if it has one."""
    points = [point for due in job.points(replica).values() for point in due]
    points = [point for point in points if point.phase == "offline"] or points
    return points[(len(points) - 1) // 2]


class Stopwatch:
    """Measures updates, after some that warm up, and then stops the job (`training.trainer.Checkpoints`)."""

    keeps_policies = False
    trainer: Trainer

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self.restart()

    def restart(self) -> None:
        """Starts the time of a job that has made no updates."""
        self._created = time.perf_counter()
        self._start = self._last = (0, self._created)  # updates, time

    @property
    def stopping(self) -> bool:
        updates, now = self.trainer.updates, time.perf_counter()
        ended = updates > WARM_UP and now - self._start[1] > SECONDS
        if self._on_gpu and (updates <= WARM_UP or ended):
            torch.cuda.synchronize()
            now = time.perf_counter()
        self._last = updates, now
        if updates <= WARM_UP:
            self._start = self._last
        return ended

    @property
    def seconds_per_update(self) -> float:
        """Of all replicas; in a job that ended while it warmed up, including that."""
        (first, start), (last, end) = self._start, self._last
        if last > first:
            return (end - start) / (last - first)
        return (end - self._created) / max(1, self.trainer.updates)

    def due(self) -> bool:
        return False

    def keep_policies(self, samples: Mapping[Replica, int], policies: Mapping[Replica, State]) -> None: ...

    def save(self, updates: int, states: Mapping[Replica, State]) -> None: ...

    def finish(self, updates: int, agents: Mapping[Replica, State]) -> None: ...


class NoEvaluation:
    """Evaluates nothing (`evaluation.runners.EvaluationRunner`)."""

    def submit(self, dataset: str, agents: SavablePolicies, visible: VisibleData) -> None: ...

    def collect(self, seconds: float) -> Outcome:
        return Outcome({}, 0.0)

    def close(self) -> None: ...


class WithoutRuns(StudyDirectory):
    """A study directory in which some variants have no runs."""

    def __init__(self, path: Path, variants: Sequence[str]) -> None:
        super().__init__(path)
        self._variants = variants

    def run(self, dataset: str, variant: str, seed: int) -> Run:
        return Run(self.path / "none" if variant in self._variants else self.path, dataset, variant, seed)


def _peak_memory() -> int:
    """Bytes that this process has taken at the most."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, it does not begin with the memory of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
