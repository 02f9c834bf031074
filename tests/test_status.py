"""`seqeval status` by run directories in every state, and the word that failed pieces leave."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import DIES, RAISES, SMALL, STUDY, silent
from hypothesis import given
from hypothesis import strategies as st
from test_storage import FAILED, ROW

from seqeval import atomic_io, cli
from seqeval.cli import status as command
from seqeval.cli.status import Standing, standings
from seqeval.execution import WorkFailed
from seqeval.execution.jobs import resolve
from seqeval.execution.storage import Cell, RunDirectory

BEGAN = "2026-01-01T00:00:00+00:00"


def study(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What study.json holds of such runs."""
    names = {name for run in runs for name in run["updates"]}
    variants = {name for run in runs for cells in run["updates"].values() for name in cells}
    return {
        "protocol": {},
        "online": {},
        "evaluation": {},
        "datasets": {name: {"env_id": None, "digest": name, "reference": None} for name in sorted(names)},
        "algorithms": {name: {"algorithm": name, "config": {}} for name in sorted(variants)},
        "runs": runs,
    }


def made(folder: Path, *runs: dict[str, Any]) -> RunDirectory:
    out = RunDirectory(folder)
    out.admit(study([{"began": BEGAN, **run} for run in runs]))
    return out


def begin(out: RunDirectory, seed: int, variant: str = "bc") -> Cell:
    cell = out.cell("made-up", variant, seed)
    cell.begin()
    return cell


def age(cell: Cell, seconds: float) -> None:
    """As if word of it had been left so long ago."""
    told = cell.told()
    cell.progress.write_text(json.dumps(told | {"time": told["time"] - seconds}))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[RunDirectory]:
    """A study of six seeds of 100 updates, each in another state."""
    out = made(tmp_path / "study", {"seeds": list(range(6)), "updates": {"made-up": {"bc": 100}}})
    finished, diverged, running, stopped, failed = (begin(out, seed) for seed in range(5))
    for cell, row in ((finished, ROW), (diverged, FAILED)):
        cell.append(row)
        cell.finish({})
    running.tell(50, 100, 2.0, every=30)
    stopped.tell(25, 100, 4.0, every=None)
    failed.tell(75, 100, 4.0, every=30)
    failed.fail("Traceback: of its own doing")
    for cell in (running, stopped, failed):
        cell.close()
    return out


def states(out: RunDirectory) -> list[str]:
    return [cell.state for cell in standings(out.path)]


def test_each_state_is_told(out: RunDirectory) -> None:
    assert states(out) == ["done", "done", "running", "stopped", "failed", "waiting"]
    found = standings(out.path)
    assert [cell.updates for cell in found] == [100, 100, 50, 25, 75, 0]
    assert [cell.per_second for cell in found] == [0, 0, 2.0, 0, 0, 0]
    assert [cell.diverged for cell in found] == [False, True, False, False, False, False]
    assert found[4].error is not None
    assert found[4].error.read_text() == "Traceback: of its own doing\n"


def test_what_begins_again_has_not_failed(out: RunDirectory) -> None:
    begin(out, 4).close()
    assert states(out)[4] == "waiting"
    cell = out.cell("made-up", "bc", 4)
    cell.fail("once more")
    cell.begin({"rows_bytes": 0})
    cell.close()
    assert not cell.error.exists()


@pytest.mark.parametrize(
    ("every", "ago", "state"),
    [(5, 50, "running"), (5, 70, "stopped"), (60, 170, "running"), (60, 190, "stopped")],
)
def test_without_news_for_three_times_its_time_and_a_minute_nobody_is_at_work(
    out: RunDirectory, every: float, ago: float, state: str
) -> None:
    cell = out.cell("made-up", "bc", 2)
    cell.tell(50, 100, 2.0, every)
    age(cell, ago)
    assert states(out)[2] == state


def test_while_the_study_is_locked_what_it_has_begun_runs_and_the_rest_waits(out: RunDirectory) -> None:
    """However long an evaluation takes; and what an earlier call has left waits for its turn."""
    age(out.cell("made-up", "bc", 2), 1000)
    with atomic_io.locked(out.path, "at work"):
        assert states(out)[2:4] == ["running", "waiting"]
        age(out.cell("made-up", "bc", 2), time.time())  # before this call began
        assert states(out)[2:4] == ["waiting", "waiting"]
    assert states(out)[2:4] == ["stopped", "stopped"]


def test_the_table_and_what_is_said_beneath(out: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    (out.path / "big").write_bytes(bytes(3_000_000))
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(out.path)])
    assert ended.value.code == 0
    header, line, *beneath = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *(
            "dataset",
            "algorithm",
            "done",
            "running",
            "waiting",
            "stopped",
            "failed",
            "updates",
            "time",
            "left",
        )
    ]
    # Of 600 updates 350 are made; 150 are ahead of what runs, 2 a second, and waits.
    assert line.split() == ["made-up", "bc", "2", "1", "1", "1", "1", "58%", "75", "s"]
    assert [text.rstrip() for text in beneath] == [
        "2 of 6 cells done, 3 MB on disc",
        "made-up · bc · seed 1: its numbers are not finite, and its rows say failed",
        f"made-up · bc · seed 4 failed: see {out.cell('made-up', 'bc', 4).error}",
        "what is stopped goes on with the same `seqeval run`",
    ]


