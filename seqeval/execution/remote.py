"""Pieces of work on other machines: what they and their driver tell each other, all of it in files of the run
directory, which every machine must see under one path.

A piece stores its rows and says in its cells how far it is, as everywhere; the driver reads that. The driver
writes DIR/driver.json: whether the pieces are to stop, and what it has put into a queue. Whoever looks at a
file opens it anew, for that is when NFS asks the server for news.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seqeval import atomic_io
from seqeval.errors import UserError
from seqeval.execution import worker
from seqeval.execution.jobs import Work
from seqeval.execution.storage import Cell, RunDirectory
from seqeval.execution.worker import Failure, Latest, Parcel, Report, in_words
from seqeval.types import Row

GONE = {errno.ENOENT, errno.ESTALE}  # a file, because its cell begins again


@dataclass(frozen=True)
class Word:
    """What the driver of a study tells its pieces, and whoever comes after it."""

    stop: bool = False
    jobs: tuple[str, ...] = ()  # of Slurm's queue, as squeue calls them

    def leave(self, out: Path) -> None:
        atomic_io.save_json(out / "driver.json", asdict(self))

    @classmethod
    def of(cls, out: Path) -> Word:
        try:
            left = json.loads((out / "driver.json").read_text())
        except FileNotFoundError:
            return cls()
        return cls(left["stop"], tuple(left["jobs"]))


@dataclass(frozen=True)
class Errand:
    """A piece of work with all that it takes to do it somewhere else."""

    parcel: Parcel
    out: Path  # absolute
    save_every: float
    overlap: float
    folder: Path  # that relative paths, as of datasets, begin at
    data: str | None  # $SEQEVAL_DATA

    @classmethod
    def of(cls, work: Work, out: RunDirectory, save_every: float, overlap: float) -> Errand:
        out = RunDirectory(out.path.absolute())
        data = os.environ.get("SEQEVAL_DATA")
        return cls(Parcel.of(work, out), out.path, save_every, overlap, Path.cwd(), data)

    def do(self, stop: threading.Event) -> Failure | None:
        """Does it, or what is left of it, and returns why it failed if it did. It is saved and ends early
        once `stop` is set, which the driver's word does too."""
        failures = []

        def put(report: Report) -> None:
            if report.failure is not None:
                failures.append(report.failure)
            if Word.of(self.out).stop:
                stop.set()

        if not RunDirectory(self.out).study_file.exists():
            where = f"{socket.gethostname()} does not see {self.out}"
            return Failure(f"{self.parcel.title}: {where}; give an --out that all machines see", users=True)
        if self.folder.is_dir():
            os.chdir(self.folder)
        if self.data is not None:
            os.environ["SEQEVAL_DATA"] = self.data
        if Word.of(self.out).stop:
            return None
        how = self.save_every, self.overlap
        for _ in worker.do_parcel(0, self.parcel, self.out, put, stop.is_set, *how):
            pass
        return failures[0] if failures else None


class Follower:
    """Reads what pieces store, while they store it."""

    def __init__(self, works: Sequence[Work], out: RunDirectory) -> None:
        self._works = works
        self._tails = [
            [(Tail(cell), part) for part in work.parts for cell in part.cells(out)] for work in works
        ]
        self._latest = [[Latest(part) for part in work.parts] for work in works]
        self._told = [work.done for work in works]

    def news(self, piece: int) -> list[Report]:
        """What is new of a piece: a report for each row, and one where it has been saved since."""
        latest, reports = self._latest[piece], []
        found = [row for tail, _ in self._tails[piece] for row in tail.rows()]
        for row in sorted(found, key=lambda row: row.updates):
            for each in latest:
                each.add(row)
            reports.append(Report(piece, score=in_words(latest), row=row))
        updates = self._updates(piece)
        if updates > self._told[piece]:
            self._told[piece] = updates
            reports.append(Report(piece, updates, in_words(latest)))
        return reports

    def over(self, piece: int, failure: Failure | None) -> Report:
        """The last that there is to say of a piece."""
        finished = all(tail.cell.finished for tail, _ in self._tails[piece])
        return Report(piece, self._works[piece].updates if finished else 0, over=True, failure=failure)

    def _updates(self, piece: int) -> int:
        """Of all its replicas together, as far as their cells tell."""
        return sum(
            part.replicas_of_seed * (part.updates if tail.cell.finished else tail.updates())
            for tail, part in self._tails[piece]
        )


class Tail:
    """The rows of a cell that another process writes, each of them once. That process may have to go back
    and write some again, which are the same then."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._bytes = self._known = self._updates = 0
        self._known = len(self._lines())

    def rows(self) -> list[Row]:
        """Those that are new."""
        lines = self._lines()
        new, self._known = lines[self._known :], max(self._known, len(lines))
        rows = [_row(line) for line in new]
        self._updates = max([self._updates, *(row.updates for row in rows)])
        return rows

    def updates(self) -> int:
        """How many there have been at least, by what it tells and by its rows."""
        word = self.cell.told()
        return max(self._updates, word["updates"] if word else 0)

    def _lines(self) -> list[str]:
        """All that are whole; none where the file is as long as it was."""
        try:
            with self.cell.rows.open() as file:
                before, self._bytes = self._bytes, os.fstat(file.fileno()).st_size
                text = "" if self._bytes == before else file.read()
        except OSError as error:
            if error.errno not in GONE:
                raise
            return []
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _row(line: str) -> Row:
    """What `Cell.append` wrote."""
    values = json.loads(line)
    metrics = {key: math.nan if value is None else value for key, value in values.pop("metrics").items()}
    return Row(**values, metrics=metrics)


def arrays(jobs: Collection[str]) -> list[str]:
    """What scancel and squeue call all the tasks of an array."""
    return sorted({job.partition("_")[0] for job in jobs})


def queued(jobs: Collection[str]) -> set[str]:
    """Those of Slurm's jobs that wait or run.

    Raises UserError where Slurm does not answer.
    """
    if not jobs:
        return set()
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(arrays(jobs))}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode and "Invalid job id" not in said.stderr:  # which it says of those that are long over
        raise UserError(f"squeue: {' '.join(said.stderr.split()) or said.returncode}")
    return set(jobs) & set(said.stdout.split())


def refuse_while_queued(out: Path) -> None:
    """Raises UserError where pieces of the study are in Slurm's queue still, from an earlier call."""
    if shutil.which("squeue") is None:
        return
    if left := queued(Word.of(out).jobs):
        raise UserError(
            f"{out}: pieces of it are in Slurm's queue or running ({len(left)}); wait for them (`seqeval "
            f"status {out} --watch`), or end them first (`scancel {' '.join(arrays(left))}`)"
        )
