"""Atomic file writes, and a lock that lets only one process work in a folder."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock, Timeout

from seqeval.errors import UserError

LOCK_FILE = ".lock"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to, renamed to `path` once all of it is on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def save_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def save_tensors(path: Path, value: Any) -> str:
    """Write a value as torch.save does, atomically; return the file's digest."""
    import torch

    # Serialized in memory first: torch.save reports a full disk as an error like any other.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return digest(buffer.getbuffer())


def digest(content: bytes | memoryview) -> str:
    """A 128-bit XXH3 hash: it finds damage, but is no proof against forgery."""
    return xxhash.xxh3_128_hexdigest(content)


@contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Keep other processes out of a folder.

    The lock is the file `.lock` in the folder. The file stays; the lock ends with the process that holds it.
    Raises UserError with `message` if another process holds the lock.
    """
    try:
        lock = FileLock(folder / LOCK_FILE).acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"{folder}: {message}") from error
    with lock:
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder.

    False also if that cannot be seen: in a folder that you may not write to, and on network file systems
    that do not share locks between machines.
    """
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with locked(folder, "locked"):
            return False
    except UserError:
        return True
    except OSError:
        return False
