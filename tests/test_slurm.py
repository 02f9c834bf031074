"""Pieces of work as submitit's jobs, in processes of this machine: what it proves of Slurm, and what it does
not, stands in seqeval/launch/slurm.py."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import RAISES, ROWS, STUDY, differences, kept, points, saved, silent, working_in

from seqeval import Slurm, UserError, cli
from seqeval.execution.remote import Word, queued
from seqeval.execution.storage import RunDirectory

submitit = pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    # The local executor's jobs are children of this process; of Slurm's none is.
    pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning"),
]

# Slurm's commands, of jobs that are processes: which of them live, and an end to them. Each call is noted.
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
    """Jobs are processes of this machine; the file to which calls of Slurm's commands are added."""
    from seqeval.execution.launchers import slurm

    for name, script in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(script)
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name, value in (("CLUSTER", "local"), ("GLANCE", 0.1), ("ASK_EVERY", 0.5), ("LAG", 1.0)):
        monkeypatch.setattr(slurm, name, value)
    return tmp_path / "calls"


ONE = replace(STUDY, algorithms=STUDY.algorithms[:1])  # one piece of work, of two seeds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of one piece, run in peace and without Slurm."""
    out = tmp_path_factory.mktemp("whole") / "study"
    ONE.run(out, jobs=1, console=silent())
    return out


def signalled(out: Path, number: int) -> threading.Thread:
    """Sends a signal to the first piece that has stored a row and saved itself since, and keeps the rows that
    it had stored by then, with the cell, as attributes of the thread."""

    def wait_and_send() -> None:
        while True:
            for checkpoint in saved(out):
                for pid in set(working_in(checkpoint.parent)) - {os.getpid()}:
                    os.kill(pid, signal.SIGSTOP)
                    rows = kept(checkpoint) if checkpoint.exists() else ""
                    if rows:
                        os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
                    if rows:
                        thread.rows, thread.cell, thread.pid = rows, checkpoint.parent, pid
                        return
            time.sleep(0.02)

    thread: Any = threading.Thread(target=wait_and_send, daemon=True)
    thread.start()
    return thread


