"""Studies that are killed, stopped, or run out of disk space resume exactly, and end with the same rows."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cluster import SMALL, checkpoints, load_chaos, rows, run, run_partly, silent

from seqeval import Evaluation, Execution, Online, Protocol, Study, UserError, atomic_io
from seqeval.execution import storage
from seqeval.execution.launchers import local
from seqeval.execution.storage import StudyDirectory
from seqeval.types import Row

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"iql:{SMALL},name=iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=120),
)
RUNS = 4


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    return load_chaos()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study directory of an uninterrupted study."""
    out = tmp_path_factory.mktemp("expected") / "study"
    run(STUDY, out)
    return out


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_study_killed_at_twenty_random_times_has_the_same_rows_and_policies(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    kills = chaos.kill_and_resume(
        STUDY, tmp_path / "study", 20, 0.25, seed=0, execution=Execution(jobs=1, save_every=0.02)
    )
    assert kills.total() == 20
    assert chaos.differences(expected, tmp_path / "study") == []


def test_the_comparison_covers_everything_but_seconds(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    other = tmp_path / "study"
    run(STUDY, other)
    assert chaos.differences(expected, other) == []
    file = next(other.glob("runs/*/*/seed-0/rows.jsonl"))
    lines = file.read_text().splitlines()
    changed = json.loads(lines[1]) | {"return_mean": 1.0}
    file.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]) + "\n")
    name = "/".join(file.parts[-4:-1])
    assert [line.split(":")[0] for line in chaos.differences(expected, other)] == [
        f"{name}, row 2, return_mean"
    ]
    policy = next(other.glob("runs/*/*/seed-1/policy.pt"))
    state = torch.load(policy, weights_only=True)
    next(iter(state["algorithm"]["actor"].values())).view(-1)[0] += 1e-6
    torch.save(state, policy)
    assert len(chaos.differences(expected, other)) == 2


