"""The signals that ask a process to stop, and how to keep them from child processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Slurm sends SIGUSR2 to every process of a job shortly before its time limit.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name)
)


@contextmanager
def blocked_in_children() -> Iterator[None]:
    """A context in which new child processes start with the stop signals blocked.

    A child receives them only after it unblocks them, as `ignore` does. Signals to this process are
    delivered at the end of the context.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignores the stop signals in this process; its parent process reacts to them instead."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
