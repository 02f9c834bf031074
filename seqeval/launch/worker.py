"""One piece of work, wherever it runs: done, stored, and told of."""

from __future__ import annotations

import errno
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from seqeval import arithmetic, datasets
from seqeval.agents import Agents
from seqeval.errors import UserError
from seqeval.storage import Cell, RunDirectory
from seqeval.study import Stopped, Work
from seqeval.types import Row

HEARTBEAT = 0.5  # seconds between two looks at how far a piece is
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Failure:
    """Why a piece of work was not done."""

    text: str
    users: bool = False  # it is the user's to mend, and the text a line; else it holds a traceback


@dataclass(frozen=True)
class Report:
    """What a worker says of its piece of work."""

    piece: int
    updates: int = 0  # of each replica, so far
    score: str = ""  # the latest, over the seeds
    row: Row | None = None  # that has just been stored
    over: bool = False
    failure: Failure | None = None


def do(
    piece: int,
    work: Work,
    out: Path,
    put: Callable[[Report], None],
    stop: Callable[[], bool],
    save_every: float,
    overlap: float,
) -> Iterator[Row]:
    """Does a piece of work with one thread, yields its rows as they are stored, and hands reports to `put`,
    the last of them when it is over: because it is done, because it failed, or because `stop` said so and it
    has saved itself.

    `save_every` and `overlap` are as `Work.rows` has them. One thread is not only the fastest way to use the
    cores: it makes the numbers independent of how many pieces run beside each other.
    """
    threads, failure, updates = torch.get_num_threads(), None, 0
    torch.set_num_threads(1)
    try:
        if stop():
            return
        study = work.study
        dataset = datasets.load(work.dataset, study.env, study.protocol.data_rules, study.trust_pickle)
        # It may have been begun already, by a process that died since.
        with arithmetic.using(work.arithmetic):
            for part in work.remaining(RunDirectory(out)):
                agents = part.agents(dataset)
                latest = Latest(len(agents.algorithm.seeds))
                with _heartbeat(piece, agents, latest, put):
                    for row in part.rows(agents, dataset, RunDirectory(out), save_every, stop, overlap):
                        latest.add(row)
                        yield row
        updates = work.updates
    except Stopped:
        pass
    except UserError as error:
        failure = Failure(f"{work.title}: {error}", users=True)
    except OSError as error:
        if error.errno not in FULL:
            failure = Failure(f"{work.title}:\n{traceback.format_exc()}")
        else:
            full = f"{error.filename or out}: {error.strerror}"
            failure = Failure(f"{full}; make room and give the same command again", users=True)
    except Exception:
        failure = Failure(f"{work.title}:\n{traceback.format_exc()}")
    finally:
        torch.set_num_threads(threads)
        if failure is not None:
            write_down(failure, cells(work, RunDirectory(out)))
        put(Report(piece, updates, over=True, failure=failure))


@dataclass(frozen=True)
class Parcel:
    """A piece of work on its way to another process.

    It is unpickled there by `do_parcel` and not by what brings it, which would not say what is wrong: the
    file of a plug-in may have changed since the study began.
    """

    title: str
    cells: tuple[Cell, ...]
    work: bytes

    @classmethod
    def of(cls, work: Work, out: RunDirectory) -> Parcel:
        return cls(work.title, cells(work, out), pickle.dumps(work))


def do_parcel(
    piece: int,
    parcel: Parcel,
    out: Path,
    put: Callable[[Report], None],
    stop: Callable[[], bool],
    save_every: float,
    overlap: float,
) -> Iterator[Row]:
    """As `do`."""
    try:
        work = pickle.loads(parcel.work)
    except UserError as error:
        failure = Failure(f"{parcel.title}: {error}", users=True)
        write_down(failure, parcel.cells)
        put(Report(piece, over=True, failure=failure))
        return
    yield from do(piece, work, out, put, stop, save_every, overlap)


def cells(work: Work, out: RunDirectory) -> tuple[Cell, ...]:
    """Where a piece of work is kept."""
    return tuple(out.cell(work.dataset_name, work.variant.name, seed) for seed in work.seeds)


def write_down(failure: Failure, cells: Sequence[Cell]) -> None:
    """Leaves word of a failure in those that it has kept from being finished."""
    for cell in cells:
        if not cell.finished:
            with suppress(OSError):  # the disk may be what has failed
                cell.fail(failure.text)


class Latest:
    """The mean over replicas at the last point that all of them have come to, in words."""

    def __init__(self, replicas: int) -> None:
        self.text = ""
        self._replicas, self._rows = replicas, list[Row]()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) < self._replicas:
            return
        values = [row.return_mean if row.score is None else row.score for row in self._rows]
        good = [value for value in values if value is not None]
        if good:
            self.text = f"{sum(good) / len(good):.1f}"
        elif any(row.status != "ok" for row in self._rows):
            self.text = "failed"
        self._rows = []


@contextmanager
def _heartbeat(piece: int, agents: Agents, latest: Latest, put: Callable[[Report], None]) -> Iterator[None]:
    """Reports now and then how far the agents are, from beside the training."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            put(Report(piece, agents.algorithm.updates, latest.text))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
