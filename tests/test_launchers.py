"""Launchers by name and from a path, and the validation of `Execution`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import DIES, ROWS, SMALL, STUDY, differences, points, rows, run, silent
from conftest import Seqeval, refused

from seqeval import Evaluation, Execution, Online, Protocol, Ray, Slurm, Study, UserError, atomic_io
from seqeval.execution.driver import JobsFailed
from seqeval.execution.driver_state import DriverState
from seqeval.execution.storage import StudyDirectory

LAUNCHERS = """
import threading
from seqeval.execution.launchers import Launcher
from seqeval.execution.worker import Failure, run_payload

class Threads(Launcher):
    "One thread after the other."

    device = "cpu"

    def __enter__(self):
        (self.out / "entered").touch()
        return self

    def __exit__(self, *error):
        (self.out / "left").touch()

    def slots(self, device):
        return 2

    def has_spare_cpu(self, device, jobs):
        return False

    def submit(self, payloads, stop):
        self.waiting, self.stop = dict(enumerate(payloads)), stop
        self.notes.append(f"{len(payloads)} threads")

    def poll(self):
        place, payload = self.waiting.popitem()
        found = []
        thread = threading.Thread(target=lambda: found.extend(run_payload(payload, self.stop)))
        thread.start()
        thread.join()
        return {place: next((event for event in found if isinstance(event, Failure)), None)}

    def cancel(self):
        (self.out / "cancelled").touch()

class Fails(Threads):
    def poll(self):
        return {self.waiting.popitem()[0]: Failure("no machine", fixable=False)}

class Incomplete(Launcher):
    def slots(self, device):
        return 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(LAUNCHERS)
    return path


def test_a_launcher_from_a_path_runs_a_study(file: Path, tmp_path: Path) -> None:
    out, console = tmp_path / "out", silent()
    found = list(rows(STUDY, out, console, launcher=f"{file}:Threads"))
    run(STUDY, tmp_path / "expected")
    assert differences()(tmp_path / "expected", out) == []
    assert sorted((row.variant, row.seed, row.samples) for row in found) == points(out)
    assert len(found) == ROWS
    assert "note: 2 threads" in console.file.getvalue()
    assert (out / "entered").exists()
    assert (out / "left").exists()
    assert not (out / "cancelled").exists()


def test_a_launcher_is_cancelled_if_the_caller_stops_reading_rows(file: Path, tmp_path: Path) -> None:
    started = rows(STUDY, tmp_path / "out", launcher=f"{file}:Threads")
    next(started)
    started.close()
    assert (tmp_path / "out" / "cancelled").exists()
    assert (tmp_path / "out" / "left").exists()


def test_failures_that_a_launcher_reports_are_stored(file: Path, tmp_path: Path) -> None:
    with pytest.raises(JobsFailed, match="no machine\nno machine"):
        run(STUDY, tmp_path / "out", launcher=f"{file}:Fails")
    for seed in (0, 1):
        error = StudyDirectory(tmp_path / "out").run("pendulum-replay", "iql", seed).error
        assert error.read_text() == "no machine\n"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("slrum", "launcher 'slrum' is not known; did you mean 'slurm'?; known launchers: local, ray, slurm"),
        ("mine.py:Thread", "there is no 'Thread' in this file; did you mean 'Threads'?"),
        ("mine.py:Incomplete", "Incomplete has no cancel and no has_spare_cpu and no poll and no submit"),
        ("nowhere.py:Mine", "nowhere.py: No such file or directory"),
    ],
)
def test_unusable_launchers_are_refused_in_one_line(
    seqeval: Seqeval, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("run", "--datasets", "pendulum-replay", "--algorithms", "bc", "--out", "out")
    assert part in refused(seqeval(*arguments, "--launcher", name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Execution(jobs=0), "jobs: must be at least 1, not 0"),
        (lambda: Execution(save_every=-1.0), "save_every: must be a number of seconds, not -1.0"),
        (lambda: Execution(save_every=float("nan")), "save_every: must be a number, not nan"),
        (lambda: Execution(ray=Ray(retries=3)), "ray: these settings have no effect without --launcher ray"),
        (
            lambda: Execution(launcher="ray", slurm=Slurm(cpus=2)),
            "slurm: these settings have no effect without --launcher slurm",
        ),
        (
            lambda: Execution(launcher="slurm", slurm=Slurm(detach=True), log="tensorboard"),
            "log: tensorboard needs the command to wait for rows; remove slurm.detach",
        ),
        (lambda: Ray(gpus_per_job=1.5), "ray.gpus_per_job: a share up to 1 or a whole number, not 1.5"),
        (lambda: Ray(gpus_per_job=-1), "ray.gpus_per_job: a share up to 1 or a whole number, not -1"),
        (lambda: Ray(retries=-1), "ray.retries: must be at least 0, not -1"),
        (lambda: Slurm(time_limit=4), "slurm.time_limit: minutes, at least 5, not 4"),
        (lambda: Slurm(cpus=0), "slurm: 0 cpus, 0 gpus and 4 GB of memory are not possible"),
        (lambda: Slurm(gpus=-1), "slurm: 1 cpus, -1 gpus and 4 GB of memory are not possible"),
        (lambda: Slurm(memory=0), "slurm: 1 cpus, 0 gpus and 0 GB of memory are not possible"),
        (
            lambda: Slurm(more=("account=me", "=x")),
            "slurm.more: '=x' is not an option; write options as account=NAME",
        ),
    ],
)
def test_invalid_settings_of_the_execution_are_refused(create: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        create()
    assert str(error.value) == message


def test_a_launcher_on_another_device_than_the_study_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"device: is cuda, but the jobs of launcher .*:Threads run on cpu; "):
        run(replace(STUDY, device="cuda"), tmp_path / "out", launcher=f"{file}:Threads")
    assert not (tmp_path / "out").exists()


