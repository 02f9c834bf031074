"""Signals that ask a process to stop, and who does not get them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# SIGUSR2 is what Slurm tells every process of a job shortly before its time is over.
ASK_TO_STOP = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name)
)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """A process that is started meanwhile gets none of these signals until it unblocks them itself. This one
    gets its own when it is over."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASK_TO_STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Leaves these signals to the process that started this one, which decides."""
    for number in ASK_TO_STOP:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASK_TO_STOP)
