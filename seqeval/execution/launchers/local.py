"""Pieces of work in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.managers import SyncManager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from seqeval import signals
from seqeval.errors import UserError
from seqeval.execution import worker
from seqeval.execution.jobs import Work
from seqeval.execution.progress import Display
from seqeval.execution.storage import RunDirectory
from seqeval.execution.worker import Failure, Parcel, Report
from seqeval.types import Row

TOPOLOGY = Path("/sys/devices/system/cpu")  # where Linux tells which processors share a core
GLANCE = 0.2  # seconds between two looks at whether to stop, and whether a process has died
TRIES = 2  # of a piece whose process dies


def cores() -> int:
    """Physical cores that this process may use: two threads of one core share its arithmetic units. Where the
    system does not tell, its processors."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = os.sched_getaffinity(0)
    try:
        return len({(TOPOLOGY / f"cpu{n}/topology/thread_siblings_list").read_text() for n in mine})
    except OSError:
        return len(mine)


def rows(
    works: Sequence[Work],
    out: RunDirectory,
    jobs: int,
    save_every: float,
    overlap: float,
    display: Display,
    stop: threading.Event,
) -> Iterator[Row | Failure]:
    """Does all the work, `jobs` pieces at a time; one that fails does not stop the others.

    Yields rows as they come, and of each piece that failed why. Once `stop` is set, the pieces save
    themselves and end. With one job the work is done in this process.
    """
    if jobs > 1:
        yield from _beside_each_other(works, out, jobs, save_every, overlap, display, stop)
        return
    for piece, work in enumerate(works):
        failures: list[Failure] = []

        def put(report: Report, failures: list[Failure] = failures) -> None:
            display.show(report)
            if report.failure:
                failures.append(report.failure)

        yield from worker.do(piece, work, out.path, put, stop.is_set, save_every, overlap)
        yield from failures


def _beside_each_other(
    works: Sequence[Work],
    out: RunDirectory,
    jobs: int,
    save_every: float,
    overlap: float,
    display: Display,
    stop: threading.Event,
) -> Iterator[Row | Failure]:
    """A process for each piece, which takes no other with it when it dies."""
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    try:
        with _signals_kept_from_children():
            manager.start(_begin_process)
    except EOFError as error:
        raise UserError(
            "worker processes could not start: in a script, call run under `if __name__ == '__main__':`, "
            "or pass jobs=1"
        ) from error
    with manager:
        reports: Any = manager.Queue()
        ending = manager.Event()

        def start(piece: int) -> BaseProcess:
            what = piece, Parcel.of(works[piece], out), out.path, reports, ending, save_every, overlap
            process = context.Process(target=_do, args=what, daemon=True)
            with _signals_kept_from_children():
                process.start()
            return process

        pieces = Pieces(len(works), jobs, start)
        try:
            yield from _collect(pieces, works, out, reports, display, stop, ending.set)
        except (EOFError, ConnectionError):
            yield Failure(
                f"{out.path}: the process between the pieces and this one died (out of memory?); the same "
                "command goes on where they were saved",
                users=True,
            )
        finally:  # a second Ctrl-C, or whoever asked for the rows wants no more
            for process in pieces.running.values():
                process.kill()


class Pieces:
    """Which pieces wait, which run, and how often each was begun."""

    def __init__(self, count: int, jobs: int, start: Callable[[int], BaseProcess]) -> None:
        self.waiting = list(range(count))
        self.running: dict[int, BaseProcess] = {}
        self.begun = [0] * count
        self._jobs, self._start = jobs, start

    def fill(self) -> None:
        """Starts as many as may run beside each other."""
        while self.waiting and len(self.running) < self._jobs:
            piece = self.waiting.pop(0)
            self.begun[piece] += 1
            self.running[piece] = self._start(piece)


def _collect(
    pieces: Pieces,
    works: Sequence[Work],
    out: RunDirectory,
    reports: Any,
    display: Display,
    stop: threading.Event,
    end: Callable[[], None],
) -> Iterator[Row | Failure]:
    """What the processes report until all of them are over. One that dies is begun once more, and goes on
    where it was saved."""
    told = set()  # pieces that have said themselves that they are over
    while True:
        if stop.is_set():
            end()
            pieces.waiting.clear()
        pieces.fill()
        # Looked at before the queue: what a process has put there is there once it is gone.
        gone = [piece for piece, process in pieces.running.items() if not process.is_alive()]
        try:
            report = reports.get(timeout=0 if gone else GLANCE)
        except queue.Empty:
            for piece in gone:
                del pieces.running[piece]
                if piece in told:
                    continue
                if pieces.begun[piece] < TRIES and not stop.is_set():
                    display.say(
                        f"note: {works[piece].title}: its process died; it goes on where it was saved"
                    )
                    pieces.waiting.insert(0, piece)
                else:
                    failure = _died(works[piece])
                    worker.write_down(failure, works[piece].cells(out))
                    display.show(Report(piece, over=True, failure=failure))
                    yield failure
            if not (pieces.waiting or pieces.running):
                return
            continue
        display.show(report)
        if report.row is not None:
            yield report.row
        if report.over:
            told.add(report.piece)
            if report.failure is not None:
                yield report.failure


def _died(work: Work) -> Failure:
    return Failure(
        f"{work.title}: its process died (out of memory?); the same command goes on where it was saved",
        users=True,
    )


def _do(
    piece: int, parcel: Parcel, out: Path, reports: Any, ending: Any, save_every: float, overlap: float
) -> None:
    """A piece of work in a process of its own."""
    _begin_process()
    stop = threading.Event()
    if ending.is_set():
        stop.set()

    def put(report: Report) -> None:
        reports.put(report)
        if ending.is_set():
            stop.set()

    for row in worker.do_parcel(piece, parcel, out, put, stop.is_set, save_every, overlap):
        put(Report(piece, row=row))


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """A process that is started meanwhile gets no signal before `_begin_process`, which is late: torch comes
    first."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # which unblocks them where it begins
    with signals.blocked_in_children():
        yield


def _begin_process() -> None:
    """Of a process of ours: it leaves signals to the one that started it, and ends once that one is gone,
    however that went: nobody hears it then."""
    signals.ignore()
    parent = multiprocessing.parent_process()
    assert parent is not None, "only for worker processes"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
