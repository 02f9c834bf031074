"""The transfer of one file: resumed where it was cut, checked, and given its name only when it is whole."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from seqeval.errors import UserError

if sys.platform != "win32":
    import fcntl

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte after which a connection counts as cut
TRIES = 5
PAUSE = 1.0  # seconds before the second try; before each further one twice as long
EVERY = 10.0  # seconds between two lines of progress where there is no terminal


class _Failed(Exception):
    """The transfer cannot go on: why."""


class _Cut(_Failed):
    """The transfer did not come to its end; another try may."""


class _Unreachable(_Cut):
    """No connection came about."""


def fetch(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Downloads a file, unless another process has done so meanwhile.

    What has come of an interrupted transfer stays beside `path` as `.part`, and as `.part.json` what it is a
    part of. `check` raises UserError where a file is not the one that was wanted; then it is not kept.
    Raises UserError where the file does not come or cannot be written: one line with what to do by hand.
    """
    by_hand = f"to do it by hand, put {path.name} into {path.parent} or the folder that SEQEVAL_DATA names"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path) as part:
            if path.exists():
                return
            _transfer(url, part, path)
            try:
                check(part)
            except UserError as error:
                what = "a web page" if _is_page(part) else str(error).removeprefix(f"{part}: ")
                _discard(part)
                raise _Failed(f"what came is not the dataset and was not kept: {what}") from error
            os.replace(part, path)
            _discard(part)
    except _Failed as failure:
        raise UserError(f"{url}: {failure}; {by_hand}") from failure
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); set SEQEVAL_DATA to a folder that can"
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The name of the unfinished file, to which no other process writes meanwhile; waits until that is so."""
    if sys.platform == "win32":  # no locks: each process has an unfinished file of its own
        yield path.with_name(f"{path.name}.{os.getpid()}.part")
        return
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell(f"{path.name}: waiting for another process that downloads it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield path.with_name(f"{path.name}.part")
        # Whoever waits for this very lock looks for `path` first, so it is not needed any more.
        lock.unlink(missing_ok=True)


def _transfer(url: str, part: Path, path: Path) -> None:
    """All of the file into `part`. Raises _Failed."""
    _tell(f"downloading {url} to {path}")
    with _Shown(path.name) as shown:
        for attempt in range(TRIES):
            try:
                return _attempt(url, part, shown)
            except _Cut as cut:
                # A machine without a network need not wait to hear it.
                if attempt == TRIES - 1 or (attempt == 0 and isinstance(cut, _Unreachable)):
                    raise
                pause = PAUSE * 2**attempt
                _tell(f"{path.name}: {cut}; again in {pause:g} s")
                time.sleep(pause)


def _attempt(url: str, part: Path, shown: _Shown) -> None:
    """One request, for what is missing of `part`. Raises _Failed."""
    known = _known(part)
    have = part.stat().st_size if known else 0
    if known and have == known.length:  # whole, but stopped before it was checked
        return
    request = Request(url, headers={"User-Agent": "seqeval"})
    if known and have:
        request.add_header("Range", f"bytes={have}-")
        if validator := known.validator:
            request.add_header("If-Range", validator)
    with _open(request, part) as response:
        version = _Version.of(response)
        if response.status != 206:  # all of it: a first request, a changed file, or a server without ranges
            have = 0
        elif known is None or not version.continues(known, have, response):
            _discard(part)
            raise _Cut("the file has changed in between")
        with part.open("ab" if have else "wb") as file:
            if not have:
                _about(part).write_text(json.dumps(asdict(version)))
            for chunk in _chunks(response):
                file.write(chunk)
                have += len(chunk)
                shown(have, version.length)
    if version.length is not None and have != version.length:
        raise _Cut(f"cut after {have} of {version.length} bytes")


def _open(request: Request, part: Path) -> HTTPResponse:
    """The answer. Raises _Cut where another try may have a better one, else _Failed."""
    try:
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416:  # the file is not as long as what is there of it
            _discard(part)
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Cut(reason) from error
        raise _Failed(reason) from error
    except URLError as error:
        raise _Unreachable(f"cannot be reached ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise _Cut(_reason(error)) from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Cut(_reason(error)) from error


@dataclass(frozen=True)
class _Version:
    """What tells a file at an address from what stood there before."""

    length: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: HTTPResponse) -> Self:
        headers = response.headers
        partial = headers.get("Content-Range", "").rpartition("/")[2]
        length = partial if response.status == 206 else headers.get("Content-Length", "")
        known = int(length) if length.isdecimal() else None
        return cls(known, headers.get("ETag"), headers.get("Last-Modified"))

    @property
    def validator(self) -> str | None:
        """For If-Range, which takes no weak tags."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def continues(self, known: _Version, have: int, response: HTTPResponse) -> bool:
        """Whether a partial answer is the rest of what is known. It may leave out what the first one had."""
        return (
            response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            and self.length == known.length
            and self.etag in (None, known.etag)
            and self.modified in (None, known.modified)
        )


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(part: Path) -> _Version | None:
    """What `part` is a part of; None where it cannot be gone on with."""
    try:
        version = _Version(**json.loads(_about(part).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    resumable = version.length is not None or version.validator is not None
    return version if resumable and part.exists() else None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _about(part).unlink(missing_ok=True)


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(CHUNK).lstrip().startswith(b"<")


def _reason(error: Exception) -> str:
    return f"the connection broke ({str(error) or type(error).__name__})"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Shown:
    """How far a transfer has come, on stderr: a bar in a terminal, elsewhere a line now and then."""

    def __init__(self, name: str) -> None:
        self._name, self._told = name, -math.inf
        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), DownloadColumn())
        self._bar = Progress(
            *columns,
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, have: int, total: int | None) -> None:
        self._bar.update(self._task, completed=have, total=total)
        now = time.monotonic()
        if self._bar.disable and (now >= self._told + EVERY or have == total):
            self._told = now
            _tell(f"{self._name}: {have / 1e6:.1f} MB" + (f" of {total / 1e6:.1f}" if total else ""))
