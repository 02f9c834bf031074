"""Pieces of work as the tasks of a Slurm array, through submitit.

A piece that nears its time limit gets SIGUSR2 from Slurm, saves itself and is put into the queue again with
`scontrol requeue`; one that is preempted or cancelled gets SIGTERM, saves itself and ends, and where the
cluster requeues what it preempts it goes on. Either way it goes on from its seeds' last checkpoints, so the
run directory must lie on storage that every machine sees. Rows and progress come to the driver through that
storage too (see `elsewhere`); submitit's files and what the pieces print are in DIR/slurm.

The tests use submitit's local executor, which starts processes of this machine: they prove that a piece that
is told of its end saves itself, is begun again and ends with the same rows, and what is asked of squeue and
scancel. They do not prove what Slurm does: that it takes the array job, gives notice in time, requeues, and
answers squeue and scancel as the stand-ins of the tests do. That was tried by hand, on a Slurm 22.05 of one
machine without accounting: time limit, preemption, a killed process, scancel, Ctrl-C, a detached study. GPUs,
several machines and their storage were not.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from seqeval.config import Slurm
from seqeval.errors import UserError
from seqeval.execution import worker
from seqeval.execution.jobs import Work
from seqeval.execution.progress import Display
from seqeval.execution.remote import Errand, Follower, Word, arrays, queued
from seqeval.execution.storage import RunDirectory
from seqeval.execution.worker import Failure
from seqeval.types import Row

try:
    import submitit
    from submitit.helpers import Checkpointable, DelayedSubmission
except ImportError as error:
    raise UserError("launcher slurm: submitit is not installed; pip install 'seqeval-rl[slurm]'") from error

CLUSTER = "slurm"  # submitit's word; the tests say local
GLANCE = 2.0  # seconds between two looks at what the pieces have stored
ASK_EVERY = 20.0  # seconds between two questions to Slurm
LAG = 60.0  # seconds that a file may need to be seen from another machine
WARNING = 120  # seconds before the time limit at which a piece is told
REQUEUES = 1000  # of a piece that comes to its time limit


class Piece(Checkpointable):
    """A piece of work as submitit has it: called in a job, and told there when the job will end.

    It works in a thread of its own, so that the main one is free to hear signals, which come in the middle of
    an update: the work goes on to its next moment and saves itself there.
    """

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Piece, (self._errand,)

    def __call__(self) -> Failure | None:
        terminated, failures = list[int](), list[Failure | None]()

        def terminate(signum: int, _: Any) -> None:
            terminated.append(signum)
            self._stop.set()

        signal.signal(signal.SIGTERM, terminate)
        self._thread = threading.Thread(target=lambda: failures.append(self._errand.do(self._stop)))
        self._thread.start()
        self._wait()
        if terminated:
            sys.exit(128 + signal.SIGTERM)  # without a result: to submitit the job has not come to its end
        return failures[0]

    def checkpoint(self) -> DelayedSubmission:
        """Saves, and says how to go on; submitit calls it where it hears that the job will end."""
        self._stop.set()
        self._wait()
        return DelayedSubmission(self)

    def _wait(self) -> None:
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)


def submit(
    works: Sequence[Work],
    out: RunDirectory,
    jobs: int | None,
    save_every: float,
    overlap: float,
    settings: Slurm,
) -> list[submitit.Job[Failure | None]]:
    """Puts all the work into the queue, of which `jobs` pieces may run at a time; a job for each piece.

    Raises UserError where Slurm does not take it.
    """
    folder = out.path.absolute() / "slurm"
    more = dict(option.strip("-").partition("=")[::2] for option in settings.more)
    try:
        executor = submitit.AutoExecutor(folder, cluster=CLUSTER, slurm_max_num_timeout=REQUEUES)
        executor.update_parameters(
            name="seqeval",
            timeout_min=settings.time_limit,
            cpus_per_task=settings.cpus,
            gpus_per_node=settings.gpus or None,
            mem_gb=settings.memory,
            slurm_partition=settings.partition,
            slurm_array_parallelism=jobs or len(works),
            slurm_signal_delay_s=WARNING,
            slurm_additional_parameters={key: value or True for key, value in more.items()},
        )
        submitted = executor.submit_array(
            [Piece(Errand.of(work, out, save_every, overlap)) for work in works]
        )
    except (RuntimeError, OSError) as error:  # no Slurm here, or one that says no
        raise UserError(f"launcher slurm: {' '.join(str(error).split())}") from error
    Word(jobs=tuple(job.job_id for job in submitted)).leave(out.path)
    return submitted


def rows(
    works: Sequence[Work],
    out: RunDirectory,
    jobs: int | None,
    save_every: float,
    overlap: float,
    settings: Slurm,
    display: Display,
    stop: threading.Event,
) -> Iterator[Row | Failure]:
    """Does all the work on the cluster, at most `jobs` pieces at a time; one that fails does not stop the
    others.

    Yields rows as they come, and of each piece that failed why. Once `stop` is set, the pieces that run save
    themselves and end, and those that wait are cancelled.
    """
    follower = Follower(works, out)
    left = dict(enumerate(submit(works, out, jobs, save_every, overlap, settings)))
    queue = Queue([job.job_id for job in left.values()])
    stopping = False
    try:
        while left:
            if stop.is_set() and not stopping:
                stopping = True
                Word(stop=True, jobs=queue.jobs).leave(out.path)
                queue.cancel("--state=PENDING")
            # Before the files are read: what a piece has stored is there once it is over.
            patience = 0.0 if stopping else LAG
            over = [
                piece
                for piece, job in left.items()
                if job.paths.result_pickle.exists() or queue.left_for(job.job_id) > patience
            ]
            for piece in left:
                for report in follower.news(piece):
                    display.show(report)
                    if report.row is not None:
                        yield report.row
            for piece in over:
                failure = _outcome(left.pop(piece), works[piece], out, stopping)
                display.show(follower.over(piece, failure))
                if failure is not None:
                    yield failure
            time.sleep(GLANCE if left else 0)
            queue.look(display, GLANCE if stopping else ASK_EVERY)
        Word(stop=stopping).leave(out.path)
    finally:  # a second Ctrl-C, or whoever asked for the rows wants no more
        if left:
            queue.cancel()


class Queue:
    """Some jobs as Slurm has them."""

    def __init__(self, jobs: Sequence[str]) -> None:
        self.jobs = tuple(jobs)
        self._looked = time.monotonic()
        self._gone: dict[str, float] = {}

    def look(self, display: Display, every: float) -> None:
        """Asks which jobs there are, unless it is less than so many seconds since it did."""
        now = time.monotonic()
        if now - self._looked < every:
            return
        self._looked = now
        try:
            there = queued(self.jobs)
        except UserError as error:  # it may have other things to do; the pieces go on without it
            display.say(f"note: {error}")
            return
        self._gone = {job: self._gone.get(job, now) for job in self.jobs if job not in there}

    def left_for(self, job: str) -> float:
        """Seconds since a job was first not there any more; -1 where it is."""
        return time.monotonic() - self._gone[job] if job in self._gone else -1.0

    def cancel(self, *which: str) -> None:
        subprocess.run(["scancel", *which, *arrays(self.jobs)], check=False)


def _outcome(
    job: submitit.Job[Failure | None], work: Work, out: RunDirectory, stopping: bool
) -> Failure | None:
    """Why a piece failed that is over, if it did."""
    cells = work.cells(out)
    if job.paths.result_pickle.exists():
        try:
            return job.result()
        except submitit.core.utils.UncompletedJobError as error:
            failure = Failure(f"{work.title}:\n{error}")
    elif stopping or all(cell.finished for cell in cells):
        return None
    else:
        failure = Failure(
            f"{work.title}: its job {job.job_id} has ended without a word, and {job.paths.stderr} may say "
            "why; the same command goes on where it was saved",
            users=True,
        )
    worker.write_down(failure, cells)
    return failure
