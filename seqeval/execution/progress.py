"""The driver's view of running jobs: new rows and progress, read from the study directory, and their
display."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from seqeval.durations import format_duration
from seqeval.errors import printable
from seqeval.execution.remaining import files
from seqeval.execution.storage import Run, StudyDirectory
from seqeval.execution.worker import Failure
from seqeval.time_left import TimeLeft
from seqeval.training.job import Job, RunKey
from seqeval.types import Row

REFRESH = 0.5  # seconds between two updates of the display
PLAIN_EVERY = 10.0  # seconds at least between two lines of progress if the output is not a terminal
LATER_EVERY = 0.05  # of the time that has passed: a long study prints fewer lines
WIDTH = 200  # columns of a line if the output is not a terminal
GONE = {errno.ENOENT, errno.ESTALE}  # of a file whose run starts again


class RowReader:
    """Reads the rows of a run that another process writes, each of them once. A resumed run writes some of
    them again, with the same content."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bytes = 0
        self._known = len(self._lines())

    def new(self) -> list[Row]:
        """The rows since the last call."""
        lines = self._lines()
        new, self._known = lines[self._known :], max(self._known, len(lines))
        return [_row(line) for line in new]

    def _lines(self) -> list[str]:
        """All complete lines; none if the size of the file has not changed."""
        try:
            with self._run.rows.open() as file:
                before, self._bytes = self._bytes, os.fstat(file.fileno()).st_size
                text = "" if self._bytes == before else file.read()
        except OSError as error:
            if error.errno not in GONE:
                raise
            return []
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _row(line: str) -> Row:
    """What `Run.append` wrote."""
    values = json.loads(line)
    for group in ("metrics", "evaluations"):
        values[group] = {k: math.nan if v is None else v for k, v in values[group].items()}
    return Row(**values)


class JobMonitor:
    """Follows one job."""

    def __init__(self, job: Job, directory: StudyDirectory) -> None:
        self.job, self.title = job, printable(job.title)
        self.total = job.updates  # of all replicas together
        self.updates = self.resumed_at = job.done * len(job.replicas)
        self.score = ""  # the latest mean over the replicas of each dataset
        self._runs = files(job, directory)
        self._replicas = Counter(replica.run for replica in job.replicas)
        self._totals = Counter[RunKey]()  # updates of each run, all of its replicas together
        for replica in job.replicas:
            self._totals[replica.run] += job.total_updates(replica)
        self._readers = [RowReader(run) for run in self._runs.values()]
        self._started = False
        self._rows: dict[str, list[Row]] = {name: [] for name in job.datasets}
        self._scores: dict[str, str] = {}

    def new_rows(self) -> list[Row]:
        """The rows since the last call, those with fewer updates first."""
        readers = self._readers if self._has_started() else ()
        rows = sorted((row for reader in readers for row in reader.new()), key=lambda row: row.updates)
        for row in rows:
            self._rows[row.dataset].append(row)
            replicas = sum(replica.dataset == row.dataset for replica in self.job.replicas)
            if len(self._rows[row.dataset]) >= replicas:
                self._scores[row.dataset] = _mean_score(self._rows[row.dataset])
                self._rows[row.dataset] = []
        self.score = ", ".join(filter(None, self._scores.values()))
        return rows

    def look(self) -> None:
        """Reads how many updates all replicas have made together."""
        if not self._has_started():
            return
        updates = 0
        for key, run in self._runs.items():
            progress = run.read_progress()
            if run.finished:
                updates += self._totals[key]
            elif progress is not None:
                updates += progress["updates"] * self._replicas[key]
        self.updates = max(self.updates, updates)

    def _has_started(self) -> bool:
        """Whether there may be rows and progress; fast, since a study may have hundreds of waiting jobs."""
        if not self._started:  # a job opens all of its runs first
            self._started = next(iter(self._runs.values())).rows.exists()
        return self._started


def _mean_score(rows: Sequence[Row]) -> str:
    values = [row.return_mean if row.score is None else row.score for row in rows]
    found = [value for value in values if value is not None]
    if found:
        return f"{sum(found) / len(found):.1f}"
    return "failed" if any(row.status != "ok" for row in rows) else ""


def default_console() -> Console:
    """Standard error; in a notebook standard output, and as plain text, since cells keep what is redrawn."""
    if Console().is_jupyter:
        return Console(force_jupyter=False, force_terminal=False, width=WIDTH)
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=WIDTH)


class Display:
    """Shows the progress of jobs: bars on a terminal, otherwise a line now and then. A context manager."""

    def __init__(self, monitors: Sequence[JobMonitor], console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeLeft(),
            TextColumn("{task.fields[score]}"),
        )
        self._monitors, self._console = monitors, console
        self._total = sum(monitor.total for monitor in monitors)
        self._at_first, self._ended = self._updates(), set[int]()
        self._start = self._last_line = time.monotonic()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._tasks: dict[int, Any] = {}
        self._live = console.is_terminal
        self._progress = Progress(*columns, console=console, disable=not self._live, speed_estimate_period=60)
        self._overall = self._progress.add_task("", total=self._total, rate="", score="")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Display:
        self._progress.start()
        self._refresh_overall()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()
        self._progress.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        self._console.print(text, highlight=False, markup=False)

    def end(self, place: int, failure: Failure | None) -> None:
        """Shows that a job has ended."""
        with self._lock:
            monitor = self._monitors[place]
            monitor.look()
            self._ended.add(place)
            if place in self._tasks:
                self._progress.remove_task(self._tasks.pop(place))
            self._refresh_overall()
            if not self._live:
                finished = monitor.updates >= monitor.total
                self._print_line(monitor, "failed" if failure else "finished" if finished else "stopped")

    def _watch(self) -> None:
        while not self._closing.wait(REFRESH):
            with self._lock:
                for place, monitor in enumerate(self._monitors):
                    if place not in self._ended:
                        before = monitor.updates
                        monitor.look()
                        if monitor.updates > before:
                            self._show(place, monitor)
                self._refresh_overall()

    def _show(self, place: int, monitor: JobMonitor) -> None:
        if not self._live:
            now = time.monotonic()
            if now - self._last_line > max(PLAIN_EVERY, LATER_EVERY * (now - self._start)):
                self._print_line(monitor, f"last {monitor.score}" if monitor.score else "started")
            return
        if place not in self._tasks:
            self._tasks[place] = self._progress.add_task(
                monitor.title, total=monitor.total, completed=monitor.resumed_at, rate="", score=""
            )
        task = self._tasks[place]
        score = monitor.score and f"last {monitor.score}"
        self._progress.update(task, completed=monitor.updates, score=score)
        speed = self._progress.tasks[self._progress.task_ids.index(task)].speed
        self._progress.update(task, rate=f"{speed:.0f} updates/s" if speed else "")

    def _updates(self) -> int:
        return sum(monitor.updates for monitor in self._monitors)

    def _refresh_overall(self) -> None:
        ended = f"{len(self._ended)} of {len(self._monitors)} jobs"
        self._progress.update(self._overall, completed=self._updates(), description=ended)

    def _print_line(self, monitor: JobMonitor, state: str) -> None:
        now = self._last_line = time.monotonic()
        updates = self._updates()
        made, left = updates - self._at_first, ""
        if made > 0 and updates < self._total:
            seconds = (now - self._start) * (self._total - updates) / made
            left = f", about {format_duration(seconds)} left"
        ended = f"{len(self._ended)} of {len(self._monitors)} jobs ended"
        self.say(f"{updates / self._total:4.0%}  {ended}{left}  ·  {monitor.title}: {state}")
