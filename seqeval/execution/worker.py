"""One piece of work, wherever it runs: done, stored, and told of."""

from __future__ import annotations

import errno
import pickle
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from seqeval import datasets
from seqeval.errors import UserError
from seqeval.execution.jobs import Part, Work
from seqeval.execution.storage import Cell, RunDirectory
from seqeval.training import matmul
from seqeval.training.lockstep import Due, in_lockstep
from seqeval.types import Dataset, Row

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
    updates: int = 0  # of all replicas together, so far
    score: str = ""  # the latest on each dataset, over the seeds
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

    `save_every` and `overlap` are as `Part.rows` has them. One thread is not only the fastest way to use the
    cores: it makes the numbers independent of how many pieces run beside each other.
    """
    threads, failure, updates = torch.get_num_threads(), None, 0
    directory, title = RunDirectory(out), work.title
    torch.set_num_threads(1)

    def course(going: Going) -> Generator[Row | Due, None, None]:
        nonlocal title
        try:
            yield from going.part.rows(going.agents, going.dataset, directory, save_every, stop, overlap)
        except Exception:
            title = going.part.title  # whose it is
            raise

    try:
        if stop():
            return
        # They may have been begun already, by a process that died since.
        parts = [left for part in work.parts for left in part.remaining(directory)]
        data = _load(parts)
        with matmul.using(work.parts[0].arithmetic):
            going = [Going(part, data[part.dataset]) for part in parts]
            with _heartbeat(piece, work, going, put):
                for row in in_lockstep([course(each) for each in going]):
                    for each in going:
                        each.latest.add(row)
                    yield row
        if all(cell.finished for cell in work.cells(directory)):
            updates = work.updates
    except UserError as error:
        failure = Failure(f"{title}: {error}", users=True)
    except OSError as error:
        if error.errno not in FULL:
            failure = Failure(f"{title}:\n{traceback.format_exc()}")
        else:
            full = f"{error.filename or out}: {error.strerror}"
            failure = Failure(f"{full}; make room and give the same command again", users=True)
    except Exception:
        failure = Failure(f"{title}:\n{traceback.format_exc()}")
    finally:
        torch.set_num_threads(threads)
        if failure is not None:
            write_down(failure, work.cells(directory))
        put(Report(piece, updates, over=True, failure=failure))


@dataclass(frozen=True)
class Parcel:
    """A piece of work on its way to another process.

    It is unpickled there by `do_parcel` and not by what brings it, which would not say what is wrong: the
    file of a plug-in may have changed since the study began.
    """

    title: str
    cells: Sequence[Cell]
    work: bytes

    @classmethod
    def of(cls, work: Work, out: RunDirectory) -> Parcel:
        return cls(work.title, work.cells(out), pickle.dumps(work))


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


class Going:
    """A part of a piece, at work."""

    def __init__(self, part: Part, dataset: Dataset) -> None:
        self.part, self.dataset = part, dataset
        self.agents, self.latest = part.agents(dataset), Latest(part)

    @property
    def left(self) -> int:
        """Updates of all its replicas that are still to be made."""
        made = max(self.part.done, self.agents.algorithm.updates)
        return (self.part.updates - made) * self.part.replicas


def _load(parts: Sequence[Part]) -> dict[str, Dataset]:
    """Their datasets, each of them once, by the names that the user gave."""
    data: dict[str, Dataset] = {}
    for part in parts:
        if part.dataset not in data:
            how = part.study.env, part.study.protocol.data_rules, part.study.trust_pickle
            data[part.dataset] = datasets.load(part.dataset, *how)
    return data


def write_down(failure: Failure, cells: Sequence[Cell]) -> None:
    """Leaves word of a failure in those that it has kept from being finished."""
    for cell in cells:
        if not cell.finished:
            with suppress(OSError):  # the disk may be what has failed
                cell.fail(failure.text)


class Latest:
    """The mean over a part's replicas at the last point that all of them have come to, in words."""

    def __init__(self, part: Part) -> None:
        self.text = ""
        self._part, self._rows = part, list[Row]()

    def add(self, row: Row) -> None:
        """Takes no notice of rows of other parts."""
        if row.dataset != self._part.dataset_name or row.seed not in self._part.seeds:
            return
        self._rows.append(row)
        if len(self._rows) < self._part.replicas:
            return
        values = [row.return_mean if row.score is None else row.score for row in self._rows]
        good = [value for value in values if value is not None]
        if good:
            self.text = f"{sum(good) / len(good):.1f}"
        elif any(row.status != "ok" for row in self._rows):
            self.text = "failed"
        self._rows = []


def in_words(latest: Sequence[Latest]) -> str:
    """Of all the parts of a piece."""
    return ", ".join(each.text for each in latest if each.text)


@contextmanager
def _heartbeat(
    piece: int, work: Work, going: Sequence[Going], put: Callable[[Report], None]
) -> Iterator[None]:
    """Reports now and then how far the agents are, from beside the training."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            made = work.updates - sum(each.left for each in going)
            put(Report(piece, made, in_words([each.latest for each in going])))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