def test_only_cells_that_were_asked_for_are_missing(tmp_path: Path) -> None:
    runs = [
        {"seeds": [0, 1], "updates": {"one": {"bc": 10}}},
        {"seeds": [1, 2], "updates": {"two": {"bc": 20, "iql": 30}}},
    ]
    out = made(tmp_path / "study", *runs)
    found = [(cell.dataset, cell.variant, cell.seed, cell.of) for cell in standings(out.path)]
    assert found == [
        *[("one", "bc", 0, 10), ("one", "bc", 1, 10)],
        *[("two", "bc", 1, 20), ("two", "bc", 2, 20), ("two", "iql", 1, 30), ("two", "iql", 2, 30)],
    ]


def test_studies_that_do_not_tell_their_updates_have_a_status_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made(tmp_path / "study", {"seeds": [0], "updates": {"made-up": {"bc": 10}}})
    said = out.study()
    del said["runs"][0]["updates"]
    out.study_file.write_text(json.dumps(said))
    assert command.status(out.path) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["made-up", "bc", "1"]


def test_what_a_study_says_of_itself_is_what_is_asked_for(tmp_path: Path) -> None:
    out = RunDirectory(tmp_path / "study")
    out.admit(resolve(STUDY).describe())
    found = [(cell.variant, cell.seed, cell.of) for cell in standings(out.path)]
    updates = math.ceil(19_000 / 16) + 1 + 120
    assert found == [(name, seed, updates) for name in ("td3_bc", "iql") for seed in (0, 1)]


def test_watched_it_is_shown_until_every_cell_is_done_or_failed(
    out: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "EVERY", 0.05)

    def finish() -> None:
        for seed in (2, 3, 5):
            cell = begin(out, seed)
            cell.append(replace(ROW, seed=seed))
            cell.finish({})

    thread = threading.Timer(0.3, finish)
    thread.start()
    assert command.status(out.path, watch=True) == 0
    thread.join()
    assert states(out) == ["done", "done", "done", "done", "failed", "done"]
    assert "5 of 6 cells done" in capsys.readouterr().out


def test_ctrl_c_ends_the_watching_alone(out: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert command.status(out.path, watch=True) == 0


def test_where_there_is_no_study_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"seqeval: {tmp_path}: no study here (no study.json)")


def cells(state: str) -> st.SearchStrategy[Standing]:
    speed = st.floats(0.1, 1e4) if state == "running" else st.just(0.0)
    done = st.floats(0, 1000)
    return st.builds(
        Standing,
        *map(st.just, ("data", "bc", 0, state)),
        done,
        st.just(1000.0),
        speed,
        st.none(),
        st.just(False),
    )


@given(
    st.lists(cells("running"), min_size=1, max_size=4),
    st.lists(cells("waiting"), max_size=4),
    st.lists(cells("stopped"), max_size=4),
)
def test_the_time_left_is_no_less_than_any_cell_needs_and_all_need_together(
    running: list[Standing], waiting: list[Standing], stopped: list[Standing]
) -> None:
    left = command._left([*running, *waiting, *stopped])
    assert left is not None
    speed = sum(cell.per_second for cell in running)
    ahead = sum(cell.of - cell.updates for cell in [*running, *waiting])
    assert left * speed >= ahead * (1 - 1e-9)
    assert all(left * cell.per_second >= (cell.of - cell.updates) * (1 - 1e-9) for cell in running)
    if not waiting:
        slowest = max((cell.of - cell.updates) / cell.per_second for cell in running)
        assert left == pytest.approx(slowest)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (math.nan, ""), (4.2, "4 s"), (100, "2 min"), (5000, "83 min"), (5450, "1 h 31 min")],
)
def test_times_in_words(seconds: float | None, words: str) -> None:
    assert command._words(seconds) == words


# --- what failed pieces leave ---


def test_a_piece_that_raises_leaves_its_traceback(tmp_path: Path) -> None:
    plugin, out = tmp_path / "raises.py", tmp_path / "study"
    plugin.write_text(RAISES)
    study = replace(STUDY, algorithms=(f"{plugin}:Raises:name=raises", f"bc:{SMALL},name=bc"))
    with pytest.raises(WorkFailed, match=r"raises · seed 0"):
        study.run(out, jobs=1, console=silent())
    found = standings(out)
    assert [cell.state for cell in found] == ["failed", "failed", "done", "done"]
    for cell in found[:2]:
        assert cell.error is not None
        assert re.search(r"(?s)raises · seed 0.*\nTraceback.*of its own doing", cell.error.read_text())


def test_a_piece_whose_process_dies_leaves_word_too(tmp_path: Path) -> None:
    plugin, out = tmp_path / "dies.py", tmp_path / "study"
    plugin.write_text(DIES)
    study = replace(STUDY, algorithms=(f"{plugin}:Dies:name=dies", f"bc:{SMALL},name=bc"), seeds=(0,))
    with pytest.raises(cli.UserError, match="dies · seed 0: its process died"):
        study.run(out, jobs=2, console=silent())
    found = standings(out)
    assert [cell.state for cell in found] == ["failed", "done"]
    assert found[0].error is not None
    assert "its process died" in found[0].error.read_text()
