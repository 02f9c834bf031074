"""How far the pieces of a study are, on the screen or, where there is none, in a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqeval.execution.jobs import Work
from seqeval.execution.worker import Report

PLAIN_EVERY = 10.0  # seconds between two lines of progress where the output is no terminal


class Display:
    """Shows reports as they come; a context. May be told from several threads."""

    def __init__(self, works: Sequence[Work], console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[score]}"),
        )
        self._works, self._console = works, console
        self._done = [work.done for work in works]
        self._total = sum(work.updates for work in works)
        self._at_first, self._finished = sum(self._done), 0
        self._began = self._last_line = time.monotonic()
        self._lock = threading.Lock()
        self._tasks: dict[int, Any] = {}
        # A notebook is no terminal, but rich draws in it all the same.
        self._live = console.is_terminal or console.is_jupyter
        self._progress = Progress(*columns, console=console, disable=not self._live, speed_estimate_period=60)
        self._overall = self._progress.add_task("", total=self._total, rate="", score="")

    def __enter__(self) -> Display:
        self._progress.start()
        self._update_overall()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, report: Report) -> None:
        with self._lock:
            work = self._works[report.piece]
            if report.updates:
                self._done[report.piece] = report.updates
            if report.over:
                self._finished += 1
                if report.piece in self._tasks:
                    self._progress.remove_task(self._tasks.pop(report.piece))
            else:
                self._show_piece(report, work)
            self._update_overall()
            if not self._live:
                self._print_line(report, work)

    def _show_piece(self, report: Report, work: Work) -> None:
        if report.piece not in self._tasks:
            self._tasks[report.piece] = self._progress.add_task(
                work.title, total=work.updates, completed=work.done, rate="", score=""
            )
        task = self._tasks[report.piece]
        if report.updates:
            score = report.score and f"last {report.score}"
            self._progress.update(task, completed=report.updates, score=score)
        speed = self._progress.tasks[self._progress.task_ids.index(task)].speed
        self._progress.update(task, rate=f"{speed:.0f} updates/s" if speed else "")

    def _update_overall(self) -> None:
        finished = f"{self._finished} of {len(self._works)} done"
        self._progress.update(self._overall, completed=sum(self._done), description=finished)

    def _print_line(self, report: Report, work: Work) -> None:
        now = time.monotonic()
        if not report.over and now - self._last_line <= PLAIN_EVERY:
            return
        self._last_line, made = now, sum(self._done) - self._at_first
        left = ""
        if made > 0 and sum(self._done) < self._total:
            seconds = (now - self._began) * (self._total - sum(self._done)) / made
            left = f", about {seconds:.0f} s left"
        over = "failed" if report.failure else "over" if report.updates == work.updates else "stopped"
        what = over if report.over else f"last {report.score}" if report.score else "begun"
        share = sum(self._done) / self._total
        self.say(f"{share:4.0%}  {self._finished} of {len(self._works)} done{left}  ·  {work.title}: {what}")