TINY = Study(
    ("pendulum-replay",),
    (f"bc:{SMALL},name=bc", f"td3_bc:{SMALL},name=td3"),
    seeds=(0,),
    protocol=Protocol(start=19_000, grow_by=16),
    evaluation=Evaluation(points=2, episodes=1),
    online=Online(),
)


def test_a_study_that_another_process_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        atomic_io.locked(tmp_path / "out", "in use"),
        pytest.raises(UserError, match="out: another process is running this study"),
    ):
        run(TINY, tmp_path / "out")


def test_progress_is_printed_as_lines_if_the_output_is_not_a_terminal(tmp_path: Path) -> None:
    console = silent()
    run(TINY, tmp_path / "out", console)
    lines = console.file.getvalue().splitlines()
    assert [re.sub(r"about \d+ (s|min)", "about … s", line) for line in lines] == [
        " 50%  1 of 2 jobs ended, about … s left  ·  pendulum-replay · bc · seed 0: finished",
        "100%  2 of 2 jobs ended  ·  pendulum-replay · td3 · seed 0: finished",
    ]
    run(TINY, tmp_path / "out", console)
    assert console.file.getvalue().splitlines()[2:] == [f"{tmp_path / 'out'}: every run is finished"]


def test_a_failed_job_is_shown_as_failed(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    study, console = (
        replace(TINY, algorithms=(TINY.algorithms[0], f"{tmp_path}/dies.py:Dies:name=dies")),
        silent(),
    )
    with pytest.raises(
        UserError, match=r"^pendulum-replay · dies · seed 0: its process died .*; run the same"
    ):
        run(study, tmp_path / "out", console, jobs=2)
    lines = console.file.getvalue().splitlines()
    assert (
        sum("dies · seed 0: its process died; it resumes from its last checkpoint" in line for line in lines)
        == 1
    )
    assert sum(line.endswith("dies · seed 0: failed") for line in lines) == 1
    assert sum(line.endswith("bc · seed 0: finished") for line in lines) == 1


def test_the_driver_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert DriverState.read(tmp_path) == DriverState()
    state = DriverState(stop=True, queued=("7_0", "7_1"))
    state.write(tmp_path)
    assert DriverState.read(tmp_path) == state


def test_jobs_stop_if_the_driver_state_requests_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from seqeval.execution import worker
    from seqeval.execution.jobs import resolve
    from seqeval.execution.worker import JobPayload, run_payload

    monkeypatch.setattr(worker, "HEARTBEAT", 0.05)
    resolved, directory = resolve(TINY), StudyDirectory(tmp_path / "out")
    directory.admit(resolved.describe())
    job = resolved.jobs(directory)[0]
    payload, stop = JobPayload.create(job, directory.path, 1000.0, float("inf")), threading.Event()
    started = run_payload(payload, stop)
    next(started)
    DriverState(stop=True).write(directory.path)
    assert stop.wait(10)
    assert list(started) == []
    files = directory.run("pendulum-replay", "bc", 0)
    progress = files.read_progress()
    assert progress is not None
    assert progress["stopped"]
    assert files.checkpoint.exists()
    # A job that starts after the request ends at once.
    assert list(run_payload(payload, threading.Event())) == []
