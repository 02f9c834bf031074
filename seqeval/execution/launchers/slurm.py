"""Jobs as tasks of a Slurm array, through submitit.

Shortly before its time limit a job receives SIGUSR2 from Slurm, saves itself and is requeued with `scontrol
requeue`; one that is preempted or cancelled receives SIGTERM, saves itself and ends, and is resumed if the
cluster requeues preempted jobs. It resumes from its last checkpoints, so the study directory must be on
storage that every machine sees. Rows and progress reach the driver through that storage too; submitit's files
and what the jobs print are in a new folder of DIR/slurm for each submission.

The tests use submitit's local executor, which starts processes of this machine: they show that a job that is
signalled saves itself, is restarted and ends with the same rows, and what squeue and scancel are asked. They
do not show what Slurm does: that it accepts the array, sends signals in time, requeues, and answers as the
stand-ins of the tests do. That was tried by hand, on a Slurm 22.05 of one machine without accounting: time
limit, preemption, a killed process, scancel, Ctrl-C, a detached study; not GPUs or several machines.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqeval.config import Execution
from seqeval.errors import UserError
from seqeval.execution.driver_state import DriverState
from seqeval.execution.launchers import Launcher
from seqeval.execution.remote import RemoteJob
from seqeval.execution.slurm_queue import arrays, queued
from seqeval.execution.storage import StudyDirectory
from seqeval.execution.worker import Failure, JobPayload

try:
    import submitit
    from submitit.helpers import Checkpointable, DelayedSubmission
except ImportError as error:
    raise UserError("launcher slurm: submitit is not installed; pip install 'seqeval-rl[slurm]'") from error

CLUSTER = "slurm"  # submitit's name of the executor; the tests use "local"
POLL = 2.0  # seconds between two looks at the results
QUERY_EVERY = 20.0  # seconds between two calls of squeue
LAG = 60.0  # seconds until a file is visible on another machine
WARNING = 120  # seconds before the time limit at which a job is signalled
REQUEUES = 1000  # of a job that reaches its time limit


class SlurmTask(Checkpointable):
    """A job as submitit runs it, which calls `checkpoint` before the job is ended.

    The job runs in a second thread, so that the main one can handle signals at any time.
    """

    def __init__(self, job: RemoteJob) -> None:
        self._job = job
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SlurmTask, (self._job,)

    def __call__(self) -> Failure | None:
        terminated, failures = list[int](), list[Failure | None]()

        def terminate(signum: int, _: Any) -> None:
            terminated.append(signum)
            self._stop.set()

        signal.signal(signal.SIGTERM, terminate)
        self._thread = threading.Thread(target=lambda: failures.append(self._job.run(self._stop)))
        self._thread.start()
        self._wait()
        if terminated:
            sys.exit(128 + signal.SIGTERM)  # without a result: to submitit the job has not completed
        return failures[0]

    def checkpoint(self) -> DelayedSubmission:
        """Waits until the job has saved itself; returns what resumes it."""
        self._stop.set()
        self._wait()
        return DelayedSubmission(self)

    def _wait(self) -> None:
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)


class Slurm(Launcher):
    """One task of an array per job."""

    def __init__(self, execution: Execution, out: Path) -> None:
        super().__init__(execution, out)
        self.settings = execution.slurm
        self.device = "cuda" if self.settings.gpus else "cpu"
        self._tasks: dict[int, submitit.Job[Failure | None]] = {}  # that have not ended
        self._ids: tuple[str, ...] = ()
        self._queried, self._gone = time.monotonic(), dict[str, float]()
        self._results: dict[str, float] = {}  # when the result of a task was first seen
        self._stopping = False

    def slots(self, device: str) -> int:
        return self.execution.jobs or 1

    def has_spare_cpu(self, device: str, jobs: int) -> bool:
        return self.settings.cpus > 1

    def submit(self, payloads: Sequence[JobPayload], stop: threading.Event) -> None:
        self._payloads, self._stop = payloads, stop
        options = dict(option.strip("-").partition("=")[::2] for option in self.settings.more)
        try:
            executor = submitit.AutoExecutor(
                _new_folder(self.out), cluster=CLUSTER, slurm_max_num_timeout=REQUEUES
            )
            executor.update_parameters(
                name="seqeval",
                timeout_min=self.settings.time_limit,
                cpus_per_task=self.settings.cpus,
                gpus_per_node=self.settings.gpus or None,
                mem_gb=self.settings.memory,
                slurm_partition=self.settings.partition,
                slurm_array_parallelism=self.execution.jobs or len(payloads),
                slurm_signal_delay_s=WARNING,
                slurm_additional_parameters={key: value or True for key, value in options.items()},
            )
            tasks = executor.submit_array([SlurmTask(RemoteJob.create(payload)) for payload in payloads])
        except (RuntimeError, OSError) as error:  # no Slurm here, or a refusal
            raise UserError(f"launcher slurm: {' '.join(str(error).split())}") from error
        self._tasks = dict(enumerate(tasks))
        self._ids = tuple(task.job_id for task in tasks)
        DriverState(queued=self._ids).write(self.out)

    def poll(self) -> Mapping[int, Failure | None]:
        if self._stop.is_set() and not self._stopping:
            self._stopping = True
            self._cancel("--state=PENDING")
        self._query(POLL if self._stopping else QUERY_EVERY)
        ended = [place for place, task in self._tasks.items() if self._has_ended(place, task)]
        if not ended:
            time.sleep(POLL)
        return {place: self._failure(place, self._tasks.pop(place)) for place in ended}

    def _has_ended(self, place: int, task: submitit.Job[Failure | None]) -> bool:
        """Whether a task has left a failure, has finished its runs and left a result, or has gone for a
        while."""
        if not task.paths.result_pickle.exists():
            return self._seconds_gone(task.job_id) > (0.0 if self._stopping else LAG)
        first_seen = self._results.setdefault(task.job_id, time.monotonic())
        return (
            self._stopping
            or self._runs_finished(place)
            or self._reported(place, task) is not None
            or time.monotonic() - first_seen > LAG
        )

    def _failure(self, place: int, task: submitit.Job[Failure | None]) -> Failure | None:
        """Why a task that has ended failed, if it did."""
        has_result = task.paths.result_pickle.exists()
        reported = self._reported(place, task) if has_result else None
        if reported is not None or self._stopping or self._runs_finished(place):
            return reported
        end = "reported its end, but its runs have not finished" if has_result else "ended without a result"
        return Failure(
            f"{self._payloads[place].title}: its Slurm job {task.job_id} {end}; see {task.paths.stderr}, "
            "and run the same command again to resume",
            fixable=True,
        )

    def _runs_finished(self, place: int) -> bool:
        payload = self._payloads[place]
        directory = StudyDirectory(payload.out)
        return all(directory.run(*key).finished for key in payload.runs)

    def _reported(self, place: int, task: submitit.Job[Failure | None]) -> Failure | None:
        """The failure in the result of a task, if it has one."""
        try:
            return task.result()
        except submitit.core.utils.UncompletedJobError as error:
            return Failure(f"{self._payloads[place].title}:\n{error}")

    def _query(self, every: float) -> None:
        """Asks Slurm which tasks are left, unless it did so less than so many seconds ago."""
        now = time.monotonic()
        if now - self._queried < every:
            return
        self._queried = now
        try:
            left = queued(self._ids)
        except UserError as error:  # Slurm may be busy; the jobs continue without it
            self.notes.append(str(error))
            return
        self._gone = {task: self._gone.get(task, now) for task in self._ids if task not in left}

    def _seconds_gone(self, task: str) -> float:
        """Seconds since a task was first not in the queue; -1 if it is."""
        return time.monotonic() - self._gone[task] if task in self._gone else -1.0

    def cancel(self) -> None:
        if self._tasks:
            self._cancel()

    def _cancel(self, *options: str) -> None:
        subprocess.run(["scancel", *options, *arrays(self._ids)], check=False)


def _new_folder(out: Path) -> Path:
    """A new folder for submitit's files, which only this user may enter.

    Results are pickles, named after job ids that a cluster uses again once it is set up anew: a result in a
    folder of an earlier submission may be of another job, or anybody's.
    """
    parent = out.absolute() / "slurm"
    parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))