def wait_until_over(out: Path) -> None:
    while queued(Word.of(out).jobs):
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_a_piece_that_is_told_that_its_time_is_over_is_saved_requeued_and_goes_on(
    calls: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    told = signalled(out, signal.SIGUSR2)
    how: Any = {"launcher": Slurm(), "console": silent(), "save_every": 0.05}
    rows = [(row.variant, row.seed, row.samples) for row in ONE.rows(out, **how)]
    # Rows from before the signal have kept their seconds.
    assert (told.cell / "rows.jsonl").read_text().startswith(told.rows)
    assert differences()(whole, out) == []
    assert sorted(rows) == points(whole)
    assert len(rows) == ROWS / 2
    (log,) = [path.read_text() for path in (out / "slurm").glob("*_log.out")]
    assert log.count("Requeued job") == 1
    assert log.count("Job completed successfully") == 1
    assert Word.of(out) == Word()


@pytest.mark.timeout(120)
def test_a_piece_that_is_terminated_is_saved_and_its_end_is_noticed(
    calls: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    told = signalled(out, signal.SIGTERM)
    with pytest.raises(UserError, match=r"td3_bc · seed 0, 1: its job \d+ has ended without a word") as error:
        ONE.run(out, launcher=Slurm(), console=silent(), save_every=0.05)
    (job,) = re.findall(r"its job (\d+) has", str(error.value))
    assert f"squeue --noheader --array --format=%i --jobs={job}\n" in calls.read_text()
    cells = [RunDirectory(out).cell("pendulum-replay", "td3_bc", seed) for seed in (0, 1)]
    assert [cell.error.read_text() for cell in cells] == [f"{error.value}\n"] * 2
    assert [cell.told()["every"] for cell in cells] == [None] * 2  # it has saved itself at its end
    ONE.run(out, jobs=1, console=silent())
    assert (told.cell / "rows.jsonl").read_text().startswith(told.rows)
    assert differences()(whole, out) == []


@pytest.mark.timeout(120)
def test_stopped_the_pieces_save_themselves_and_nothing_is_left_in_the_queue(
    calls: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    rows = ONE.rows(out, launcher=Slurm(), console=silent(), save_every=1000)
    next(rows)
    (job,) = Word.of(out).jobs
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(rows)
    assert len(saved(out)) == 2
    assert [line for line in calls.read_text().splitlines() if line.startswith("scancel")] == [
        f"scancel --state=PENDING {job}"
    ]
    assert Word.of(out) == Word(stop=True)
    ONE.run(out, jobs=1, console=silent())
    assert differences()(whole, out) == []


@pytest.mark.timeout(120)
def test_whoever_wants_no_more_rows_cancels_the_rest(calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    rows = ONE.rows(out, launcher=Slurm(), console=silent(), save_every=1000)
    next(rows)
    (job,) = Word.of(out).jobs
    rows.close()
    assert calls.read_text().splitlines()[-1] == f"scancel {job}"
    wait_until_over(out)
    assert not list(out.glob("cells/*/*/*/finished.json"))


@pytest.mark.timeout(120)
def test_a_piece_that_raises_says_so_and_the_other_is_finished(
    calls: Path, whole: Path, tmp_path: Path
) -> None:
    from seqeval.execution import WorkFailed

    (tmp_path / "raises.py").write_text(RAISES)
    out = tmp_path / "study"
    study = replace(STUDY, algorithms=(f"{tmp_path}/raises.py:Raises:name=raises", STUDY.algorithms[0]))
    with pytest.raises(
        WorkFailed, match=r"(?s)raises · seed 0, 1:\nTraceback.*ZeroDivisionError: of its own"
    ):
        study.run(out, launcher=Slurm(), console=silent())
    assert points(out) == points(whole)
    error = RunDirectory(out).cell("pendulum-replay", "raises", 1).error.read_text()
    assert "ZeroDivisionError: of its own doing" in error


@pytest.mark.timeout(120)
def test_detached_it_goes_on_alone_and_nobody_else_may_meanwhile(
    calls: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    told = silent()
    assert ONE.run(out, launcher=Slurm(detach=True), console=told).empty
    assert f"pieces in Slurm's queue: 1; `seqeval status {out} --watch` says more" in told.file.getvalue()
    (job,) = Word.of(out).jobs
    with pytest.raises(UserError, match=rf"in Slurm's queue or running \(1\); .*`scancel {job}`"):
        ONE.run(out, jobs=1, console=silent())
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(out), "--watch"])
    assert ended.value.code == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    wait_until_over(out)
    assert differences()(whole, out) == []
    ONE.run(out, jobs=1, console=told)
    assert "every cell is finished" in told.file.getvalue()


def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file that submitit writes for sbatch."""
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
    STUDY.run(tmp_path / "out", launcher=settings, jobs=1, console=silent())
    asked = {
        line.removeprefix("#SBATCH --")
        for line in (tmp_path / "out" / "slurm" / "77_submission.sh").read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    assert asked >= {
        *("partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=1", "mem=8GB", "array=0-1%1"),
        *("account=me", "exclusive", "signal=USR2@120", "job-name=seqeval"),
    }
    assert Word.of(tmp_path / "out").jobs == ("77_0", "77_1")
    with pytest.raises(UserError, match=r"in Slurm's queue or running \(2\); .*`scancel 77`"):
        STUDY.run(tmp_path / "out", jobs=1, console=silent())


def test_without_slurm_or_submitit_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match='launcher slurm: Could not detect "srun"'):
        STUDY.run(tmp_path / "out", launcher=Slurm(), console=silent())
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.launchers.slurm", raising=False)
    with pytest.raises(UserError, match=r"submitit is not installed; pip install 'seqeval-rl\[slurm\]'$"):
        STUDY.run(tmp_path / "out", launcher=Slurm())
