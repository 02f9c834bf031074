"""`seqeval status` for studies in every state, and the error files of failed jobs."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import DIES, RAISES, SMALL, STUDY, run
from hypothesis import given
from hypothesis import strategies as st
from test_storage import FAILED, ROW

from seqeval import atomic_io, cli
from seqeval.cli import status as status_command
from seqeval.cli.status import RunStatus, study_status
from seqeval.errors import PluginError
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import Run, StudyDirectory

BEGAN = "2026-01-01T00:00:00+00:00"


def study_json(invocations: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of study.json after these invocations of `seqeval run`."""
    names = {name for invocation in invocations for name in invocation["updates"]}
    variants = {
        name for invocation in invocations for totals in invocation["updates"].values() for name in totals
    }
    return {
        "protocol": {},
        "online": {},
        "evaluation": {},
        "evaluators": {},
        "datasets": {name: {"env_id": None, "digest": name, "reference": None} for name in sorted(names)},
        "algorithms": {name: {"algorithm": name, "config": {}} for name in sorted(variants)},
        "invocations": invocations,
    }


def create_study(folder: Path, *invocations: dict[str, Any]) -> StudyDirectory:
    out = StudyDirectory(folder)
    out.admit(study_json([{"began": BEGAN, **invocation} for invocation in invocations]))
    return out


def open_run(out: StudyDirectory, seed: int) -> Run:
    files = out.run("tiny", "bc", seed)
    files.open(None)
    return files


def age(files: Run, seconds: float) -> None:
    """Moves the time of the run's last progress report into the past."""
    progress = files.read_progress()
    assert progress is not None
    files.progress.write_text(json.dumps(progress | {"time": progress["time"] - seconds}))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[StudyDirectory]:
    """A study of six seeds with 100 updates each: two finished, and one in each other state."""
    out = create_study(tmp_path / "study", {"seeds": list(range(6)), "updates": {"tiny": {"bc": 100}}})
    finished, diverged, running, stopped, failed = (open_run(out, seed) for seed in range(5))
    for files, row in ((finished, ROW), (diverged, FAILED)):
        files.append(row)
        files.finish({})
    running.write_progress(50, 100, 2.0)
    stopped.write_progress(25, 100, 4.0, stopped=True)
    failed.write_progress(75, 100, 4.0)
    failed.write_error("Traceback: deliberate")
    for files in (running, stopped, failed):
        files.close()
    return out


def states(out: StudyDirectory) -> list[str]:
    return [status.state for status in study_status(out.path)[0]]


def test_each_state_is_recognised(out: StudyDirectory) -> None:
    assert states(out) == ["finished", "finished", "running", "stopped", "failed", "waiting"]
    runs = study_status(out.path)[0]
    assert [run.updates for run in runs] == [100, 100, 50, 25, 75, 0]
    assert [run.updates_per_second for run in runs] == [0, 0, 2.0, 0, 0, 0]
    assert [run.diverged for run in runs] == [False, True, False, False, False, False]
    assert runs[4].error is not None
    assert runs[4].error.read_text() == "Traceback: deliberate\n"


def test_a_failed_run_that_starts_again_is_no_longer_failed(out: StudyDirectory) -> None:
    open_run(out, 4).close()
    assert states(out)[4] == "waiting"
    files = out.run("tiny", "bc", 4)
    files.write_error("once more")
    files.open({"rows_bytes": 0})
    files.close()
    assert not files.error.exists()


@pytest.mark.parametrize(("ago", "state"), [(50, "running"), (70, "stopped")])
def test_a_run_counts_as_stopped_after_a_minute_without_a_report(
    out: StudyDirectory, ago: float, state: str
) -> None:
    age(out.run("tiny", "bc", 2), ago)
    assert states(out)[2] == state


def test_in_a_locked_study_runs_of_the_latest_invocation_are_running_and_others_waiting(
    out: StudyDirectory,
) -> None:
    """The age of a report does not matter: an evaluation may take long."""
    age(out.run("tiny", "bc", 2), 1000)
    with atomic_io.locked(out.path, "in use"):
        assert states(out)[2:4] == ["running", "waiting"]
        age(out.run("tiny", "bc", 2), time.time())  # before the latest invocation
        assert states(out)[2:4] == ["waiting", "waiting"]
    assert states(out)[2:4] == ["stopped", "stopped"]


def test_the_table_and_the_notes_below_it(out: StudyDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    (out.path / "big").write_bytes(bytes(3_000_000))
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(out.path)])
    assert ended.value.code == 0
    header, line, *notes = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *("dataset", "algorithm"),
        *("finished", "running", "waiting", "stopped", "failed"),
        *("updates", "time", "left"),
    ]
    # 350 of 600 updates are made; running and waiting runs have 150 left, at 2 per second.
    assert line.split() == ["tiny", "bc", "2", "1", "1", "1", "1", "58%", "75", "s"]
    assert [text.rstrip() for text in notes] == [
        "2 of 6 runs finished, 3 MB on disk",
        "tiny · bc · seed 1: losses or actions are not finite; rows have the status failed",
        f"tiny · bc · seed 4 failed: see {out.run('tiny', 'bc', 4).error}",
        "run the same `seqeval run` command again to resume stopped runs",
    ]


