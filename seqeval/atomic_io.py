"""Files that are whole or not there, and a folder that only one process works in."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqeval.errors import UserError

if sys.platform != "win32":
    import fcntl


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A partial file to write into, which takes the name when all of it is on the disk."""
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
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def save_tensors(path: Path, value: Any) -> None:
    """As torch.save, which says of a full disk nothing that one could tell from other faults: so into memory
    first."""
    import torch

    whole = io.BytesIO()
    torch.save(value, whole)
    with replacing(path) as partial:
        partial.write_bytes(whole.getbuffer())


def is_locked(folder: Path) -> bool:
    """Whether a process is in a folder that `locked` keeps others out of. On NFS: one of this machine."""
    try:
        with locked(folder, ""):
            return False
    except UserError:
        return True


@contextmanager
def locked(folder: Path, why: str) -> Iterator[None]:
    """Keeps other processes out of a folder; the lock of a dead process is gone with it. Raises UserError,
    which says `why`, where one is in it."""
    if sys.platform == "win32":  # which has no such locks
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: {why}") from error
        yield
    finally:
        os.close(handle)
