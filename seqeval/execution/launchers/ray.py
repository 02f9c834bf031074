"""Pieces of work as tasks of a Ray cluster.

A task that loses its process or its machine is begun again by Ray, wherever there is room, and goes on from
its seeds' last checkpoints: so the run directory must lie on storage that every machine sees. Rows and
progress come to the driver through that storage too (see `elsewhere`).

Tested on two nodes of one machine, with tasks on the CPU; shares of a GPU are handed to Ray as they are.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from seqeval.config import Ray
from seqeval.errors import UserError
from seqeval.execution import worker
from seqeval.execution.jobs import Work
from seqeval.execution.progress import Display
from seqeval.execution.remote import Errand, Follower, Word
from seqeval.execution.storage import RunDirectory
from seqeval.execution.worker import Failure
from seqeval.types import Row

try:
    import ray
except ImportError as error:
    raise UserError("launcher ray: Ray is not installed; pip install 'seqeval-rl[ray]'") from error

GLANCE = 1.0  # seconds between two looks at what the pieces have stored
PATIENCE = 10.0  # seconds for a cluster to answer
STORE = 80 * 2**20  # bytes of Ray's object store, the least it takes: nothing goes through it


@contextmanager
def connected(settings: Ray, overlap: float) -> Iterator[int]:
    """Connects this process to a cluster, unless it is already; gives how many pieces have room there.

    Raises UserError where no cluster answers.
    """
    if ray.is_initialized():
        yield _room(settings, overlap)
        return
    address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto"):
        _knock(address)
    own: dict[str, Any] = {"object_store_memory": STORE} if address == "local" else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **own)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(f"ray.address: {address}: {' '.join(str(error).split())}") from error
    try:
        yield _room(settings, overlap)
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Raises UserError where nobody listens; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(f"ray.address: {address!r} is not host:port, nor auto")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise UserError(
            f"ray.address: no cluster answers at {address} ({error.strerror or error})"
        ) from error


def cpus_per_piece(overlap: float) -> int:
    """One to train with, and one to evaluate with beside it."""
    return 1 if overlap == math.inf else 2


def _room(settings: Ray, overlap: float) -> int:
    """How many pieces the cluster can run beside each other as it is now."""
    there = ray.cluster_resources()
    room = there.get("CPU", 0.0) / cpus_per_piece(overlap)
    if settings.gpus_per_piece:
        room = min(room, there.get("GPU", 0.0) / settings.gpus_per_piece)
    return max(1, int(room))


def rows(
    works: Sequence[Work],
    out: RunDirectory,
    jobs: int | None,
    save_every: float,
    overlap: float,
    settings: Ray,
    display: Display,
    stop: threading.Event,
) -> Iterator[Row | Failure]:
    """Does all the work on the cluster that this process is connected to, at most `jobs` pieces at a time;
    one that fails does not stop the others.

    Yields rows as they come, and of each piece that failed why. Once `stop` is set, the pieces save
    themselves and end.
    """
    if settings.gpus_per_piece and not ray.cluster_resources().get("GPU"):
        display.say("note: no machine of the cluster has a GPU now; the pieces wait for one")
    Word().leave(out.path)
    follower = Follower(works, out)
    cpus = cpus_per_piece(overlap)
    task = ray.remote(num_cpus=cpus, num_gpus=settings.gpus_per_piece, max_retries=settings.retries)(_do)
    waiting, running = list(range(len(works))), dict[Any, int]()
    try:
        while waiting or running:
            if stop.is_set():
                Word(stop=True).leave(out.path)
                waiting.clear()
            while waiting and (jobs is None or len(running) < jobs):
                piece = waiting.pop(0)
                running[task.remote(Errand.of(works[piece], out, save_every, overlap))] = piece
            # Before the files are read: what a piece has stored is there once it is over.
            over = ray.wait(list(running), timeout=GLANCE)[0] if running else []
            for piece in running.values():
                for report in follower.news(piece):
                    display.show(report)
                    if report.row is not None:
                        yield report.row
            for reference in over:
                piece = running.pop(reference)
                failure = _outcome(reference, works[piece], out)
                display.show(follower.over(piece, failure))
                if failure is not None:
                    yield failure
    finally:  # a second Ctrl-C, or whoever asked for the rows wants no more
        for reference in running:
            ray.cancel(reference, force=True)


def _do(errand: Errand) -> Failure | None:
    return errand.do(threading.Event())


def _outcome(reference: Any, work: Work, out: RunDirectory) -> Failure | None:
    """Why a piece failed that is over, if it did."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        failure = Failure(f"{work.title}:\n{error}")
    except ray.exceptions.RayError as error:
        why = str(error).partition("\n")[0]
        failure = Failure(f"{work.title}: {why}; the same command goes on where it was saved", users=True)
    worker.write_down(failure, work.cells(out))
    return failure
