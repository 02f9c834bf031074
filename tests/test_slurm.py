"""Jobs of a study as Slurm jobs, run by submitit's local executor.

seqeval/execution/launchers/slurm.py says what these tests show about Slurm and what they do not.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cluster import (
    RAISES,
    ROWS,
    STUDY,
    checkpoints,
    differences,
    points,
    processes_with_files_in,
    rows,
    rows_before,
    run,
    silent,
)

from seqeval import Slurm, UserError, cli
from seqeval.errors import PluginError
from seqeval.execution.driver_state import DriverState
from seqeval.execution.slurm_queue import queued
from seqeval.execution.storage import StudyDirectory

submitit = pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    # The local executor's jobs are children of this process; Slurm's are not.
    pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning"),
]

# Stand-ins for Slurm's commands, for jobs that are processes. Each call is recorded.
SQUEUE = """#!/bin/sh
echo squeue "$@" >> "$CALLS"
for id in $(echo "${4#--jobs=}" | tr , ' '); do
    case "$(ps -o stat= -p $id)" in ""|Z*) ;; *) echo $id ;; esac
done
"""
SCANCEL = """#!/bin/sh
echo scancel "$@" >> "$CALLS"
case "$1" in --state=PENDING) ;; *) kill -TERM "$@" ;; esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes jobs processes of this machine; the file that records the calls of Slurm's commands."""
    from seqeval.execution.launchers import slurm

    for name, script in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(script)
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name, value in (("CLUSTER", "local"), ("POLL", 0.1), ("QUERY_EVERY", 0.5), ("LAG", 1.0)):
        monkeypatch.setattr(slurm, name, value)
    return tmp_path / "calls"


