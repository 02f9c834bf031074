"""Pieces of work in processes of this machine, one thread each, with their progress on the screen.

One thread each is not only the fastest way to use the cores: it makes the numbers independent of how many
pieces run beside each other.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqeval import datasets
from seqeval.agents import Agents
from seqeval.errors import UserError
from seqeval.storage import RunDirectory
from seqeval.study import Work

HEARTBEAT = 0.5  # seconds between two looks at how far a piece is
PLAIN_EVERY = 10.0  # seconds between two lines of progress where the output is no terminal


@dataclass(frozen=True)
class Report:
    """What a worker says of its piece of work."""

    piece: int
    updates: int = 0  # of each replica, so far
    score: str = ""  # the latest, over the seeds
    over: bool = False
    failed: bool = False


def run(works: Sequence[Work], out: RunDirectory, jobs: int, console: Console) -> list[str]:
    """Does all the work, `jobs` pieces at a time; one that fails does not stop the others.

    Returns the tracebacks of those that failed. With one job the work is done in this process.
    """
    if jobs == 1:
        reports: Any = queue.SimpleQueue()
        with _display(works, reports, console):
            return [
                failure for i, work in enumerate(works) if (failure := _attempt(i, work, out.path, reports))
            ]
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    try:
        manager.start(_die_with_parent)
    except EOFError as error:
        raise UserError(
            "worker processes could not start: in a script, call run under `if __name__ == '__main__':`, "
            "or pass jobs=1"
        ) from error
    with manager:
        reports = manager.Queue()
        with (
            _display(works, reports, console),
            ProcessPoolExecutor(jobs, context, _die_with_parent) as pool,
        ):
            pending = {
                pool.submit(_attempt_pickled, i, work.title, pickle.dumps(work), out.path, reports): work
                for i, work in enumerate(works)
            }
            failures = []
            for future in as_completed(pending):
                try:
                    failures.append(future.result())
                except BrokenProcessPool:
                    failures.append(f"{pending[future].title}: its process died (out of memory?)")
            return [failure for failure in failures if failure]


def _attempt_pickled(piece: int, title: str, pickled: bytes, out: Path, reports: Any) -> str | None:
    """`_attempt` in a process of the pool.

    The work is unpickled here and not by the pool, which would end with all its pieces if that failed: the
    file of a plug-in may have changed since the study began.
    """
    try:
        work = pickle.loads(pickled)
    except UserError as error:
        reports.put(Report(piece, over=True, failed=True))
        return f"{title}: {error}"
    return _attempt(piece, work, out, reports)


def _die_with_parent() -> None:
    """Ends this process once the one that started it is gone, however that went: nobody hears it then."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only for worker processes"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _attempt(piece: int, work: Work, out: Path, reports: Any) -> str | None:
    """Does a piece of work. Returns the traceback where that fails."""
    threads, failed = torch.get_num_threads(), True
    torch.set_num_threads(1)
    try:
        study = work.study
        dataset = datasets.load(work.dataset, study.env, study.protocol.data_rules, study.trust_pickle)
        agents = work.agents(dataset)
        with _heartbeat(piece, agents, reports) as latest:
            rows = []
            for row in work.rows(agents, dataset, RunDirectory(out)):
                rows.append(row)
                if len(rows) == len(agents.algorithm.seeds):
                    values = [each.return_mean if each.score is None else each.score for each in rows]
                    good = [value for value in values if value is not None]
                    if good:
                        latest["score"] = f"{sum(good) / len(good):.1f}"
                    elif any(each.status != "ok" for each in rows):
                        latest["score"] = "failed"
                    rows = []
        failed = False
        return None
    except Exception:
        return f"{work.title}:\n{traceback.format_exc()}"
    finally:
        torch.set_num_threads(threads)
        reports.put(Report(piece, work.updates, over=True, failed=failed))


@contextmanager
def _heartbeat(piece: int, agents: Agents, reports: Any) -> Iterator[dict[str, str]]:
    """Reports now and then how far the agents are, from beside the training."""
    latest, stop = {"score": ""}, threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            reports.put(Report(piece, agents.algorithm.updates, latest["score"]))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield latest
    finally:
        stop.set()
        thread.join()


@contextmanager
def _display(works: Sequence[Work], reports: Any, console: Console) -> Iterator[None]:
    """Shows the reports as they come, until the work is over."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[score]}"),
    )
    replicas = [len(work.seeds) * work.replicas_of_seed for work in works]
    total = sum(work.updates * count for work, count in zip(works, replicas, strict=True))
    done = [0] * len(works)
    finished = 0
    began = last_line = time.monotonic()
    with Progress(
        *columns, console=console, disable=not console.is_terminal, speed_estimate_period=60
    ) as progress:
        overall = progress.add_task(f"0 of {len(works)} done", total=total, rate="", score="")
        tasks: dict[int, Any] = {}

        def show(report: Report) -> None:
            nonlocal finished, last_line
            work, count = works[report.piece], replicas[report.piece]
            done[report.piece] = report.updates * count
            if report.over:
                finished += 1
                if report.piece in tasks:
                    progress.remove_task(tasks.pop(report.piece))
            else:
                if report.piece not in tasks:
                    tasks[report.piece] = progress.add_task(work.title, total=work.updates, rate="", score="")
                task = tasks[report.piece]
                score = report.score and f"last {report.score}"
                progress.update(task, completed=report.updates, score=score)
                speed = progress.tasks[progress.task_ids.index(task)].speed
                progress.update(task, rate=f"{speed * count:.0f} updates/s" if speed else "")
            progress.update(overall, completed=sum(done), description=f"{finished} of {len(works)} done")
            now = time.monotonic()
            if not console.is_terminal and (report.over or now - last_line > PLAIN_EVERY):
                last_line, elapsed = now, now - began
                share = sum(done) / total
                left = f", about {elapsed / share - elapsed:.0f} s left" if 0 < share < 1 else ""
                over = "failed" if report.failed else "over"
                what = over if report.over else f"last {report.score}" if report.score else "begun"
                console.print(
                    f"{share:4.0%}  {finished} of {len(works)} done{left}  ·  {work.title}: {what}",
                    highlight=False,
                )

        def listen() -> None:
            while (report := reports.get()) is not None:
                show(report)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            reports.put(None)
            thread.join()