def test_a_study_that_receives_sigterm_saves_itself_and_resumes(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    started = rows(STUDY, out, save_every=1000)
    next(started), next(started), next(started)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(started)
    assert len(checkpoints(out)) == 2  # of the seeds that were being trained; the others had not started
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    console = silent()
    run(STUDY, out, console)
    notes = [line for line in console.file.getvalue().splitlines() if line.startswith("note: pendulum")]
    expected_note = r"note: pendulum-replay · td3_bc · seed 0, 1: resumes after \d+ of 418 updates"
    assert [bool(re.fullmatch(expected_note, note)) for note in notes] == [True]
    assert chaos.differences(expected, out) == []
    assert not checkpoints(out)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    started = rows(STUDY, tmp_path / "study", save_every=1000)
    next(started)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    started.close()
    assert not checkpoints(tmp_path / "study")


def test_a_caller_that_stops_reading_rows_can_resume(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    assert all(isinstance(row, Row) for row in run_partly(STUDY, out, 5))
    assert len(list(rows(STUDY, out))) < len(list(StudyDirectory(out).rows()))
    assert chaos.differences(expected, out) == []


def test_seeds_and_jobs_may_change_between_calls(chaos: ModuleType, expected: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run_partly(replace(STUDY, seeds=(1,)), out, 3)
    run(STUDY, out, jobs=2)
    assert chaos.differences(expected, out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_dies_is_restarted_and_does_not_affect_others(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out, console = tmp_path / "study", silent()
    started = rows(STUDY, out, console, jobs=2, save_every=0.02)
    first = next(started)
    folder = f"/{first.variant}/"  # of the rows that the process has open
    (killed, *_) = [
        pid for pid in descendants(os.getpid()) if any(folder in path for path in open_files(pid))
    ]
    os.kill(killed, signal.SIGKILL)
    new = [first, *started]
    note = f"{first.variant} · seed 0, 1: its process died; it resumes from its last checkpoint"
    assert console.file.getvalue().count(note) == 1
    points = [(row.variant, row.seed, row.samples) for row in new]
    assert len(points) == len(set(points)) == 7 * RUNS  # each row reaches the caller once
    assert chaos.differences(expected, out) == []


def open_files(pid: int) -> list[str]:
    """Paths of the files that a process has open."""
    return [os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()]


def test_an_incomplete_row_and_a_truncated_checkpoint_cost_only_time(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    run_partly(STUDY, out, 4)
    one, other = checkpoints(out)
    one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
    with (other.parent / "rows.jsonl").open("a") as file:
        file.write('{"study": "st')
    run(STUDY, out)
    assert chaos.differences(expected, out) == []


def test_a_checkpoint_with_changed_bytes_is_not_used(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    run_partly(STUDY, out, 4)
    for path in checkpoints(out):
        content = bytearray(path.read_bytes())
        for place in range(len(content) // 2, len(content) // 2 + 100):  # more than the gaps between tensors
            content[place] ^= 0xFF
        path.write_bytes(content)
    console = silent()
    run(STUDY, out, console)
    assert console.file.getvalue().count("its checkpoint cannot be used; it starts again") == 1
    assert chaos.differences(expected, out) == []


def test_damaged_files_of_a_finished_run_are_reported_or_repaired(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    run(STUDY, out)
    finished = next(out.glob("runs/*/*/seed-0/finished.json"))
    finished.write_text("")
    file = next(out.glob("runs/*/*/seed-1/rows.jsonl"))
    file.write_text(file.read_text().replace('"seed"', "seed", 1))
    with pytest.raises(UserError, match=r"finished\.json: damaged.*remove its folder and run"):
        list(StudyDirectory(out).rows())
    finished.unlink()
    with pytest.raises(UserError, match=r"rows\.jsonl: damaged.*remove its folder and run"):
        list(StudyDirectory(out).rows())
    run(STUDY, out)
    assert chaos.differences(expected, out) == []


def test_a_run_that_lost_rows_of_its_checkpoint_starts_again(
    chaos: ModuleType, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    run_partly(STUDY, out, 4)
    file = checkpoints(out)[0].with_name("rows.jsonl")
    file.write_text(file.read_text()[:-5])
    run(STUDY, out)
    assert chaos.differences(expected, out) == []


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_partly(STUDY, tmp_path / "study", 3)
    monkeypatch.setattr(storage, "_versions", lambda: {"seqeval-rl": "9", "torch": "9", "numpy": "9"})
    with pytest.raises(UserError, match=r"checkpoint.pt: saved by seqeval-rl .* but seqeval-rl 9"):
        run(STUDY, tmp_path / "study")


class FileOnFullDisk:
    """A file on a disk with space for some more bytes."""

    def __init__(self, file: Any, space: int) -> None:
        self._file, self._space = file, space

    def write(self, text: str) -> None:
        if len(text) > self._space:
            self._file.write(text[: self._space])
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._space -= len(text)
        self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_is_one_line_and_nothing_is_lost(
    chaos: ModuleType, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    open_run = storage.Run.open

    def open_on_a_small_disk(self: storage.Run, checkpoint: Any) -> None:
        open_run(self, checkpoint)
        self._file = FileOnFullDisk(self._file, 1500)

    with monkeypatch.context() as patched:
        patched.setattr(storage.Run, "open", open_on_a_small_disk)
        with pytest.raises(UserError, match=r"rows\.jsonl: No space left on device; free some space and run"):
            run(STUDY, out, save_every=0.02)
    run(STUDY, out)
    assert chaos.differences(expected, out) == []


def test_a_checkpoint_that_does_not_fit_keeps_the_previous_one(
    chaos: ModuleType, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, count = tmp_path / "study", 0
    save = atomic_io.save_tensors

    def full(path: Path, value: Any) -> None:
        nonlocal count
        count += 1
        if count <= 40:
            save(path, value)
            return
        with atomic_io.replacing(path) as partial:
            partial.write_bytes(b"incomplete")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))

    with monkeypatch.context() as patched:
        patched.setattr(atomic_io, "save_tensors", full)
        with pytest.raises(UserError, match=r"checkpoint\.pt\.partial: No space left on device"):
            run(STUDY, out, save_every=0.02)
    assert checkpoints(out)
    assert not list(out.glob("runs/*/*/*/*.partial"))
    run(STUDY, out)
    assert chaos.differences(expected, out) == []


def test_a_study_in_another_thread_does_not_handle_signals(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run(replace(STUDY, algorithms=(f"bc:{SMALL}",), seeds=(0,)), tmp_path / "s")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    assert len(list(StudyDirectory(tmp_path / "s").rows())) == 7


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def descendants(pid: int) -> list[int]:
    """Children, and those of the children: a server process starts the jobs."""
    found = children(pid)
    return found + [grandchild for child in found for grandchild in descendants(child)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as parent:
        workers: list[int] = []
        start = time.monotonic()
        while not list(tmp_path.glob("out/runs/*/*/*/rows.jsonl")):
            assert time.monotonic() - start < 60, "no job has started"
            time.sleep(0.1)
        workers = descendants(parent.pid)
        assert len(workers) >= 2
        parent.send_signal(signal.SIGKILL)
    start = time.monotonic()
    while left := [pid for pid in workers if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() - start < 20, f"still there: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("after", [0.3, 1.5])
def test_a_signal_to_the_process_group_while_jobs_start_stops_them(tmp_path: Path, after: float) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        start = time.monotonic()
        while len(children(parent.pid)) < 1:  # the first of them
            assert time.monotonic() - start < 60, "no process has started"
            time.sleep(0.01)
        time.sleep(after)
        os.killpg(parent.pid, signal.SIGTERM)
        _, output = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert output.endswith("seqeval: interrupted; run the same command again to resume\n")
    assert "Traceback" not in output


def test_ctrl_c_saves_every_job_and_exits_with_130(tmp_path: Path) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        start = time.monotonic()
        while len(list(tmp_path.glob("out/runs/*/*/*/progress.json"))) < 2:
            assert time.monotonic() - start < 60, "no job has started"
            time.sleep(0.1)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to its jobs too
        _, output = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert "stopping: every job saves a checkpoint; press Ctrl-C again to stop immediately" in output
    assert output.endswith("seqeval: interrupted; run the same command again to resume\n")
    assert "Traceback" not in output
    assert len(checkpoints(tmp_path / "out")) == 2


def test_cores_are_physical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for processor, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(local, "TOPOLOGY", tmp_path)
    for usable, cores in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({1, 2}, 2), ({0, 7}, 2)):
        # The system does not describe processor 7.
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, usable=usable: usable, raising=False)
        assert local.cores() == cores