ONE = replace(STUDY, algorithms=STUDY.algorithms[:1])  # one job, of two seeds


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of one job, uninterrupted and without Slurm."""
    out = tmp_path_factory.mktemp("expected") / "study"
    run(ONE, out)
    return out


@dataclass
class Signalled:
    """A job that received a signal, once it did."""

    folder: Path = Path()  # of one of its runs
    rows: str = ""  # that this run had stored before its last checkpoint


def signal_first_job(out: Path, number: int) -> Signalled:
    """Sends a signal to the first job that has a checkpoint with rows before it."""
    signalled = Signalled()

    def wait_and_send() -> None:
        while True:
            for checkpoint in checkpoints(out):
                for pid in set(processes_with_files_in(checkpoint.parent)) - {os.getpid()}:
                    os.kill(pid, signal.SIGSTOP)
                    stored = rows_before(checkpoint) if checkpoint.exists() else ""
                    if stored:
                        os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
                    if stored:
                        signalled.folder, signalled.rows = checkpoint.parent, stored
                        return
            time.sleep(0.02)

    threading.Thread(target=wait_and_send, daemon=True).start()
    return signalled


def wait_for_queue(out: Path) -> None:
    while queued(DriverState.read(out).queued):
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_a_job_at_its_time_limit_is_saved_requeued_and_resumed(
    calls: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    signalled = signal_first_job(out, signal.SIGUSR2)
    started = rows(ONE, out, launcher="slurm", save_every=0.05)
    found = [(row.variant, row.seed, row.samples) for row in started]
    # Rows from before the signal still have their seconds.
    assert signalled.rows
    assert (signalled.folder / "rows.jsonl").read_text().startswith(signalled.rows)
    assert differences()(expected, out) == []
    assert sorted(found) == points(expected)
    assert len(found) == ROWS / 2
    (log,) = [path.read_text() for path in (out / "slurm").glob("*/*_log.out")]
    assert log.count("Requeued job") == 1
    assert log.count("Job completed successfully") == 1
    assert DriverState.read(out) == DriverState()


@pytest.mark.timeout(120)
def test_a_job_that_is_terminated_saves_itself_and_its_end_is_noticed(
    calls: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    signalled = signal_first_job(out, signal.SIGTERM)
    ended = r"td3_bc · seed 0, 1: its Slurm job \d+ ended without a result"
    with pytest.raises(UserError, match=ended) as error:
        run(ONE, out, launcher="slurm", save_every=0.05)
    (job,) = re.findall(r"its Slurm job (\d+) ended", str(error.value))
    assert f"squeue --noheader --array --format=%i --jobs={job}\n" in calls.read_text()
    for seed in (0, 1):
        files = StudyDirectory(out).run("pendulum-replay", "td3_bc", seed)
        assert files.error.read_text() == f"{error.value}\n"
        progress = files.read_progress()
        assert progress is not None
        assert progress["stopped"]
    run(ONE, out)
    assert (signalled.folder / "rows.jsonl").read_text().startswith(signalled.rows)
    assert differences()(expected, out) == []


@pytest.mark.timeout(120)
def test_stopped_jobs_save_themselves_and_none_is_left_in_the_queue(
    calls: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    started = rows(ONE, out, launcher="slurm", save_every=1000)
    next(started)
    (job,) = DriverState.read(out).queued
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(started)
    assert len(checkpoints(out)) == 2
    assert [line for line in calls.read_text().splitlines() if line.startswith("scancel")] == [
        f"scancel --state=PENDING {job}"
    ]
    assert DriverState.read(out) == DriverState(stop=True)
    run(ONE, out)
    assert differences()(expected, out) == []


@pytest.mark.timeout(120)
def test_a_caller_that_stops_reading_rows_cancels_the_jobs(calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    started = rows(ONE, out, launcher="slurm", save_every=1000)
    next(started)
    (job,) = DriverState.read(out).queued
    started.close()
    assert calls.read_text().splitlines()[-1] == f"scancel {job}"
    wait_for_queue(out)
    assert not list(out.glob("runs/*/*/*/finished.json"))


@pytest.mark.timeout(120)
def test_a_job_that_raises_is_reported_and_the_other_finishes(
    calls: Path, expected: Path, tmp_path: Path
) -> None:
    (tmp_path / "raises.py").write_text(RAISES)
    out = tmp_path / "study"
    study = replace(STUDY, algorithms=(f"{tmp_path}/raises.py:Raises:name=raises", STUDY.algorithms[0]))
    with pytest.raises(
        PluginError, match=r"(?s)raises · seed 0, 1: a plug-in.*in update.*ZeroDivisionError: deliberate"
    ):
        run(study, out, launcher="slurm")
    assert points(out) == points(expected)
    error = StudyDirectory(out).run("pendulum-replay", "raises", 1).error.read_text()
    assert "ZeroDivisionError: deliberate" in error


@pytest.mark.timeout(120)
def test_a_detached_study_continues_and_other_calls_are_refused(
    calls: Path, expected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    console = silent()
    assert run(ONE, out, console, launcher="slurm", slurm=Slurm(detach=True)).empty
    assert f"jobs in the queue: 1; see `seqeval status {out} --watch`" in console.file.getvalue()
    (job,) = DriverState.read(out).queued
    with pytest.raises(UserError, match=rf"1 of its jobs are in Slurm's queue or running; .*`scancel {job}`"):
        run(ONE, out)
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(out), "--watch"])
    assert ended.value.code == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    wait_for_queue(out)
    assert differences()(expected, out) == []
    run(ONE, out, console)
    assert "every run is finished" in console.file.getvalue()


def test_the_options_reach_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file that submitit writes for sbatch."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho Submitted batch job 77\n")
    (tmp_path / "bin" / "srun").write_text("")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho '77_0\n77_1'\n")
    for command in sbatch.parent.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    settings = Slurm(
        partition="gpu", time_limit=90, gpus=1, memory=8, more=("account=me", "--exclusive"), detach=True
    )
    run(STUDY, tmp_path / "out", launcher="slurm", slurm=settings, jobs=1)
    (folder,) = (tmp_path / "out" / "slurm").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    options = {
        line.removeprefix("#SBATCH --")
        for line in (folder / "77_submission.sh").read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    assert options >= {
        *("partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=1", "mem=8GB", "array=0-1%1"),
        *("account=me", "exclusive", "signal=USR2@120", "job-name=seqeval"),
    }
    assert DriverState.read(tmp_path / "out").queued == ("77_0", "77_1")
    with pytest.raises(UserError, match=r"2 of its jobs are in Slurm's queue or running; .*`scancel 77`"):
        run(STUDY, tmp_path / "out")


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.target,)


@pytest.fixture
def fake_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster that gives the array the id 77 and never runs it; DIR/slurm of its study."""
    from seqeval.execution.launchers import slurm

    commands = {"sbatch": "echo Submitted batch job 77", "srun": "", "squeue": "", "scancel": ""}
    for name, command in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("POLL", "QUERY_EVERY", "LAG"):
        monkeypatch.setattr(slurm, name, 0.05)
    return tmp_path / "out" / "slurm"


def test_results_of_an_earlier_submission_are_neither_believed_nor_executed(
    fake_cluster: Path, tmp_path: Path
) -> None:
    run(ONE, tmp_path / "out", launcher="slurm", slurm=Slurm(detach=True))
    DriverState.remove(tmp_path / "out")
    for content in (("success", None), Planted(tmp_path / "made")):
        (fake_cluster / "77_0_result.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=r"its Slurm job 77 ended without a result"):
            run(ONE, tmp_path / "out", launcher="slurm")
    assert not (tmp_path / "made").exists()


def test_a_job_whose_runs_have_not_finished_has_failed_whatever_its_result(
    fake_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqeval.execution.launchers import slurm

    new_folder = slurm._new_folder

    def with_result(out: Path) -> Path:
        folder = new_folder(out)
        (folder / "77_0_result.pkl").write_bytes(pickle.dumps(("success", None)))
        return folder

    monkeypatch.setattr(slurm, "_new_folder", with_result)
    with pytest.raises(UserError, match=r"77 reported its end, but its runs have not finished"):
        run(ONE, tmp_path / "out", launcher="slurm")


def test_missing_slurm_or_submitit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match='launcher slurm: Could not detect "srun"'):
        run(STUDY, tmp_path / "out", launcher="slurm")
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.launchers.slurm", raising=False)
    with pytest.raises(UserError, match=r"submitit is not installed; pip install 'seqeval-rl\[slurm\]'$"):
        run(STUDY, tmp_path / "out", launcher="slurm")
