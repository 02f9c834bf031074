"""From a study to its rows: what is missing in a run directory is done, what is there is left alone."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from seqeval.config import Ray, Slurm, Study
from seqeval.errors import UserError
from seqeval.execution import remote
from seqeval.execution.jobs import Resolved, Work, resolve
from seqeval.execution.launchers import local
from seqeval.execution.progress import Display
from seqeval.execution.storage import RunDirectory, frame
from seqeval.execution.worker import Failure
from seqeval.types import Row

if TYPE_CHECKING:
    import pandas as pd

SAVE_EVERY = 60.0  # seconds
OVERLAP_AFTER = 5.0  # seconds that evaluations have taken: about what it takes to start a process for them

Overlap = Literal["auto", "on", "off"]


class WorkFailed(Exception):
    """Pieces of a study raised; the message holds their tracebacks. The others are finished and stored."""


class WorkUndone(UserError):
    """As WorkFailed, of pieces that met nothing but what the user can put right; a line for each."""


def run(
    study: Study,
    out: str | Path,
    jobs: int | None = None,
    console: Console | None = None,
    save_every: float = SAVE_EVERY,
    launcher: Ray | Slurm | None = None,
    log: Literal["tensorboard"] | None = None,
    overlap: Overlap = "auto",
    group: bool = False,
) -> pd.DataFrame:
    """Runs what is not finished of a study in the directory `out`, and returns all of its rows.

    `jobs` pieces run at a time, as many as there are cores unless told (one on a GPU); results do not depend
    on it. Every piece is saved every so many seconds, and goes on from there when the same study is run
    again. Called with more than one job from a script, the call must stand under `if __name__ ==
    "__main__":`, since the pieces run in fresh processes. Raises UserError before anything is trained, for
    whatever the user can put right, and WorkFailed or WorkUndone at the end if a piece failed. Ctrl-C, or a
    SIGTERM, raises KeyboardInterrupt when the pieces have saved themselves, a second one at once.

    The pieces run on this machine, or where `launcher` has them: on a Ray cluster, by default as many as have
    room there, or in Slurm's queue, by default all at once and each with all the seeds of an algorithm. Where
    Slurm is not waited for, the rows that are returned are those that are there already. `log` writes the
    rows' numbers for TensorBoard too, into OUT/tensorboard.

    With `overlap` on, each piece evaluates in a second process while it trains; that process acts on the CPU,
    and where training is on the CPU too no number changes. auto: on a GPU, and where there are more cores
    than pieces beside each other, there once evaluations have taken some seconds; in a cluster where a piece
    has more than one CPU.

    With `group` an algorithm's agents on several datasets are one piece, where observations and actions have
    the same sizes: they make each update together, which fills a GPU better, and on the CPU changes no
    number. All these datasets are in memory at once, and with overlap each has a process that evaluates. An
    algorithm whose updates hang on how many there will be, as where a learning rate falls, is grouped over
    datasets of equally many. Online, where they act between updates, the agents on each dataset learn by
    themselves.
    """
    import pandas as pd

    for _ in rows(study, out, jobs, console, save_every, launcher, log, overlap, group):
        pass
    detached = isinstance(launcher, Slurm) and launcher.detach
    if detached and next(RunDirectory(Path(out)).rows(), None) is None:
        return pd.DataFrame()
    return frame([Path(out)])


def rows(
    study: Study,
    out: str | Path,
    jobs: int | None = None,
    console: Console | None = None,
    save_every: float = SAVE_EVERY,
    launcher: Ray | Slurm | None = None,
    log: Literal["tensorboard"] | None = None,
    overlap: Overlap = "auto",
    group: bool = False,
) -> Iterator[Row]:
    """As `run`, but yields each new row as it comes, once it is stored."""
    console = console or Console(stderr=True)
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs: must be at least 1, not {jobs}")
    if not save_every >= 0:
        raise UserError(f"save_every: seconds, so not {save_every}")
    if log is not None and isinstance(launcher, Slurm) and launcher.detach:
        raise UserError(f"log: {log} is written by who waits for the rows; leave slurm.detach out")
    _check_installed(launcher, log)
    resolved = resolve(study, None if launcher is None else _device(study, launcher))
    directory = RunDirectory(Path(out))
    with directory.locked():
        remote.refuse_while_queued(directory.path)
        directory.admit(resolved.describe())
        resolved = resolved.continued(directory.study())
        for note in resolved.notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        new = _pieces(launcher, resolved, directory, jobs, console, save_every, overlap, group)
        yield from new if log is None else _logged(new, directory)


def _check_installed(launcher: Ray | Slurm | None, log: str | None) -> None:
    """Raises UserError where a package is missing, before anything else is done."""
    if isinstance(launcher, Ray):
        import seqeval.execution.launchers.ray
    if isinstance(launcher, Slurm):
        import seqeval.execution.launchers.slurm
    if log is not None:
        import seqeval.execution.tensorboard  # noqa: F401


def _device(study: Study, launcher: Ray | Slurm) -> str:
    """What a study computes on in a cluster. Raises UserError where it says otherwise itself."""
    if isinstance(launcher, Ray):
        gpus, name = launcher.gpus_per_piece, "ray.gpus_per_piece"
    else:
        gpus, name = launcher.gpus, "slurm.gpus"
    device = "cuda" if gpus else "cpu"
    if study.device not in ("auto", device):
        raise UserError(f"device: is {study.device}, and {name} is {gpus:g}; change one of them")
    return device


def _pieces(
    launcher: Ray | Slurm | None,
    resolved: Resolved,
    out: RunDirectory,
    jobs: int | None,
    console: Console,
    save_every: float,
    overlap: Overlap,
    group: bool,
) -> Iterator[Row]:
    """Does what is not finished yet, where the launcher has it."""
    if not resolved.pending(out):
        console.print(f"{out.path}: every cell is finished", highlight=False)
    elif isinstance(launcher, Ray):
        from seqeval.execution.launchers import ray

        after = _overlap_after(overlap, resolved.device, room=False)
        with ray.connected(launcher, after) as room:
            works = _pending(resolved, out, jobs or room, group, console)
            do = partial(ray.rows, works, out, jobs, save_every, after, launcher)
            yield from _finish(works, do, console)
    elif isinstance(launcher, Slurm):
        from seqeval.execution.launchers import slurm

        works = _pending(resolved, out, jobs or 1, group, console)
        after = _overlap_after(overlap, resolved.device, room=launcher.cpus > 1)
        if launcher.detach:
            slurm.submit(works, out, jobs, save_every, after, launcher)
            said = f"pieces in Slurm's queue: {len(works)}; `seqeval status {out.path} --watch` says more"
            console.print(said, highlight=False, markup=False)
        else:
            do = partial(slurm.rows, works, out, jobs, save_every, after, launcher)
            yield from _finish(works, do, console)
    else:
        jobs = jobs or (1 if resolved.device == "cuda" else local.cores())
        works = _pending(resolved, out, jobs, group, console)
        jobs = min(jobs, len(works))
        on_gpu = resolved.device == "cuda"
        after = _overlap_after(overlap, resolved.device, room=on_gpu or jobs < local.cores())
        do = partial(local.rows, works, out, jobs, save_every, after)
        yield from _finish(works, do, console)


def _overlap_after(overlap: Overlap, device: str, room: bool) -> float:
    """Seconds of evaluation after which a piece has a process for it; `room`: a piece has a core to spare."""
    if overlap == "off" or (overlap == "auto" and not room):
        return math.inf
    # On a GPU the two processes round differently: which of them evaluates must not hang on a clock.
    return OVERLAP_AFTER if overlap == "auto" and device == "cpu" else 0.0


def _pending(
    resolved: Resolved, out: RunDirectory, workers: int, group: bool, console: Console
) -> list[Work]:
    """What is not finished, and in words what of it was begun."""
    works = resolved.pending(out, workers, group)
    for part in (part for work in works for part in work.parts):
        if part.done:
            at = f"goes on after {part.done} of {part.updates} updates"
            console.print(f"note: {part.title}: {at}", highlight=False, markup=False)
        elif any(cell.checkpoint.exists() for cell in part.cells(out)):
            what = "what was saved of it cannot be used; it begins again"
            console.print(f"note: {part.title}: {what}", highlight=False, markup=False)
    return works


def _finish(
    works: Sequence[Work],
    do: Callable[[Display, threading.Event], Iterator[Row | Failure]],
    console: Console,
) -> Iterator[Row]:
    """Does all the work, and raises at its end what there is to raise."""
    failures = []
    with _stoppable() as stop, Display(works, console) as display:
        for event in do(display, stop):
            if isinstance(event, Failure):
                failures.append(event)
            else:
                yield event
    if failures:
        text = "\n".join(failure.text for failure in failures)
        raise WorkUndone(text) if all(failure.users for failure in failures) else WorkFailed(text)
    if stop.is_set():
        raise KeyboardInterrupt


def _logged(rows: Iterator[Row], out: RunDirectory) -> Iterator[Row]:
    """The rows, once TensorBoard has them."""
    from seqeval.execution.tensorboard import Scalars

    scalars = Scalars(out)
    for row in rows:
        scalars.add(asdict(row))
        yield row


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
