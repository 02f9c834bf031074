"""Atomic writes, and the lock of a folder: who holds it, and what remains of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seqeval import atomic_io
from seqeval.atomic_io import is_locked, locked
from seqeval.errors import UserError
from seqeval.execution.storage import StudyDirectory

HOLD = (
    "import sys, pathlib; from seqeval.atomic_io import locked\n"
    "with locked(pathlib.Path(sys.argv[1]), 'busy'): print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it is killed or the block ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_excludes_other_processes_until_its_holder_dies(tmp_path: Path) -> None:
    with another_process(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=f"^{tmp_path}: in use$"), locked(tmp_path, "in use"):
            pytest.fail("two processes held the lock")
    assert not is_locked(tmp_path)
    with locked(tmp_path, "in use"):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_lock_is_released_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), locked(tmp_path, "in use"):
        raise RuntimeError("inside")
    assert not is_locked(tmp_path)


def test_looking_at_a_lock_creates_no_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not is_locked(tmp_path / "missing")


def test_a_lock_that_cannot_be_opened_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / atomic_io.LOCK_FILE).touch()

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic_io.FileLock, "acquire", denied)
    assert not is_locked(tmp_path)


def test_an_interrupted_write_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    atomic_io.save_json(path, 1)

    def interrupted() -> None:
        with atomic_io.replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_study_directory_with_nothing_but_a_lock_file_can_be_used(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "study")
    for _ in range(2):
        with directory.locked():
            assert [path.name for path in directory.path.iterdir()] == [".lock"]
    (directory.path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty and holds no study"), directory.locked():
        pytest.fail("it was used")
