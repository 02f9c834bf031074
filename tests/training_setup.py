"""Trains jobs on small datasets, with checkpoints in memory: what the tests of the training loop share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from conftest import make_dataset
from image_data import image_dataset

from seqeval import environments, plugins
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.evaluation import VisibleData
from seqeval.evaluation.runners import EvaluationRunner, InProcessRunner, Outcome, timed
from seqeval.plugins import Variant
from seqeval.slicing import arriving_size
from seqeval.training.job import Job, JobEvaluation, Replica, RunKey
from seqeval.training.matmul import default_backend
from seqeval.training.trainer import State, Trainer
from seqeval.types import Continuous, Dataset, Environment, Row

EVERY = [name for name in plugins.names() if ":" not in name]
# Those for vectors and continuous actions, as in Pendulum.
BUILT_IN = [name for name in EVERY if "continuous" in plugins.find(name).action_spaces]
# Each with a kind of its data, for `dataset_of`.
OTHER_KINDS = [
    *((name, "discrete") for name in EVERY if "discrete" in plugins.find(name).action_spaces),
    *((name, f"{space} images") for name in EVERY for space in plugins.find(name).image_action_spaces),
]
LEARN_OFFLINE = [name for name in BUILT_IN if plugins.find(name).learns_offline]
# Settings of small networks, where they are not two hidden layers.
SMALL: dict[str, dict[str, Any]] = {
    "fql": {"hidden": (16, 16), "flow_steps": 2},
    "qc_fql": {"hidden": (16, 16), "flow_steps": 2, "chunk_length": 3},
    "rlpd": {"hidden": (16, 16), "critics": 3, "actor_delay": 4},
    "dt": {"context": 3, "layers": 1, "heads": 2, "embedding": 8, "target_returns": (5.0, 1.0)},
}
EXAMPLES = Path(__file__).with_name("example_algorithms.py")
SHORT_EPISODES = "Pendulum-v1?max_episode_steps=5"
STREAM = Protocol(start=30, grow_by=3, updates_per_growth=2)  # on 120 transitions: 62 updates
NO_ONLINE = Online()
POINTS = Evaluation(points=3, episodes=1)
ONE_POINT = Evaluation(points=1, episodes=1)


def small_dataset(name: str = "tiny", episodes: int = 12, seed: int = 0) -> Dataset:
    """Random transitions of Pendulum, whose episodes have 5 steps when they are evaluated."""
    return replace(make_dataset(episodes, seed=seed, env_id=SHORT_EPISODES), name=name)


def dataset_of(kind: str, name: str = "tiny", seed: int = 0) -> Dataset:
    """Random transitions: `discrete`, of CartPole, `discrete images`, of `image_data.Game`, or `continuous
    images`, which are of no environment. Episodes have 5 steps when they are evaluated."""
    rng = np.random.default_rng(seed)
    if kind == "discrete":
        plain = make_dataset(seed=seed, env_id="CartPole-v1?max_episode_steps=5")
        states = rng.standard_normal((len(plain) + 1, 4)).astype(np.float32)
        actions = rng.integers(0, 2, len(plain))
        return replace(
            plain, name=name, observations=states[:-1], next_observations=states[1:], actions=actions
        )
    if kind == "discrete images":
        return image_dataset([10] * 12, stack=2, seed=seed, name=name)
    images = image_dataset([10] * 12, stack=2, seed=seed, name=name, size=(1, 16, 16))
    bound = np.ones(2, np.float32)
    logged_in = Environment("made up", images.observation, Continuous(-bound, bound), None)
    actions = rng.uniform(-1, 1, (len(images), 2)).astype(np.float32)
    return replace(images, actions=actions, logged_in=logged_in)


def poisoned(
    name: str, clean: Dataset, arrival: np.ndarray, visible: int, value: float, flip: bool = False
) -> Dataset:
    """The dataset with everything overwritten that an algorithm may not see when `visible` transitions have
    arrived; with `flip` also where episodes terminate.

    A next logged action arrives with the transition itself: where an algorithm reads it, it stays.
    """
    seen, unseen = arrival[:visible], arrival[visible:]
    sampling = make_job(name, [(clean, [0])]).create_agents(torch.device("cpu")).algorithm.sampling
    followed = seen[~(clean.terminated | clean.truncated)[seen]] + 1 if sampling.next_actions else seen
    fields = {}
    for field in ("observations", "actions", "rewards", "next_observations"):
        fields[field] = getattr(clean, field).copy()
        fields[field][np.setdiff1d(unseen, followed) if field == "actions" else unseen] = value
    fields["terminated"] = clean.terminated.copy()
    fields["terminated"][unseen] ^= flip
    return replace(clean, **fields)


def make_job(
    algorithm: str,
    runs: Sequence[tuple[Dataset, Sequence[int]]],
    protocol: Protocol = STREAM,
    online: Online = NO_ONLINE,
    evaluation: Evaluation = POINTS,
    device: str = "cpu",
    **settings: Any,
) -> Job:
    """A job with small networks: a run for each seed of each dataset.

    An algorithm that needs episodes gets them one after the other where the protocol shuffles transitions.
    """
    found = plugins.find(algorithm)
    if found.needs_episodes and protocol.order == "shuffled":
        protocol = replace(protocol, order="episodes")
    if algorithm in EVERY:
        settings = SMALL.get(algorithm, {"hidden": (16, 16)}) | settings
    elif algorithm.startswith("sb3:"):
        settings = {"net_arch": (16, 16), **settings}
    variant = Variant("variant", algorithm, replace(found.Config(), **{"batch_size": 8, **settings}))
    datasets = [dataset for dataset, _ in runs]
    sizes = {d.name: arriving_size(protocol.hold_out, d.episode_lengths) for d in datasets}
    study = Study(
        tuple(dataset.name for dataset in datasets), (algorithm,), (0,), protocol, online, evaluation
    )
    return Job(
        study,
        tuple(
            Replica(dataset.name, variant, seed, schedule)
            for dataset, seeds in runs
            for seed in seeds
            for schedule in protocol.schedules(sizes[dataset.name] if found.learns_offline else 0)
        ),
        sources={dataset.name: dataset.name for dataset in datasets},
        environments={dataset.name: environments.of(dataset) for dataset in datasets},
        sizes=sizes,
        device=device,
        backend=default_backend(device),
    )


class Killed(Exception):
    """The process that trains a job has been killed."""


class Checkpoint(NamedTuple):
    """What is stored of a run."""

    updates: int
    states: list[State]
    rows: int  # stored before it


class MemoryCheckpoints:
    """Keeps the runs of a job in memory, as `execution.checkpoints.RunFiles` keeps them in files."""

    keeps_policies = False

    def __init__(self) -> None:
        self.rows: dict[RunKey, list[Row]] = {}
        self.saved: dict[RunKey, Checkpoint] = {}
        self.finished: dict[RunKey, list[State]] = {}
        self.history: list[tuple[str, int, list[RunKey]]] = []  # what was called, after how many updates
        # Asked after every update, with the number of updates.
        self.is_due: Callable[[int], bool] = lambda updates: False
        self.must_stop: Callable[[int], bool] = lambda updates: False
        self.trainer: Trainer

    @property
    def stopping(self) -> bool:
        return self.must_stop(self.trainer.updates)

    def due(self) -> bool:
        return self.is_due(self.trainer.updates) or self.stopping

    def save(self, updates: int, states: dict[Replica, State]) -> None:
        runs = by_run(states)
        self.history.append(("save", updates, list(runs)))
        for key, values in runs.items():
            self.saved[key] = Checkpoint(updates, through_file(values), len(self.rows.get(key, ())))

    def finish(self, updates: int, agents: dict[Replica, State]) -> None:
        runs = by_run(agents)
        self.history.append(("finish", updates, list(runs)))
        self.finished |= {key: through_file(values) for key, values in runs.items()}

    def append(self, row: Row) -> None:
        self.rows.setdefault(RunKey(row.dataset, row.variant, row.seed), []).append(row)


class Training:
    """Trains a job as a worker does: interrupted runs resume from their checkpoints, and runs that a job
    leaves to a job of their own get one."""

    def __init__(self, job: Job, datasets: Sequence[Dataset]) -> None:
        self.job, self.datasets = job, {dataset.name: dataset for dataset in datasets}
        self.checkpoints = MemoryCheckpoints()
        self.jobs: list[Job] = []  # that were started
        self.make_runner: Callable[[Job], EvaluationRunner] = self.in_process

    def in_process(self, job: Job) -> EvaluationRunner:
        return InProcessRunner(self._setup(job).evaluators)

    def delayed(self, job: Job, delay: int) -> EvaluationRunner:
        return DelayedRunner(self._setup(job), delay)

    def _setup(self, job: Job) -> JobEvaluation:
        env_ids = {name: dataset.env_id for name, dataset in self.datasets.items()}
        return JobEvaluation(job, env_ids, torch.get_default_dtype())

    def remaining_jobs(self) -> list[Job]:
        """As `execution.remaining`: runs resume together after equal numbers of updates in one phase."""
        found: dict[tuple[int, int | None], list[Replica]] = {}
        for replica in self.job.replicas:
            if replica.run not in self.checkpoints.finished:
                saved = self.checkpoints.saved.get(replica.run)
                updates, offline = 0 if saved is None else saved.updates, replica.schedule.updates
                found.setdefault((updates, offline if updates >= offline else None), []).append(replica)
        return [
            replace(self.job, replicas=tuple(replicas), done=updates)
            for (updates, _), replicas in found.items()
        ]

    @contextmanager
    def trainer(self, job: Job | None = None) -> Iterator[Trainer]:
        """A trainer of the whole job, or of one of the remaining jobs."""
        job = job or self.job
        self.jobs.append(job)
        states: dict[Replica, State] = {}
        for key in job.runs:
            saved = self.checkpoints.saved.get(key) if job.done else None
            del self.checkpoints.rows.setdefault(key, [])[0 if saved is None else saved.rows :]
            if saved is not None:
                replicas = [replica for replica in job.replicas if replica.run == key]
                states |= zip(replicas, saved.states, strict=True)
        with closing(self.make_runner(job)) as runner:
            trainer = Trainer(job, self.datasets, runner, self.checkpoints, "study", states or None)
            self.checkpoints.trainer = trainer
            with closing(trainer):
                yield trainer

    def train(self, kills: Iterable[int] = ()) -> Training:
        """Trains until every run has finished. After each number of updates in `kills` the process is killed,
        having saved there or, every other time, one update earlier; what came after that is lost."""
        for number, kill in enumerate([*sorted(kills), None]):
            if kill is not None:
                self._kill_after(kill, kill - number % 2)
            try:
                while jobs := self.remaining_jobs():
                    for job in jobs:
                        self._train(job)
            except Killed:
                pass
            self.checkpoints.is_due = self.checkpoints.must_stop = lambda updates: False
        return self

    def _train(self, job: Job) -> None:
        with self.trainer(job) as trainer:
            for row in trainer.train():
                self.checkpoints.append(row)

    def _kill_after(self, kill: int, save: int) -> None:
        def must_stop(updates: int) -> bool:
            if updates >= kill and self.checkpoints.trainer.updates > self.jobs[-1].done:
                raise Killed
            return False

        self.checkpoints.is_due = lambda updates: updates >= save
        self.checkpoints.must_stop = must_stop

    @property
    def rows(self) -> list[Row]:
        """All rows, run by run."""
        return [row for key in self.job.runs for row in self.checkpoints.rows.get(key, ())]

    def outcome(self, run: RunKey | None = None) -> tuple[list[dict[str, Any]], list[bytes]]:
        """The rows and the final weights of all runs, or of one, bit by bit."""
        runs = self.job.runs if run is None else [run]
        rows = [without_seconds(row) for key in runs for row in self.checkpoints.rows[key]]
        finished = [self.checkpoints.finished[key] for key in runs]
        return rows, [tensor.numpy().tobytes() for tensor in tensors_in(finished)]


class DelayedRunner:
    """Evaluates agents of its own, as a second process does. An outcome is there once it has been asked for
    `delay` times."""

    def __init__(self, setup: JobEvaluation, delay: int) -> None:
        self._setup, self._delay, self._left = setup, delay, 0
        self._created: dict[str, Any] = {}

    def submit(self, dataset: str, agents: Any, visible: VisibleData) -> None:
        self._request = dataset, through_file(agents.states()), visible.samples
        self._left = self._delay

    def collect(self, seconds: float) -> Outcome | None:
        self._left -= 1
        if self._left >= 0:
            return None
        dataset, states, samples = self._request
        if dataset not in self._created:
            self._created[dataset] = self._setup.create(dataset)
        agents, evaluators = self._created[dataset]
        agents.load_states(states)
        return timed(evaluators, agents, VisibleData(samples))._replace(seconds=2.0)

    def close(self) -> None:
        for _, evaluators in self._created.values():
            for evaluator in evaluators:
                evaluator.close()


def train(
    algorithm: str,
    seeds: Sequence[int],
    dataset: Dataset | None = None,
    protocol: Protocol = STREAM,
    online: Online = NO_ONLINE,
    evaluation: Evaluation = POINTS,
    **settings: Any,
) -> Training:
    """Trains the seeds of an algorithm on a dataset until they have finished."""
    dataset = small_dataset() if dataset is None else dataset
    job = make_job(algorithm, [(dataset, seeds)], protocol, online, evaluation, **settings)
    return Training(job, [dataset]).train()


def by_run(states: dict[Replica, State]) -> dict[RunKey, list[State]]:
    found: dict[RunKey, list[State]] = {}
    for replica, state in states.items():
        found.setdefault(replica.run, []).append(state)
    return found


def through_file(value: Any) -> Any:
    """A value as it is read back from a checkpoint."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in nested mappings, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for part in inside for tensor in tensors_in(part)]


def equal_tensors(one: Any, other: Any) -> bool:
    """Whether two nested values hold equal tensors, to the last bit."""
    mine, others = tensors_in(one), tensors_in(other)
    assert len(mine) == len(others) > 0
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(mine, others, strict=True))


def without_seconds(row: Row) -> dict[str, Any]:
    """A row without its wall times; NaN equals itself."""
    values = {key: value for key, value in asdict(row).items() if not key.endswith("_seconds")}
    groups = ("metrics", "evaluations")
    return values | {group: {name: repr(value) for name, value in values[group].items()} for group in groups}


def without_predictions(row: Row) -> dict[str, Any]:
    """A row without its wall times and what it says about the transitions that arrive next."""
    values = without_seconds(row)
    kept = {k: v for k, v in values["evaluations"].items() if not k.startswith("prequential")}
    return values | {"evaluations": kept}
