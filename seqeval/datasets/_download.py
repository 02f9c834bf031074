"""Download one file over HTTP: resumed after an interruption, checked, and renamed only when complete."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import requests
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from seqeval.errors import UserError

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without data after which a connection counts as broken
TRIES = 5
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
PROGRESS_INTERVAL = 10.0  # seconds between two lines of progress if stderr is not a terminal


class _DownloadError(Exception):
    """The download failed for the stated reason, and another attempt would not help."""


class _TemporaryError(_DownloadError):
    """The download failed, and another attempt may succeed."""


class _UnreachableError(_TemporaryError):
    """No connection could be made."""


def fetch(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Download a file to `path`, unless another process completes the download first.

    An interrupted download is kept beside `path` as `.part`, and `.part.json` records which version of the
    file it belongs to; the next call resumes it. `check` raises UserError if a file is not the expected one;
    that file is deleted. Raises UserError if the download fails or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.exists():
                _download(url, path, check)
    except _DownloadError as error:
        raise UserError(
            f"{url}: {error}; to install it by hand, put {path.name} into {path.parent} "
            "or the folder that SEQEVAL_DATA names"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); set SEQEVAL_DATA to a writable folder"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time downloads to `path`; the others wait."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        acquired = lock.acquire(blocking=False)
    except Timeout:
        _report(f"{path.name}: waiting for another process that downloads it")
        acquired = lock.acquire()
    with acquired:
        yield
        # Safe to delete now: whoever still acquires the lock finds the complete file. Windows refuses to
        # delete an open file, and filelock does it there itself.
        with suppress(OSError):
            os.unlink(lock.lock_file)


def _download(url: str, path: Path, check: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.part")
    _report(f"downloading {url} to {path}")
    with _ProgressReport(path.name) as progress:
        for attempt in range(TRIES):
            try:
                _attempt(url, part, progress)
                break
            except _TemporaryError as error:
                # Without a network the first attempt already says so.
                if attempt == TRIES - 1 or (attempt == 0 and isinstance(error, _UnreachableError)):
                    raise
                pause = PAUSE * 2**attempt
                _report(f"{path.name}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
    try:
        check(part)
    except UserError as error:
        reason = "a web page" if _is_page(part) else str(error).removeprefix(f"{part}: ")
        _discard(part)
        raise _DownloadError(f"the downloaded file is not the dataset and was deleted: {reason}") from error
    os.replace(part, path)
    _discard(part)


def _attempt(url: str, part: Path, progress: _ProgressReport) -> None:
    """One request, for the bytes that `part` lacks. Raises _DownloadError."""
    known = _version_of_part(part)
    size = part.stat().st_size if known else 0
    if known and size == known.length:  # complete, but the process was stopped before the check
        return
    headers = {"User-Agent": "seqeval", "Accept-Encoding": "identity"}
    if known and size:
        headers["Range"] = f"bytes={size}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _check_status(response, part)
            version = _Version.of(response)
            if response.status_code != 206:  # the whole file: it has changed, or the server ignores ranges
                size = 0
            elif known is None or not version.continues(known, size, response):
                _discard(part)
                raise _TemporaryError("the file has changed on the server")
            if not size:
                _record(part).write_text(json.dumps(asdict(version)))
            response.raw.enforce_content_length = False  # keep all bytes of a short response, to resume there
            with part.open("ab" if size else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    size += len(chunk)
                    progress.update(size, version.length)
    except requests.RequestException as error:
        cause = _root_cause(error)
        reason = str(cause) or type(cause).__name__
        if isinstance(cause, ConnectionRefusedError | socket.gaierror):
            raise _UnreachableError(f"the server cannot be reached ({reason})") from error
        raise _TemporaryError(f"the connection broke ({reason})") from error
    if version.length is not None and size != version.length:
        raise _TemporaryError(f"the connection ended after {size} of {version.length} bytes")


def _check_status(response: requests.Response, part: Path) -> None:
    """Raises _DownloadError for a status that is an error."""
    status = response.status_code
    if status < 400:
        return
    if status == 416:  # the part is longer than the file
        _discard(part)
    temporary = status in (408, 416, 429) or status >= 500
    raise (_TemporaryError if temporary else _DownloadError)(f"HTTP {status} {response.reason}")


@dataclass(frozen=True)
class _Version:
    """Identifies one version of the file at a URL, so that parts of two versions are never joined."""

    length: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        headers = response.headers
        total = headers.get("Content-Range", "").rpartition("/")[2]
        length = total if response.status_code == 206 else headers.get("Content-Length", "")
        return cls(
            int(length) if length.isdecimal() else None, headers.get("ETag"), headers.get("Last-Modified")
        )

    @property
    def validator(self) -> str | None:
        """The value for If-Range, which does not allow weak tags."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def continues(self, known: _Version, size: int, response: requests.Response) -> bool:
        """Whether a partial response continues `size` bytes of `known`. It may omit headers."""
        return (
            response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
            and self.length == known.length
            and self.etag in (None, known.etag)
            and self.modified in (None, known.modified)
        )


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _version_of_part(part: Path) -> _Version | None:
    """The version that `part` belongs to; None if the download cannot be resumed."""
    try:
        version = _Version(**json.loads(_record(part).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    resumable = version.length is not None or version.validator is not None
    return version if resumable and part.exists() else None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _record(part).unlink(missing_ok=True)


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(CHUNK).lstrip().startswith(b"<")


def _root_cause(error: BaseException) -> BaseException:
    """The operating system's error, which requests and urllib3 wrap several times."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _ProgressReport:
    """Progress of a download on stderr: a bar in a terminal, otherwise a line from time to time."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, -math.inf
        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), DownloadColumn())
        speed = TransferSpeedColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, *speed, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, size: int, total: int | None) -> None:
        """Show that `size` of `total` bytes are there."""
        self._bar.update(self._task, completed=size, total=total)
        now = time.monotonic()
        if self._bar.disable and (now >= self._last + PROGRESS_INTERVAL or size == total):
            self._last = now
            _report(f"{self._name}: {size / 1e6:.1f} MB" + (f" of {total / 1e6:.1f}" if total else ""))
