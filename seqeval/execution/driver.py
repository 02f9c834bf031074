"""Runs or resumes a study. Finished runs in its directory are kept."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from seqeval import faults
from seqeval.config import Execution, Study
from seqeval.errors import PluginError, UserError, printable
from seqeval.execution import launchers, logs
from seqeval.execution.driver_state import DriverState
from seqeval.execution.jobs import ResolvedStudy, resolve
from seqeval.execution.launchers import Launcher
from seqeval.execution.progress import Display, JobMonitor, default_console
from seqeval.execution.remaining import files
from seqeval.execution.slurm_queue import refuse_while_queued
from seqeval.execution.storage import StudyDirectory, frame
from seqeval.execution.worker import Failure, JobPayload
from seqeval.training.job import Job
from seqeval.types import Row

if TYPE_CHECKING:
    import pandas as pd

SWITCH_AFTER = 5.0  # seconds of evaluation before a second process is worth its start
LOCAL = Execution()


class JobsFailed(Exception):
    """Jobs of a study failed; the message holds their tracebacks. The others are finished and stored."""


class JobsIncomplete(UserError):
    """Raised instead of JobsFailed if every failure is a user error; the message has a line for each job."""

    several_lines = True


def run(
    study: Study,
    out: str | Path,
    execution: Execution = LOCAL,
    console: Console | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> pd.DataFrame:
    """Runs what has not finished of a study in the directory `out`, and returns all of its rows.

    `on_row` is called with each new row once it is stored, in this process. If it raises an exception, the
    jobs are ended at once and the exception is raised; the same study resumes from the last checkpoints.
    Run the same study again to resume it. If it runs several jobs, a script must call this under `if __name__
    == "__main__":`, since jobs run in new processes. With `slurm.detach` it returns the rows that are there
    already. Raises UserError, before anything is trained, for what the user can fix, and at the end, if jobs
    failed, JobsIncomplete (a UserError), PluginError or JobsFailed. On Ctrl-C or SIGTERM it waits until all
    jobs have saved a checkpoint and then raises KeyboardInterrupt; a second signal raises it immediately.
    """
    import pandas as pd

    with closing(rows(study, out, execution, console)) as new:
        for row in new:
            if on_row is not None:
                on_row(row)
    if execution.detached and next(StudyDirectory(Path(out)).rows(), None) is None:
        return pd.DataFrame()
    return frame([Path(out)])


def rows(
    study: Study, out: str | Path, execution: Execution = LOCAL, console: Console | None = None
) -> Generator[Row]:
    """As `run`, but yields each new row once it is stored."""
    for name, value, kind in (("study", study, Study), ("execution", execution, Execution)):
        if not isinstance(value, kind):
            raise UserError(f"{name}: must be of the type {kind.__name__}, not {value!r}")
    console = console or default_console()
    launcher, resolved = prepare(study, out, execution)
    directory = StudyDirectory(Path(out))
    with directory.locked():
        refuse_while_queued(directory.path)
        directory.admit(resolved.describe(), execution.redo)
        resolved = resolved.resumed(directory.study())
        for note in resolved.notes:
            console.print(f"note: {printable(note)}", highlight=False, markup=False)
        if resolved.is_finished(directory):
            console.print(f"{directory.path}: every run is finished", highlight=False)
            yield from _logged(iter(()), directory, execution)
            return
        with launcher:
            with faults.reported():
                jobs = resolved.jobs(directory, launcher.slots(resolved.device), execution.group)
            _print_resumed(jobs, directory, console)
            new = _run_jobs(launcher, jobs, directory, execution, console)
            yield from _logged(new, directory, execution)


def prepare(study: Study, out: str | Path, execution: Execution) -> tuple[Launcher, ResolvedStudy]:
    """The launcher and the resolved study; nothing is written. Raises UserError for what does not fit."""
    launcher = launchers.find(execution.launcher)(execution, Path(out))
    if launcher.device is not None and study.device not in ("auto", launcher.device):
        raise UserError(
            f"device: is {study.device}, but the jobs of launcher {execution.launcher} run on "
            f"{launcher.device}; change device, or the launcher's number of GPUs"
        )
    if execution.log is not None:
        logs.find(execution.log)  # raises UserError if it is not installed
    with faults.reported():
        return launcher, resolve(study, launcher.device)


def _print_resumed(jobs: Sequence[Job], directory: StudyDirectory, console: Console) -> None:
    for job in jobs:
        if job.done:
            note = f"resumes after {job.done} of {job.total_updates(job.replicas[0])} updates"
        elif any(run.checkpoint.exists() for run in files(job, directory).values()):
            note = "its checkpoint cannot be used; it starts again"
        else:
            continue
        console.print(f"note: {printable(job.title)}: {note}", highlight=False, markup=False)


def _switch_after(execution: Execution, launcher: Launcher, device: str, jobs: int) -> float:
    """Seconds of evaluation after which a job evaluates in a second process."""
    if execution.overlap == "auto" and not launcher.has_spare_cpu(device, jobs):
        return math.inf
    # On a GPU the two processes round differently, so the second one evaluates from the start: which of them
    # does must not depend on time.
    return {"off": math.inf, "on": 0.0, "auto": SWITCH_AFTER if device == "cpu" else 0.0}[execution.overlap]


def _run_jobs(
    launcher: Launcher,
    jobs: Sequence[Job],
    directory: StudyDirectory,
    execution: Execution,
    console: Console,
) -> Iterator[Row]:
    """Runs all jobs and yields their rows; one that fails does not stop the others, and what there is to
    raise is raised at the end."""
    out = directory.path
    switch_after = _switch_after(execution, launcher, jobs[0].device, len(jobs))
    payloads = [
        JobPayload.create(job, out, execution.save_every, switch_after, execution.keep_policies)
        for job in jobs
    ]
    monitors = [JobMonitor(job, directory) for job in jobs]
    DriverState.remove(out)
    failures, running = list[Failure](), set(range(len(jobs)))
    with _stop_on_signals() as stop, Display(monitors, console) as display:
        launcher.submit(payloads, stop)
        if execution.detached:
            display.say(f"jobs in the queue: {len(jobs)}; see `seqeval status {out} --watch`")
            return
        try:
            while running:
                if stop.is_set() and not DriverState.read(out).stop:
                    replace(DriverState.read(out), stop=True).write(out)
                # Before the files are read: the rows of a job that has ended are all there.
                ended = launcher.poll()
                for place in sorted(running):
                    yield from monitors[place].new_rows()
                for place, failure in ended.items():
                    running.discard(place)
                    display.end(place, failure)
                    if failure is not None:
                        failures.append(failure)
                        _record(failure, jobs[place], directory)
                for note in launcher.notes:
                    display.say(f"note: {note}")
                launcher.notes.clear()
        finally:  # a second Ctrl-C, or the caller wants no more rows
            if running:
                launcher.cancel()
            elif stop.is_set():
                DriverState(stop=True).write(out)  # also for jobs that a cluster restarts later
            else:
                DriverState.remove(out)
    if failures:
        text = "\n".join(failure.text for failure in failures)
        if any(not failure.fixable and failure.traceback is None for failure in failures):
            raise JobsFailed(text)
        if any(failure.traceback is not None for failure in failures):
            raise PluginError(text, "\n".join(failure.record for failure in failures))
        raise JobsIncomplete(text)
    if stop.is_set():
        raise KeyboardInterrupt


def _record(failure: Failure, job: Job, directory: StudyDirectory) -> None:
    """Writes error.txt for the runs of a job that could not do that itself."""
    for run in files(job, directory).values():
        if not run.finished and not run.error.exists():
            run.write_error(failure.record)


def _logged(rows: Iterator[Row], directory: StudyDirectory, execution: Execution) -> Iterator[Row]:
    """The rows, written to the study's log first, if it has one."""
    if execution.log is None:
        yield from rows
        return
    with logs.find(execution.log)(directory) as log:
        for row in rows:
            log.add(asdict(row))
            yield row


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The second one raises KeyboardInterrupt at once."""
    stop = threading.Event()

    def handle(signum: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        text = "\nstopping: every job saves a checkpoint; press Ctrl-C again to stop immediately\n"
        os.write(2, text.encode())

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
