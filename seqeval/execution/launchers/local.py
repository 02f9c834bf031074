"""Jobs in processes of this machine; a single one at a time runs in the calling process."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from seqeval import signals
from seqeval.errors import UserError
from seqeval.execution.launchers import Launcher
from seqeval.execution.worker import Failure, JobPayload, run_payload
from seqeval.types import Row

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

TOPOLOGY = Path("/sys/devices/system/cpu")  # where Linux tells which processors share a core
POLL = 0.2  # seconds that `poll` waits for a process to end
ATTEMPTS = 2  # of a job whose process dies


def cores() -> int:
    """Physical cores that this process may use, since two threads of a core share its arithmetic units; its
    processors where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    try:
        return len({(TOPOLOGY / f"cpu{n}/topology/thread_siblings_list").read_text() for n in usable})
    except OSError:
        return len(usable)


@dataclass
class JobProcess:
    """A process with a job."""

    process: BaseProcess
    replies: Connection  # True once it has started, then why the job failed, or None


class Local(Launcher):
    """One process per job, up to `jobs` in parallel. A process that dies is started once more, and resumes
    from the last checkpoints."""

    def slots(self, device: str) -> int:
        return self.execution.jobs or (1 if device == "cuda" else cores())

    def has_spare_cpu(self, device: str, jobs: int) -> bool:
        return device == "cuda" or min(self.slots(device), jobs) < cores()

    def submit(self, payloads: Sequence[JobPayload], stop: threading.Event) -> None:
        self._payloads, self._stop = payloads, stop
        self._parallel = min(len(payloads), self.slots(payloads[0].device))
        self._waiting = list(range(len(payloads)))
        self._attempts = [0] * len(payloads)
        self._running: dict[int, JobProcess] = {}
        self._rows: Iterator[Row | Failure] = iter(())  # of the job in this process

    def poll(self) -> Mapping[int, Failure | None]:
        if self._parallel == 1:
            return self._poll_this_process()
        if self._stop.is_set():
            ended: dict[int, Failure | None] = dict.fromkeys(self._waiting)
            self._waiting.clear()
        else:
            ended = {}
            while self._waiting and len(self._running) < self._parallel:
                self._start(self._waiting.pop(0))
        wait([running.process.sentinel for running in self._running.values()], POLL)
        for place, running in list(self._running.items()):
            if not running.process.is_alive():
                ended |= self._end(place, running)
        return ended

    def _poll_this_process(self) -> Mapping[int, Failure | None]:
        """Continues the job in this process until it has stored a row or ended."""
        if not self._attempts[self._waiting[0]]:
            self._attempts[self._waiting[0]] = 1
            self._rows = run_payload(self._payloads[self._waiting[0]], self._stop)
        with _exit_raises():
            event = next(self._rows, None)
        if isinstance(event, Row):
            return {}
        return {self._waiting.pop(0): event}

    def _start(self, place: int) -> None:
        context = _context(self._payloads[place].device)
        replies, sender = context.Pipe(duplex=False)
        arguments = (self._payloads[place], dict(os.environ), sender)
        process = context.Process(target=_run, args=arguments, daemon=True)
        with _signals_blocked():
            process.start()
        sender.close()
        self._attempts[place] += 1
        self._running[place] = JobProcess(process, replies)

    def _end(self, place: int, running: JobProcess) -> dict[int, Failure | None]:
        """The outcome of a process that has ended; nothing if the job is started again."""
        del self._running[place]
        messages = list(_received(running.replies))
        if not messages and running.process.exitcode == 1:
            raise UserError(
                "worker processes could not start: in a script, call run under `if __name__ == '__main__':`, "
                "or use jobs=1"
            )
        if len(messages) == 2:
            return {place: messages[1]}
        title = self._payloads[place].title
        if self._attempts[place] < ATTEMPTS and not self._stop.is_set():
            self.notes.append(f"{title}: its process died; it resumes from its last checkpoint")
            self._waiting.insert(0, place)
            return {}
        failure = f"{title}: its process died (out of memory?); run the same command again to resume"
        return {place: Failure(failure, fixable=True)}

    def cancel(self) -> None:
        for running in self._running.values():
            running.process.kill()
        close = getattr(self._rows, "close", None)  # ends the job in this process, which stores its rows
        if close is not None:
            close()


@contextmanager
def _exit_raises() -> Iterator[None]:
    """`os._exit` raises SystemExit in this process, which is that of the whole study: a plug-in that calls
    it would end the study with an exit code of its own and without a message."""
    process, end = os.getpid(), os._exit

    def raise_exit(status: int) -> NoReturn:
        if os.getpid() != process:  # a fork, which must end here
            end(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = raise_exit
    try:
        yield
    finally:
        os._exit = end


def _received(replies: Connection) -> Iterator[Any]:
    try:
        while replies.poll():
            yield replies.recv()
    except EOFError:
        return


def _context(device: str) -> SpawnContext | ForkServerContext:
    """How processes start: on a CPU as forks of a server process that has imported torch, where the system
    can, so that the many jobs of a study do not import it one by one. A fork cannot use CUDA safely."""
    if device == "cuda" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _run(payload: JobPayload, environment: Mapping[str, str], replies: Connection) -> None:
    """The process of a job. The environment is that of the study, not of an earlier one in its process."""
    os.environ.clear()
    os.environ.update(environment)
    _end_with_parent()
    replies.send(True)
    failure = None
    for event in run_payload(payload, threading.Event()):
        if isinstance(event, Failure):
            failure = event
    replies.send(failure)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started in this context receives no signal before it ignores them itself, which is
    late: it imports torch first."""
    if os.name != "nt":
        resource_tracker.ensure_running()  # it unblocks signals when it starts
    with signals.blocked_in_children():
        yield


def _end_with_parent() -> None:
    """Leaves signals to the parent process, and ends this process when the parent has ended in any way."""
    signals.ignore()
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a child process"

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
