"""Runs that are killed, stopped, starved of disk or of a worker, and go on as if nothing had been."""

from __future__ import annotations

import errno
import json
import os
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
from cluster import load_chaos, silent

from seqeval import Evaluation, Online, Protocol, Study, UserError, atomic_io, execution
from seqeval.execution import storage
from seqeval.execution.launchers import local
from seqeval.execution.storage import RunDirectory
from seqeval.types import Row

SMALL = "hidden=(16,16),batch_size=16"
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},name=td3_bc", f"iql:{SMALL},name=iql"),
    seeds=(0, 1),
    protocol=Protocol(start=1000, grow_by=64),
    evaluation=Evaluation(points=3, episodes=1),
    online=Online(steps=120),
)
CELLS = 4


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    return load_chaos()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run in peace."""
    out = tmp_path_factory.mktemp("whole") / "study"
    STUDY.run(out, jobs=1, console=silent())
    return out


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_twenty_random_moments_it_ends_up_the_same(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    kills = chaos.kill_and_resume(STUDY, tmp_path / "study", 20, 0.25, seed=0, jobs=1, save_every=0.02)
    assert kills.total() == 20
    assert chaos.differences(whole, tmp_path / "study") == []


def test_what_is_compared_is_everything_but_the_seconds(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    other = tmp_path / "study"
    STUDY.run(other, jobs=1, console=silent())
    assert chaos.differences(whole, other) == []
    file = next(other.glob("cells/*/*/seed-0/rows.jsonl"))
    lines = file.read_text().splitlines()
    changed = json.loads(lines[1]) | {"return_mean": 1.0}
    file.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]) + "\n")
    run = "/".join(file.parts[-4:-1])
    assert [line.split(":")[0] for line in chaos.differences(whole, other)] == [f"{run}, row 2, return_mean"]
    policy = next(other.glob("cells/*/*/seed-1/policy.pt"))
    state = torch.load(policy, weights_only=True)
    next(iter(state["algorithm"]["actor"].values())).view(-1)[0] += 1e-6
    torch.save(state, policy)
    assert len(chaos.differences(whole, other)) == 2


def test_stopped_from_outside_it_is_saved_and_goes_on(chaos: ModuleType, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    rows = execution.rows(STUDY, out, jobs=1, console=silent(), save_every=1000)
    next(rows), next(rows), next(rows)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(rows)
    saved = list(out.glob("cells/*/*/*/checkpoint.pt"))
    assert len(saved) == 2  # of the seeds that were being trained, after some update; the others never began
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    told = silent()
    STUDY.run(out, jobs=1, console=told)
    assert "goes on after" in told.file.getvalue()
    assert chaos.differences(whole, out) == []
    assert not list(out.glob("cells/*/*/*/checkpoint.pt"))


def test_a_second_interruption_stops_at_once(tmp_path: Path) -> None:
    rows = execution.rows(STUDY, tmp_path / "study", jobs=1, console=silent(), save_every=1000)
    next(rows)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    rows.close()
    assert not list(tmp_path.glob("study/cells/*/*/*/checkpoint.pt"))


def test_whoever_wants_no_more_rows_leaves_them_to_go_on_from(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    rows = STUDY.rows(out, jobs=1, console=silent(), save_every=0.02)
    assert all(isinstance(next(rows), Row) for _ in range(5))
    rows.close()
    found = [row.seed for row in STUDY.rows(out, jobs=1, console=silent())]
    assert len(found) < len(list(RunDirectory(out).rows()))
    assert chaos.differences(whole, out) == []


def test_seeds_and_jobs_may_change_on_the_way(chaos: ModuleType, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    rows = replace(STUDY, seeds=(1,)).rows(out, jobs=1, console=silent(), save_every=0.02)
    for _ in range(3):
        next(rows)
    rows.close()
    STUDY.run(out, jobs=2, console=silent())
    assert chaos.differences(whole, out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_dies_takes_no_other_with_it_and_is_begun_again(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "study", silent()
    rows = execution.rows(STUDY, out, jobs=2, console=told, save_every=0.02)
    first = next(rows)
    folder = f"/{first.variant}/"  # of the rows that it has open
    (killed, *_) = [pid for pid in children(os.getpid()) if any(folder in path for path in opened(pid))]
    os.kill(killed, signal.SIGKILL)
    list(rows)
    assert told.file.getvalue().count("its process died; it goes on where it was saved") == 1
    assert chaos.differences(whole, out) == []


def opened(pid: int) -> list[str]:
    """Paths of the files that a process has open."""
    return [os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()]


def leave_after_four_rows(out: Path) -> None:
    """The study begun in `out`, saved again and again, and left."""
    rows = STUDY.rows(out, jobs=1, console=silent(), save_every=0.02)
    for _ in range(4):
        next(rows)
    rows.close()


def test_a_torn_last_line_and_a_damaged_checkpoint_cost_time_alone(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    leave_after_four_rows(out)
    (one, other) = sorted(out.glob("cells/*/*/*/checkpoint.pt"))
    one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
    with (other.parent / "rows.jsonl").open("a") as file:
        file.write('{"study": "st')
    STUDY.run(out, jobs=1, console=silent())
    assert chaos.differences(whole, out) == []


def test_a_checkpoint_with_a_wrong_byte_is_not_gone_on_from(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    leave_after_four_rows(out)
    for path in out.glob("cells/*/*/*/checkpoint.pt"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    told = silent()
    STUDY.run(out, jobs=1, console=told)
    assert told.file.getvalue().count("what was saved of it cannot be used; it begins again") == 1
    assert chaos.differences(whole, out) == []


def test_a_damaged_mark_or_row_is_told_or_mended(chaos: ModuleType, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    STUDY.run(out, jobs=1, console=silent())
    mark = next(out.glob("cells/*/*/seed-0/finished.json"))
    mark.write_text("")
    file = next(out.glob("cells/*/*/seed-1/rows.jsonl"))
    file.write_text(file.read_text().replace('"seed"', "seed", 1))
    with pytest.raises(UserError, match=r"rows\.jsonl: line 1 is damaged; remove its folder and run"):
        list(RunDirectory(out).rows())
    STUDY.run(out, jobs=1, console=silent())
    assert chaos.differences(whole, out) == []


def test_rows_that_were_lost_behind_a_checkpoint_begin_the_seed_anew(
    chaos: ModuleType, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    leave_after_four_rows(out)
    file = next(out.glob("cells/*/*/*/checkpoint.pt")).parent / "rows.jsonl"
    file.write_text(file.read_text()[:-5])
    STUDY.run(out, jobs=1, console=silent())
    assert chaos.differences(whole, out) == []


def test_what_other_versions_saved_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = STUDY.rows(tmp_path / "study", jobs=1, console=silent(), save_every=0.02)
    for _ in range(3):
        next(rows)
    rows.close()
    monkeypatch.setattr(storage, "_versions", lambda: {"seqeval-rl": "9", "torch": "9", "numpy": "9"})
    with pytest.raises(UserError, match=r"checkpoint.pt: saved by seqeval-rl .* here is seqeval-rl 9"):
        STUDY.run(tmp_path / "study", jobs=1, console=silent())


class Full:
    """A file on a disk that has room for some more bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, text: str) -> None:
        if len(text) > self._room:
            self._file.write(text[: self._room])
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._room -= len(text)
        self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_disk_that_is_full_is_one_line_and_nothing_is_lost(
    chaos: ModuleType, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    begin = storage.Cell.begin

    def begin_on_a_small_disk(cell: storage.Cell, *saved: Any) -> None:
        begin(cell, *saved)
        cell._file = Full(cell._file, 1500)

    with monkeypatch.context() as patched:
        patched.setattr(storage.Cell, "begin", begin_on_a_small_disk)
        with pytest.raises(UserError, match=r"rows\.jsonl: No space left on device; make room"):
            STUDY.run(out, jobs=1, console=silent(), save_every=0.02)
    STUDY.run(out, jobs=1, console=silent())
    assert chaos.differences(whole, out) == []


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(
    chaos: ModuleType, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, times = tmp_path / "study", [0]
    save = atomic_io.save_tensors

    def full(path: Path, value: Any) -> None:
        times[0] += 1
        if times[0] <= 40:
            save(path, value)
            return
        with atomic_io.replacing(path) as partial:
            partial.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))

    with monkeypatch.context() as patched:
        patched.setattr(atomic_io, "save_tensors", full)
        with pytest.raises(UserError, match=r"checkpoint\.pt\.partial: No space left on device"):
            STUDY.run(out, jobs=1, console=silent(), save_every=0.02)
    assert list(out.glob("cells/*/*/*/checkpoint.pt"))
    assert not list(out.glob("cells/*/*/*/*.partial"))
    STUDY.run(out, jobs=1, console=silent())
    assert chaos.differences(whole, out) == []


