"""From a study to its rows: what is missing in a run directory is done, what is there is left alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from seqeval.errors import UserError
from seqeval.launch import local
from seqeval.launch.display import Display
from seqeval.launch.worker import Failure
from seqeval.settings import Study
from seqeval.storage import RunDirectory, frame
from seqeval.study import Resolved, resolve
from seqeval.types import Row

if TYPE_CHECKING:
    import pandas as pd

SAVE_EVERY = 60.0  # seconds


class WorkFailed(Exception):
    """Pieces of a study raised; the message holds their tracebacks. The others are finished and stored."""


def run(
    study: Study,
    out: str | Path,
    jobs: int | None = None,
    console: Console | None = None,
    save_every: float = SAVE_EVERY,
) -> pd.DataFrame:
    """Runs what is not finished of a study in the directory `out`, and returns all of its rows.

    `jobs` pieces run at a time, as many as there are cores unless told (one on a GPU); results do not depend
    on it. Every piece is saved every so many seconds, and goes on from there when the same study is run
    again. Called with more than one job from a script, the call must stand under `if __name__ ==
    "__main__":`, since the pieces run in fresh processes. Raises UserError before anything is trained, for
    whatever the user can put right, and WorkFailed at the end if a piece failed. Ctrl-C, or a SIGTERM, raises
    KeyboardInterrupt when the pieces have saved themselves, a second one at once.
    """
    for _ in rows(study, out, jobs, console, save_every):
        pass
    return frame([Path(out)])


def rows(
    study: Study,
    out: str | Path,
    jobs: int | None = None,
    console: Console | None = None,
    save_every: float = SAVE_EVERY,
) -> Iterator[Row]:
    """As `run`, but yields each new row as it comes, once it is stored."""
    console = console or Console(stderr=True)
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs: must be at least 1, not {jobs}")
    if save_every < 0:
        raise UserError(f"save_every: seconds, so not {save_every}")
    resolved = resolve(study)
    directory = RunDirectory(Path(out))
    with directory.locked():
        directory.admit(resolved.describe())
        for note in resolved.notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        yield from _finish(resolved, directory, jobs, console, save_every)


def _finish(
    resolved: Resolved, directory: RunDirectory, jobs: int | None, console: Console, save_every: float
) -> Iterator[Row]:
    """Does what is not finished yet."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or (1 if resolved.device == "cuda" else cores)
    works = resolved.pending(directory, workers=jobs)
    if not works:
        console.print(f"{directory.path}: every cell is finished", highlight=False)
        return
    for work in works:
        if work.done:
            at = f"goes on after {work.done} of {work.updates} updates"
            console.print(f"note: {work.title}: {at}", highlight=False, markup=False)
    failures = []
    with _stoppable() as stop, Display(works, console) as display:
        for event in local.rows(works, directory, min(jobs, len(works)), display, stop, save_every):
            if isinstance(event, Failure):
                failures.append(event)
            else:
                yield event
    if failures:
        text = "\n".join(failure.text for failure in failures)
        raise UserError(text) if all(failure.users for failure in failures) else WorkFailed(text)
    if stop.is_set():
        raise KeyboardInterrupt


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The second raises KeyboardInterrupt at once."""
    stop = threading.Event()

    def handle(signum: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        text = "\nstopping: every piece finishes its update and is saved; once more stops at once\n"
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
