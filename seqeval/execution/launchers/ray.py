"""Jobs as tasks of a Ray cluster.

Ray restarts a task that loses its process or its machine wherever there is room, and the job resumes from its
last checkpoints, so the study directory must be on storage that every machine sees. Rows and progress reach
the driver through that storage too.

Tested on two nodes of one machine with tasks on the CPU; shares of a GPU are passed to Ray unchanged.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from seqeval.config import Execution
from seqeval.errors import UserError
from seqeval.execution.launchers import Launcher
from seqeval.execution.remote import RemoteJob
from seqeval.execution.worker import Failure, JobPayload

try:
    import ray
except ImportError as error:
    raise UserError("launcher ray: Ray is not installed; pip install 'seqeval-rl[ray]'") from error

POLL = 1.0  # seconds that `poll` waits for a task to end
CONNECT_TIMEOUT = 10.0  # seconds
STORE = 80 * 2**20  # bytes of Ray's object store, its minimum: it is not used


class Ray(Launcher):
    """One task per job, up to `jobs` in parallel."""

    def __init__(self, execution: Execution, out: Path) -> None:
        super().__init__(execution, out)
        self.settings = execution.ray
        self.device = "cuda" if self.settings.gpus_per_job else "cpu"
        # One processor to train with, and one to evaluate with in parallel, if that is asked for.
        self.cpus = 2 if execution.overlap == "on" else 1
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Connects to the cluster, unless this process is connected. Raises UserError if none answers."""
        if ray.is_initialized():
            return self
        address = self.settings.address or os.environ.get("RAY_ADDRESS") or "local"
        if address not in ("local", "auto"):
            _check_reachable(address)
        options: dict[str, Any] = {"object_store_memory": STORE} if address == "local" else {}
        if threading.current_thread() is threading.main_thread():  # ray.init replaces the handler
            self._resources.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        try:
            ray.init(
                address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **options
            )
        except (ConnectionError, RuntimeError) as error:
            raise UserError(f"ray.address: {address}: {' '.join(str(error).split())}") from error
        self._resources.callback(ray.shutdown)
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    def slots(self, device: str) -> int:
        if self.execution.jobs:
            return self.execution.jobs
        resources = ray.cluster_resources()
        room = resources.get("CPU", 0.0) / self.cpus
        if self.settings.gpus_per_job:
            room = min(room, resources.get("GPU", 0.0) / self.settings.gpus_per_job)
        return max(1, int(room))

    def has_spare_cpu(self, device: str, jobs: int) -> bool:
        return False  # a task evaluates in parallel only if it reserves a second processor (overlap on)

    def submit(self, payloads: Sequence[JobPayload], stop: threading.Event) -> None:
        self._payloads, self._stop = payloads, stop
        self._waiting, self._running = list(range(len(payloads))), dict[Any, int]()
        if self.settings.gpus_per_job and not ray.cluster_resources().get("GPU"):
            self.notes.append("no machine of the cluster has a GPU at present; the jobs wait for one")
        gpus, retries = self.settings.gpus_per_job, self.settings.retries
        self._task = ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=retries)(_run)

    def poll(self) -> Mapping[int, Failure | None]:
        ended: dict[int, Failure | None] = {}
        if self._stop.is_set():
            ended = dict.fromkeys(self._waiting)
            self._waiting.clear()
        limit = self.execution.jobs or len(self._payloads)
        while self._waiting and len(self._running) < limit:
            place = self._waiting.pop(0)
            self._running[self._task.remote(RemoteJob.create(self._payloads[place]))] = place
        for reference in ray.wait(list(self._running), timeout=POLL)[0] if self._running else ():
            place = self._running.pop(reference)
            ended[place] = self._failure(reference, self._payloads[place].title)
        return ended

    def _failure(self, reference: Any, title: str) -> Failure | None:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            return Failure(f"{title}:\n{error}")
        except ray.exceptions.RayError as error:
            why = str(error).partition("\n")[0]
            return Failure(f"{title}: {why}; run the same command again to resume", fixable=True)

    def cancel(self) -> None:
        for reference in self._running:
            ray.cancel(reference, force=True)


def _run(job: RemoteJob) -> Failure | None:
    return job.run(threading.Event())


def _check_reachable(address: str) -> None:
    """Raises UserError if nothing listens at an address; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(f"ray.address: {address!r} is neither host:port nor auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise UserError(
            f"ray.address: no cluster answers at {address} ({error.strerror or error})"
        ) from error
