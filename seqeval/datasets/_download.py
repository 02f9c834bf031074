"""Download one file over HTTP: resumed after an interruption, checked, and renamed only when complete."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import urllib3
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from seqeval.errors import UserError

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without data after which a connection counts as broken
TRIES = 5
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
UNREACHABLE = (ConnectionRefusedError, socket.gaierror)  # no connection could be made
MOST_BYTES = 5 * 10**9  # of a file; several times D4RL's largest
SLOWEST = 1000  # bytes per second, on average over INTERVAL, below which a connection counts as broken
TOO_SLOW = f"fewer than {SLOWEST} bytes per second arrive"
INTERVAL = 60.0  # seconds; also the longest time until the headers of a response are complete
REDIRECTED = (  # to another protocol than HTTP, or for ever; there is no second attempt
    *(requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema),
    *(requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects),
)
PROGRESS_INTERVAL = 10.0  # seconds between two lines of progress if stderr is not a terminal


class _DownloadError(Exception):
    """The download failed for the stated reason, and another attempt would not help."""


class _TemporaryError(_DownloadError):
    """The download failed, and another attempt may succeed."""


def fetch(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Download a file to `path`, unless another process completes the download first.

    An interrupted download is kept beside `path` as `.part`, and `.part.json` records which version of the
    file it belongs to; the next call resumes it. `check` raises UserError if a file is not the expected one;
    that file is deleted. The size and the sha256 of the first download are recorded beside `path`; a later
    one must have the same. Raises UserError if the download fails or cannot be written.
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


def verify(path: Path) -> None:
    """Raises UserError if a downloaded file is not what it was. Without a record any file is accepted."""
    record = _download_record(path)
    if record.exists() and _recorded(record) != _identity(path):
        raise UserError(
            f"{path}: has changed since it was downloaded; remove it to have it downloaded again, or remove "
            f"{record.name} if you replaced it yourself"
        )


def _identity(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _download_record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")


def _recorded(record: Path) -> Any:
    try:
        return json.loads(record.read_text())
    except ValueError as error:
        raise UserError(f"{record}: damaged; remove it to accept the file that it describes") from error


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
    with _progress_bar(path.name) as show:
        for attempt in range(TRIES):
            try:
                _attempt(url, part, show)
                break
            except _TemporaryError as error:
                # Without a network the first attempt already says so.
                if attempt == TRIES - 1 or (attempt == 0 and isinstance(error.__cause__, UNREACHABLE)):
                    raise
                pause = PAUSE * 2**attempt
                _report(f"{path.name}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
    try:
        check(part)
    except UserError as error:
        with part.open("rb") as file:
            is_page = file.read(CHUNK).lstrip().startswith(b"<")
        reason = "a web page" if is_page else str(error).removeprefix(f"{part}: ")
        _discard(part)
        raise _DownloadError(f"the downloaded file is not the dataset and was deleted: {reason}") from error
    identity, record = _identity(part), _download_record(path)
    if not record.exists():
        record.write_text(json.dumps(identity))
    elif _recorded(record) != identity:
        _discard(part)
        raise _DownloadError(
            "the downloaded file is not the one that was downloaded earlier and was deleted; remove "
            f"{record} to accept it"
        )
    os.replace(part, path)
    _discard(part)


def _attempt(url: str, part: Path, show: Callable[[int, int | None], None]) -> None:
    """One request, for the bytes that `part` lacks. Raises _DownloadError."""
    known = _recorded_version(part)
    size = part.stat().st_size if known else 0
    if known and size == known["length"]:  # complete, but the process was stopped before the check
        return
    headers = {"User-Agent": "seqeval", "Accept-Encoding": "identity"}
    if known and size:
        headers["Range"] = f"bytes={size}-"
        if validator := _validator(known):
            headers["If-Range"] = validator
    try:
        with _response(url, headers) as response:
            status = response.status_code
            if status == 416:  # the part is longer than the file
                _discard(part)
            if status >= 400:
                temporary = status in (408, 416, 429) or status >= 500
                raise (_TemporaryError if temporary else _DownloadError)(f"HTTP {status} {response.reason}")
            version = _version(response)
            if status != 206:  # the whole file: it has changed, or the server ignores ranges
                size = 0
                _record(part).write_text(json.dumps(version))
            elif not (known and _continues(response, known, size)):
                _discard(part)
                raise _TemporaryError("the file has changed on the server")
            size = _receive(response, part, size, version["length"], show)
    except REDIRECTED as error:
        raise _DownloadError(f"it leads to an address that cannot be used ({error})") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # requests and urllib3 wrap the system's error several times
            cause = cause.__context__
        what = "the server cannot be reached" if isinstance(cause, UNREACHABLE) else "the connection broke"
        raise _TemporaryError(f"{what} ({str(cause) or type(cause).__name__})") from cause
    if version["length"] not in (None, size):
        raise _TemporaryError(f"the connection ended after {size} of {version['length']} bytes")


def _response(url: str, headers: dict[str, str]) -> requests.Response:
    """The response to a request, its body not read. Raises _TemporaryError if it does not begin in time.

    The timeout of requests counts anew with every byte of the headers, so the wait itself has a limit.
    """
    answer: Future[requests.Response] = Future()

    def request() -> None:
        try:
            response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except Exception as error:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)
        else:
            if answer.set_running_or_notify_cancel():
                answer.set_result(response)
            else:
                response.close()

    threading.Thread(target=request, daemon=True).start()
    try:
        return answer.result(INTERVAL)
    except TimeoutError as error:
        answer.cancel()
        raise _TemporaryError(f"its headers were not complete after {INTERVAL:g} s") from error


def _receive(
    response: requests.Response,
    part: Path,
    size: int,
    length: int | None,
    show: Callable[[int, int | None], None],
) -> int:
    """Append the body of a response to the `size` bytes of `part`; return its new size.

    Raises _DownloadError, and deletes `part`, if the body is larger than any dataset, and _TemporaryError if
    it arrives too slowly.
    """
    response.raw.enforce_content_length = False  # keep all bytes of a short response, to resume there
    began, before = time.monotonic(), size
    with part.open("ab" if size else "wb") as file, _deadline(response) as extend:
        # Unlike iter_content, read1 returns what has arrived instead of waiting for a whole chunk.
        while max(size, length or 0) <= MOST_BYTES and (
            chunk := response.raw.read1(CHUNK, decode_content=True)
        ):
            file.write(chunk)
            size += len(chunk)
            show(size, length)
            if (now := time.monotonic()) - began > INTERVAL:
                if size - before < SLOWEST * (now - began):
                    raise _TemporaryError(TOO_SLOW)
                began, before = now, size
                extend()
    if max(size, length or 0) > MOST_BYTES:
        _discard(part)
        raise _DownloadError(f"it is larger than {MOST_BYTES / 1e9:g} GB, so it is not a dataset")
    return size


@contextmanager
def _deadline(response: requests.Response) -> Iterator[Callable[[], None]]:
    """Ends the body of a response unless the function is called within every two INTERVALs.

    A single read may take for ever, since some bytes, such as the sizes of chunks, are not part of the body.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        response.raw.shutdown()

    timer = threading.Timer(0, expire)

    def extend() -> None:
        nonlocal timer
        timer.cancel()
        timer = threading.Timer(2 * INTERVAL, expire)
        timer.daemon = True
        timer.start()

    extend()
    try:
        yield extend
    finally:
        timer.cancel()
        if expired.is_set():
            raise _TemporaryError(TOO_SLOW)