def test_a_study_in_a_thread_of_its_own_leaves_signals_alone(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            replace(STUDY, algorithms=(f"bc:{SMALL}",), seeds=(0,)).run(
                tmp_path / "s", jobs=1, console=silent()
            )
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    assert len(list(RunDirectory(tmp_path / "s").rows())) == 7


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as parent:
        workers: list[int] = []
        begun = time.monotonic()
        while not list(tmp_path.glob("out/cells/*/*/*/rows.jsonl")):
            assert time.monotonic() - begun < 60, "no worker has begun"
            time.sleep(0.1)
        workers = children(parent.pid)
        assert len(workers) >= 2
        parent.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    while left := [pid for pid in workers if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() - begun < 20, f"still there: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("after", [0.3, 1.5])
def test_a_signal_to_the_group_while_workers_start_is_a_stop(tmp_path: Path, after: float) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        begun = time.monotonic()
        while len(children(parent.pid)) < 1:  # the first of them
            assert time.monotonic() - begun < 60, "no process has begun"
            time.sleep(0.01)
        time.sleep(after)
        os.killpg(parent.pid, signal.SIGTERM)
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert said.endswith("seqeval: interrupted; run the same command again to resume\n")
    assert "Traceback" not in said


def test_ctrl_c_saves_every_worker_says_how_to_go_on_and_exits_with_130(tmp_path: Path) -> None:
    study = "run --datasets pendulum-replay --algorithms td3_bc --seeds 0 1 --jobs 2 --protocol.start 100"
    arguments = [sys.executable, "-m", "seqeval.cli", *study.split(), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        begun = time.monotonic()
        while len(list(tmp_path.glob("out/cells/*/*/*/progress.json"))) < 2:
            assert time.monotonic() - begun < 60, "no worker has begun"
            time.sleep(0.1)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert "every piece finishes its update and is saved" in said
    assert said.endswith("seqeval: interrupted; run the same command again to resume\n")
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("out/cells/*/*/*/checkpoint.pt"))) == 2


def test_cores_are_physical_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for processor, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(local, "TOPOLOGY", tmp_path)
    for mine, cores in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({1, 2}, 2), ({0, 7}, 2)):  # nothing is told of 7
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, mine=mine: mine, raising=False)
        assert local.cores() == cores