def test_only_requested_runs_are_listed(tmp_path: Path) -> None:
    invocations = [
        {"seeds": [0, 1], "updates": {"one": {"bc": 10}}},
        {"seeds": [1, 2], "updates": {"two": {"bc": 20, "iql": 30}}},
    ]
    out = create_study(tmp_path / "study", *invocations)
    runs = [(run.dataset, run.variant, run.seed, run.total_updates) for run in study_status(out.path)[0]]
    assert runs == [
        *[("one", "bc", 0, 10), ("one", "bc", 1, 10)],
        *[("two", "bc", 1, 20), ("two", "bc", 2, 20), ("two", "iql", 1, 30), ("two", "iql", 2, 30)],
    ]


def test_a_new_study_lists_its_runs_with_their_total_updates(tmp_path: Path) -> None:
    out = StudyDirectory(tmp_path / "study")
    out.admit(resolve(STUDY).describe())
    runs = [(run.variant, run.seed, run.total_updates) for run in study_status(out.path)[0]]
    updates = math.ceil(19_000 / 16) + 1 + 120
    assert runs == [(name, seed, updates) for name in ("td3_bc", "iql") for seed in (0, 1)]


def test_watch_ends_when_all_runs_are_finished_or_failed(
    out: StudyDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_command, "REFRESH_SECONDS", 0.05)

    def finish() -> None:
        for seed in (2, 3, 5):
            files = open_run(out, seed)
            files.append(replace(ROW, seed=seed))
            files.finish({})

    thread = threading.Timer(0.3, finish)
    thread.start()
    assert status_command.status(out.path, watch=True) == 0
    thread.join()
    assert states(out) == [*["finished"] * 4, "failed", "finished"]
    assert "5 of 6 runs finished" in capsys.readouterr().out


def test_ctrl_c_ends_watch_with_success(out: StudyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert status_command.status(out.path, watch=True) == 0


def test_a_directory_without_a_study_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"seqeval: {tmp_path}: no study here (no study.json)")


def runs_in(state: str) -> st.SearchStrategy[RunStatus]:
    speed = st.floats(0.1, 1e4) if state == "running" else st.just(0.0)
    return st.builds(
        RunStatus,
        *map(st.just, ("data", "bc", 0, state)),
        st.floats(0, 1000),
        st.just(1000.0),
        speed,
        st.none(),
        st.just(False),
    )


@given(
    st.lists(runs_in("running"), min_size=1, max_size=4),
    st.lists(runs_in("waiting"), max_size=4),
    st.lists(runs_in("stopped"), max_size=4),
)
def test_time_left_covers_all_unfinished_updates_and_the_slowest_run(
    running: list[RunStatus], waiting: list[RunStatus], stopped: list[RunStatus]
) -> None:
    left = status_command._seconds_left([*running, *waiting, *stopped])
    assert left is not None
    speed = sum(run.updates_per_second for run in running)
    updates_left = sum(run.total_updates - run.updates for run in [*running, *waiting])
    assert left * speed >= updates_left * (1 - 1e-9)
    for status in running:
        assert left * status.updates_per_second >= (status.total_updates - status.updates) * (1 - 1e-9)
    if not waiting:
        slowest = max((run.total_updates - run.updates) / run.updates_per_second for run in running)
        assert left == pytest.approx(slowest)


# --- error files ---


def test_a_job_that_raises_stores_its_traceback(tmp_path: Path) -> None:
    plugin, out = tmp_path / "raises.py", tmp_path / "study"
    plugin.write_text(RAISES)
    study = replace(STUDY, algorithms=(f"{plugin}:Raises:name=raises", f"bc:{SMALL},name=bc"))
    with pytest.raises(PluginError, match=r"raises · seed 0"):
        run(study, out)
    statuses = study_status(out)[0]
    assert [status.state for status in statuses] == ["failed", "failed", "finished", "finished"]
    for status in statuses[:2]:
        assert status.error is not None
        assert re.search(r"(?s)raises · seed 0.*\nTraceback.*deliberate", status.error.read_text())


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_plugin_that_exits_has_not_finished_its_runs(tmp_path: Path, end: str) -> None:
    """In the process of the study, which it must not end."""
    plugin, out = tmp_path / "exits.py", tmp_path / "study"
    plugin.write_text("import os, sys\n" + RAISES.replace('raise ZeroDivisionError("deliberate")', end))
    study = replace(STUDY, algorithms=(f"{plugin}:Raises:name=raises",))
    before = os._exit
    with pytest.raises(PluginError, match=r"(?s)raises · seed 0.*SystemExit"):
        run(study, out, jobs=1)
    assert os._exit is before
    assert {status.state for status in study_status(out)[0]} == {"failed"}


def test_a_job_whose_process_dies_stores_the_reason(tmp_path: Path) -> None:
    plugin, out = tmp_path / "dies.py", tmp_path / "study"
    plugin.write_text(DIES)
    study = replace(STUDY, algorithms=(f"{plugin}:Dies:name=dies", f"bc:{SMALL},name=bc"), seeds=(0,))
    with pytest.raises(cli.UserError, match="dies · seed 0: its process died"):
        run(study, out, jobs=2)
    statuses = study_status(out)[0]
    assert [status.state for status in statuses] == ["failed", "finished"]
    assert statuses[0].error is not None
    assert "its process died" in statuses[0].error.read_text()
