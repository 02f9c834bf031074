"""Runs one job, in whatever process: trains its replicas and stores their runs."""

from __future__ import annotations

import errno
import math
import pickle
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from seqeval import datasets
from seqeval.errors import UserError
from seqeval.evaluation import find
from seqeval.evaluation.runners import EvaluationRunner, InProcessRunner, SwitchingRunner
from seqeval.evaluation.runners.in_subprocess import SubprocessRunner
from seqeval.execution.checkpoints import RunFiles
from seqeval.execution.driver_state import DriverState
from seqeval.execution.remaining import files, remaining
from seqeval.execution.storage import StudyDirectory
from seqeval.faults import plugin_error
from seqeval.training import matmul
from seqeval.training.job import Job, JobEvaluation, RunKey
from seqeval.training.trainer import Trainer
from seqeval.types import Dataset, Row

HEARTBEAT = 1.0  # seconds between two writes of a job's progress
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    text: str
    fixable: bool = False  # by the user: the text is one line; otherwise it holds a traceback
    traceback: str | None = None  # the whole of it, if a plug-in or environment raised

    @property
    def record(self) -> str:
        """The text for error.txt."""
        return self.traceback or self.text


@dataclass(frozen=True)
class JobPayload:
    """A job on its way to another process, with what it takes to run it there.

    The job is pickled separately, so that an error while unpickling it, for example because a plug-in's file
    has changed, can be reported as the job's failure.
    """

    title: str
    runs: Sequence[RunKey]
    job: bytes
    device: str
    out: Path
    save_every: float  # seconds
    switch_after: float  # seconds of evaluation after which a second process evaluates
    keep_policies: bool = False  # a policy at every point of the curves

    @classmethod
    def create(
        cls, job: Job, out: Path, save_every: float, switch_after: float, keep_policies: bool = False
    ) -> JobPayload:
        pickled = pickle.dumps(job)
        return cls(
            job.title, job.runs, pickled, job.device, out.absolute(), save_every, switch_after, keep_policies
        )


def run_payload(payload: JobPayload, stop: threading.Event) -> Iterator[Row | Failure]:
    """Runs a job with one thread; yields its rows once they are stored, and at the end why it failed, if it
    did.

    The job saves a checkpoint and ends after the current update once `stop` is set or the driver requests it.
    One thread per process is the fastest way to use all cores, and makes results independent of the number of
    jobs.
    """
    directory = StudyDirectory(payload.out)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _heartbeat(payload, directory, stop) as progress:
            job: Job = pickle.loads(payload.job)
            with matmul.using(job.backend):
                # What remains is read anew: a process that died may have started the job, and replicas may
                # have left it for an online phase in a job of their own.
                while not stop.is_set() and (jobs := remaining(job, directory)):
                    for part in jobs:
                        if not stop.is_set():
                            yield from _train(part, directory, payload, stop, progress)
    except (Exception, SystemExit) as error:  # a plug-in that exits has not finished its runs
        failure = _failure(payload, error, directory)
        for key in payload.runs:
            run = directory.run(*key)
            if not run.finished:
                with suppress(OSError):  # the disk may be what has failed
                    run.write_error(failure.record)
        yield failure
    finally:
        torch.set_num_threads(threads)


def _failure(payload: JobPayload, error: BaseException, directory: StudyDirectory) -> Failure:
    if isinstance(error, UserError):
        return Failure(f"{payload.title}: {error}", fixable=True)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f"{error.filename or payload.out}: {error.strerror}"
        return Failure(f"{where}; free some space and run the same command again to resume", fixable=True)
    if found := plugin_error(error):
        place = f"whole traceback: {directory.run(*payload.runs[0]).error}"
        text = f"{payload.title}: a plug-in or environment raised an exception\n{found}\n{place}"
        return Failure(text, traceback=f"{payload.title}:\n{found.traceback}")
    return Failure(f"{payload.title}:\n{traceback.format_exc()}")


def _train(
    job: Job, directory: StudyDirectory, payload: JobPayload, stop: threading.Event, progress: Progress
) -> Iterator[Row]:
    """Trains a job whose runs resume after equal numbers of updates, and stores its rows."""
    data = load_data(job)
    runs = files(job, directory)
    with (
        closing(_runner(job, data, payload.switch_after)) as runner,
        closing(
            RunFiles(job, runs, payload.save_every, payload.keep_policies, stop, progress.lock)
        ) as checkpoints,
    ):
        name = payload.out.resolve().name
        with closing(Trainer(job, data, runner, checkpoints, name, checkpoints.load())) as trainer:
            progress.follow(job, trainer)
            for row in trainer.train():
                runs[RunKey(row.dataset, row.variant, row.seed)].append(row)
                yield row


def load_data(job: Job) -> dict[str, Dataset]:
    """The datasets of a job, by name."""
    study = job.study
    return {
        name: datasets.load(job.sources[name], study.env, study.protocol.data_rules, study.trust_pickle)
        for name in job.datasets
    }


def _runner(job: Job, data: Mapping[str, Dataset], switch_after: float) -> EvaluationRunner:
    """Where the job's evaluators run."""
    env_ids = {name: dataset.env_id for name, dataset in data.items()}
    setup = JobEvaluation(job, env_ids, torch.get_default_dtype())
    in_process = InProcessRunner(setup.evaluators)
    present = [env_id for env_id in env_ids.values() if env_id is not None]
    needed = not all(find(name).uses_data for name in job.study.evaluation.metrics)
    if switch_after == math.inf or not needed or not present:
        return in_process
    return SwitchingRunner(in_process, lambda: SubprocessRunner(setup, present), switch_after)


class Progress:
    """Writes the progress of a job's runs."""

    def __init__(self, payload: JobPayload, directory: StudyDirectory) -> None:
        self.lock = threading.Lock()  # a run that is being finished has no progress
        self._directory = directory
        self._job: Job | None = None

    def follow(self, job: Job, trainer: Trainer) -> None:
        """From now on writes the progress of these runs."""
        with self.lock:
            self._job, self._trainer, self._start = job, trainer, time.monotonic()
        self.write()

    def write(self, stopped: bool = False) -> None:
        with self.lock:
            if self._job is None:
                return
            updates = self._trainer.updates
            made, seconds = updates - self._job.done, time.monotonic() - self._start
            for replica in {replica.run: replica for replica in self._job.replicas}.values():
                run = self._directory.run(*replica.run)
                if not run.finished:
                    total = self._job.total_updates(replica)
                    with suppress(OSError):  # progress is not worth failing for
                        run.write_progress(
                            min(updates, total), total, made / seconds if made else None, stopped
                        )


@contextmanager
def _heartbeat(payload: JobPayload, directory: StudyDirectory, stop: threading.Event) -> Iterator[Progress]:
    """Writes the progress now and then from a thread, which also passes on the driver's request to stop."""
    progress, ended = Progress(payload, directory), threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            with suppress(OSError, UserError):
                if DriverState.read(payload.out).stop:
                    stop.set()
            progress.write()

    if DriverState.read(payload.out).stop:
        stop.set()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join()
        progress.write(stopped=True)