def _version(response: requests.Response) -> dict[str, Any]:
    """Identifies one version of the file at a URL, so that parts of two versions are never joined."""
    headers = response.headers
    total = headers.get("Content-Range", "").rpartition("/")[2]
    length = total if response.status_code == 206 else headers.get("Content-Length", "")
    return {
        "length": int(length) if length.isdecimal() and len(length) < 20 else None,
        "etag": headers.get("ETag"),
        "modified": headers.get("Last-Modified"),
    }


def _validator(version: dict[str, Any]) -> str | None:
    """The value for If-Range, which does not allow weak tags."""
    etag = version["etag"]
    return etag if etag and not etag.startswith("W/") else version["modified"]


def _continues(response: requests.Response, known: dict[str, Any], size: int) -> bool:
    """Whether a partial response continues `size` bytes of a known version. It may omit headers."""
    stated = {key: value for key, value in _version(response).items() if value or key == "length"}
    starts_there = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
    return starts_there and known | stated == known


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _recorded_version(part: Path) -> dict[str, Any] | None:
    """The version that `part` belongs to; None if the download cannot be resumed."""
    try:
        version = json.loads(_record(part).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(version, dict) or version.keys() != {"length", "etag", "modified"}:
        return None
    resumable = version["length"] is not None or _validator(version)
    return version if resumable and part.exists() else None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _record(part).unlink(missing_ok=True)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Progress of a download on stderr: a bar in a terminal, otherwise a line from time to time."""
    console, last_shown = Console(stderr=True), -math.inf
    columns = ("{task.description}", BarColumn(), DownloadColumn())
    speed = TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, *speed, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)

        def show(size: int, total: int | None) -> None:
            nonlocal last_shown
            bar.update(task, completed=size, total=total)
            now = time.monotonic()
            if bar.disable and (now >= last_shown + PROGRESS_INTERVAL or size == total):
                last_shown = now
                _report(f"{name}: {size / 1e6:.1f} MB" + (f" of {total / 1e6:.1f}" if total else ""))

        yield show
