"""The study directory: rows and policies are read as they were written, names do not collide, and results of
different studies are not mixed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqeval import cli
from seqeval.errors import UserError
from seqeval.execution.driver_state import DriverState
from seqeval.execution.storage import Run, StudyDirectory, export_table, frame
from seqeval.types import Row

ROW = Row(
    study="runs",
    dataset="made-up",
    algorithm="bc",
    variant="bc",
    seed=0,
    phase="offline",
    regime="stream",
    samples=100,
    env_steps=0,
    updates=1,
    episode_returns=[0.1 + 0.2, -1e-300],
    episode_lengths=[200, 7],
    episode_successes=None,
    return_mean=0.15000000000000002,
    score=1 / 3,
    status="ok",
    train_seconds=0.25,
    eval_seconds=0.5,
    metrics={"loss": 2 / 3},
)
FAILED = replace(
    ROW, samples=200, episode_returns=[], episode_lengths=[], return_mean=None, score=None, status="failed"
)

STUDY: dict[str, Any] = {
    "protocol": {"start": 100, "grow_by": 1, "window": None},
    "online": {"steps": 0},
    "evaluation": {"points": 2, "episodes": 10, "backend": "gymnasium"},
    "evaluators": {},
    "precision": "full",
    "matmul": {"cpu": {"kernels": "blas", "operands": "float32"}},
    "datasets": {
        "made-up": {
            "name": "made-up",
            "given": "data/made-up.hdf5",
            "env_id": "Pendulum-v1",
            "transitions": 300,
            "reference": {"minimum": 0.0, "maximum": 1.0, "source": "made up"},
            "digest": "d1",
            "notes": [],
        }
    },
    "recipes": {},
    "algorithms": {"bc": {"algorithm": "bc", "config": {"hidden": (8, 8), "dropout": 0.1}}},
    "invocations": [{"began": "first"}],
}


WRONG_PROGRESS = b'{"updates": 1, "of": "10", "per_second": null, "stopped": false, "time": 0}'


def changed(path: str, value: Any) -> dict[str, Any]:
    """The study with another value at a path of keys, e.g. `protocol.start`."""
    study = copy.deepcopy(STUDY)
    *parents, last = path.split("/")
    inside = study
    for parent in parents:
        inside = inside[parent]
    inside[last] = value
    return study


def fill(directory: StudyDirectory, rows: list[Row], finish: bool = True) -> Run:
    """A run with these rows, which are all of one seed."""
    run = directory.run(rows[0].dataset, rows[0].variant, rows[0].seed)
    run.open(None)
    for row in rows:
        run.append(row)
    if finish:
        run.finish({"weights": torch.arange(3.0)})
    else:
        run.close()
    return run


@pytest.fixture
def directory(tmp_path: Path) -> StudyDirectory:
    directory = StudyDirectory(tmp_path / "runs")
    directory.admit(STUDY)
    return directory


def study_of(name: str, tmp_path: Path, rows: list[Row]) -> Path:
    directory = StudyDirectory(tmp_path / name)
    directory.admit(STUDY)
    fill(directory, [replace(row, study=Path(name).name) for row in rows])
    return directory.path


def with_plugin(algorithm: str, code: str, **config: float) -> dict[str, Any]:
    """The study with a variant that is a class in a file."""
    return changed("algorithms", {"mine": {"algorithm": algorithm, "code": code, "config": config}})


def test_a_class_in_a_file_is_identified_by_the_content_of_the_file(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "plugin")
    directory.admit(with_plugin("/a/mine.py:Mine", "c1", alpha=1.0))
    directory.admit(with_plugin("/b/mine.py:Mine", "c1", alpha=1.0))
    assert directory.study()["algorithms"]["mine"]["algorithm"] == "/b/mine.py:Mine"
    with pytest.raises(UserError, match=r"mine\.code is 'c1' there and 'c2' now; .* restore the file"):
        directory.admit(with_plugin("/a/mine.py:Mine", "c2", added=1.0))
    with pytest.raises(UserError, match=r"mine\.algorithm"):
        directory.admit(with_plugin("/a/mine.py:Other", "c1", alpha=1.0))
    with pytest.raises(UserError, match=r"mine\.alpha"):
        directory.admit(with_plugin("/a/mine.py:Mine", "c1", alpha=2.0))


# --- a run ---


def test_rows_are_read_as_they_were_written_to_the_last_bit(directory: StudyDirectory) -> None:
    rows = [ROW, replace(ROW, samples=150, episode_successes=[True, False]), FAILED]
    fill(directory, rows)
    assert list(directory.rows()) == [asdict(row) for row in rows]


def test_a_metric_that_is_not_finite_is_nan_in_the_table(directory: StudyDirectory) -> None:
    fill(directory, [replace(FAILED, metrics={"loss": float("nan"), "q": float("inf"), "fine": 0.5})])
    (row,) = frame([directory.path]).to_dict("records")
    assert np.isnan([row["train/loss"], row["train/q"]]).all()
    assert row["train/fine"] == 0.5


def test_rows_are_strict_json(directory: StudyDirectory) -> None:
    """RFC 8259 has no NaN: jq, JavaScript and DuckDB stop at one."""
    run = fill(directory, [replace(FAILED, metrics={"loss": float("nan")})])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(run.rows.read_text(), parse_constant=refuse)


def test_a_row_is_on_the_disk_when_append_returns(directory: StudyDirectory) -> None:
    run = directory.run("made-up", "bc", 0)
    run.open(None)
    for count in (1, 2, 3):
        run.append(ROW)
        assert len(run.rows.read_text().splitlines()) == count
    run.close()


def test_an_incomplete_last_line_is_left_out(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW, replace(ROW, samples=150)], finish=False)
    whole = run.rows.read_bytes()
    cut = whole.index(b"\n") + 1
    for length in (cut, cut + 1, len(whole) - 1):
        run.rows.write_bytes(whole[:length])
        assert [row["samples"] for row in directory.rows()] == [100]
    run.rows.write_bytes(whole[:5])
    assert list(directory.rows()) == []


def test_a_run_is_finished_once_its_policy_is_stored(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW], finish=False)
    assert not run.finished
    assert not directory.run("made-up", "bc", 0).finished
    run.open(None)
    run.append(ROW)
    run.finish({"weights": torch.arange(3.0)})
    assert directory.run("made-up", "bc", 0).finished
    assert not directory.run("made-up", "bc", 1).finished
    saved = torch.load(run.policy, weights_only=True)
    assert saved["weights"].tolist() == [0, 1, 2]
    assert sorted(file.name for file in run.folder.iterdir()) == [
        "finished.json",
        "policy.pt",
        "rows.jsonl",
    ]


def test_a_run_whose_rows_were_truncated_is_not_finished(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW, ROW], finish=False)
    run.finish({})
    assert run.finished
    run.rows.write_text(run.rows.read_text()[:-20])
    assert not run.finished


def test_a_second_process_is_refused_while_the_first_one_runs(directory: StudyDirectory) -> None:
    hold = (
        "import sys, pathlib; from seqeval.execution.storage import StudyDirectory\n"
        "with StudyDirectory(pathlib.Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", hold, str(directory.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is running this study"), directory.locked():
            pass
        other.kill()
    with directory.locked():
        assert directory.path.is_dir()


def test_a_run_with_an_incomplete_policy_is_not_finished(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW], finish=False)
    run.policy.with_suffix(".partial").write_bytes(b"half")
    assert not run.finished


def test_opening_a_run_without_a_checkpoint_empties_it(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW, FAILED], finish=False)
    run.policy.with_suffix(".partial").write_bytes(b"half")
    again = directory.run("made-up", "bc", 0)
    again.open(None)
    assert [file.name for file in again.folder.iterdir()] == ["rows.jsonl"]
    assert list(directory.rows()) == []
    again.append(FAILED)
    again.close()
    assert [row["status"] for row in directory.rows()] == ["failed"]


def test_progress_is_read_as_it_was_written(directory: StudyDirectory) -> None:
    run = directory.run("made-up", "bc", 0)
    assert run.read_progress() is None
    run.open(None)
    run.write_progress(3, 10, 0.5)
    progress = run.read_progress()
    assert progress is not None
    assert time.time() - progress.pop("time") < 10
    assert progress == {"updates": 3, "of": 10, "per_second": 0.5, "stopped": False}
    run.progress.write_text('{"updates": ')
    assert run.read_progress() is None
    run.close()


def test_opening_a_run_does_not_change_other_runs(directory: StudyDirectory) -> None:
    fill(directory, [ROW])
    fill(directory, [replace(ROW, seed=1)], finish=False)
    run = directory.run("made-up", "bc", 1)
    run.open(None)
    run.close()
    assert directory.run("made-up", "bc", 0).finished
    assert [row["seed"] for row in directory.rows()] == [0]


def test_rows_are_sorted_by_seed_as_a_number(directory: StudyDirectory) -> None:
    for seed in (10, 2, 1):
        fill(directory, [replace(ROW, seed=seed)])
    assert [row["seed"] for row in directory.rows()] == [1, 2, 10]


# --- names ---

UNUSUAL = [
    "a/b",
    "a",
    "b",
    "a b",
    "a.b",
    "a%2Fb",
    "a%2fb",
    ".",
    "..",
    "...",
    "../a",
    "/a",
    ".a",
    "%2Ea",
    "a\\b",
    "a\nb",
    " ",
    "iql:expectile=0.9",
    "bc:hidden=(8,8)",
    "bc:hidden=[8, 8]",
    "*",
    "?",
    "é",
    "e",
    "²",
    "~",
    "a:b",
]


def test_unusual_names_have_folders_of_their_own_inside_the_directory(tmp_path: Path) -> None:
    root = (tmp_path / "run").resolve()
    folders = {name: StudyDirectory(root).run("made-up", name, 0).folder for name in UNUSUAL}
    assert len(set(folders.values())) == len(UNUSUAL)
    for folder in folders.values():
        assert folder.parent.parent == root / "runs" / "made-up"
        assert folder.resolve() == folder
        assert not folder.parent.name.startswith(".")


def test_all_rows_under_unusual_names_are_found(directory: StudyDirectory) -> None:
    for name in UNUSUAL:
        fill(directory, [replace(ROW, variant=name), replace(ROW, variant=name, samples=150)])
        fill(directory, [replace(ROW, dataset=name, samples=200)])
    rows = list(directory.rows())
    assert len(rows) == 3 * len(UNUSUAL)
    assert {row["variant"] for row in rows} == {row["dataset"] for row in rows} - {"made-up"} | {"bc"}


@settings(deadline=None, max_examples=200)
@given(one=st.text(min_size=1), two=st.text(min_size=1))
@example(one="a/b", two="a%2Fb")
@example(one=".", two="%2E")
def test_different_names_have_different_folders(one: str, two: str) -> None:
    root = Path("/run")
    try:
        one.encode(), two.encode()
    except UnicodeEncodeError:  # half a surrogate pair cannot be given on a command line
        return
    folders = [Run(root, "data", name, 0).folder for name in (one, two)]
    assert (folders[0] == folders[1]) == (one == two)
    for folder in folders:
        assert folder.parts[:4] == ("/", "run", "runs", "data")
        assert len(folder.parts) == 6
        assert ".." not in folder.parts


# --- admit ---


def test_admit_stores_the_study(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "deep" / "run")
    directory.admit(STUDY)
    assert directory.study() == json.loads(json.dumps(STUDY))
    assert [file.name for file in directory.path.iterdir()] == ["study.json"]


def test_admit_accepts_the_same_study_again_and_keeps_both_invocations(directory: StudyDirectory) -> None:
    directory.admit(changed("invocations", [{"began": "second"}]))
    assert directory.study()["invocations"] == [{"began": "first"}, {"began": "second"}]


def test_admit_adds_new_datasets_and_algorithms(directory: StudyDirectory) -> None:
    more = changed("datasets", {"other": STUDY["datasets"]["made-up"] | {"name": "other", "digest": "d2"}})
    more["algorithms"] = {"bc-2": {"algorithm": "bc", "config": {"hidden": (4,), "dropout": 0.5}}}
    directory.admit(more)
    study = directory.study()
    assert list(study["datasets"]) == ["made-up", "other"]
    assert list(study["algorithms"]) == ["bc", "bc-2"]
    assert study["datasets"]["made-up"]["digest"] == "d1"
    directory.admit(STUDY)
    assert list(directory.study()["algorithms"]) == ["bc", "bc-2"]


def test_admit_accepts_the_same_data_at_another_path(directory: StudyDirectory) -> None:
    directory.admit(changed("datasets/made-up/given", "/other/made-up.hdf5"))
    assert directory.study()["datasets"]["made-up"]["given"] == "/other/made-up.hdf5"


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("protocol/start", 200, ("protocol.start", "100", "200")),
        ("protocol/window", 50, ("protocol.window", "None", "50")),
        ("evaluation/episodes", 5, ("evaluation.episodes", "10", "5")),
        ("datasets/made-up/digest", "d2", ("'made-up' is other data there",)),
        ("datasets/made-up/env_id", "Hopper-v4", ("made-up.env_id", "'Pendulum-v1'", "'Hopper-v4'")),
        ("datasets/made-up/reference", None, ("made-up.reference", "None")),
        ("algorithms/bc/config/dropout", 0.2, ("bc.dropout", "0.1", "0.2")),
        ("algorithms/bc/config/hidden", (8, 16), ("bc.hidden", "[8, 8]", "[8, 16]")),
        ("algorithms/bc/config/new", 1, ("bc.new", "None", "1")),
        ("algorithms/bc/algorithm", "iql", ("bc.algorithm", "'bc'", "'iql'")),
    ],
)
def test_admit_refuses_changed_settings_and_names_the_value(
    directory: StudyDirectory, path: str, value: Any, parts: tuple[str, ...]
) -> None:
    before = directory.study_file.read_bytes()
    with pytest.raises(UserError) as caught:
        directory.admit(changed(path, value))
    message = str(caught.value)
    assert all(part in message for part in (str(directory.path), *parts, "--out"))
    assert "\n" not in message
    assert directory.study_file.read_bytes() == before


def test_admit_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="not empty and holds no study"):
        StudyDirectory(tmp_path).admit(STUDY)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_admit_accepts_an_empty_folder(tmp_path: Path) -> None:
    StudyDirectory(tmp_path).admit(STUDY)
    assert StudyDirectory(tmp_path).study()["protocol"] == STUDY["protocol"]


def test_admit_refuses_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run"):
        StudyDirectory(tmp_path / "run").admit(STUDY)


def test_a_study_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(STUDY | {"runs": []}).replace("invocations", "other"))
    with pytest.raises(UserError, match="written by an older version of seqeval; read it with that"):
        StudyDirectory(tmp_path).study()


def test_a_damaged_study_file_is_refused(directory: StudyDirectory) -> None:
    directory.study_file.write_text('{"protocol": ')
    with pytest.raises(UserError, match=r"study\.json: damaged, not JSON"):
        directory.study()


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study here"):
        StudyDirectory(tmp_path).study()
    with pytest.raises(UserError, match="no study here"):
        StudyDirectory(tmp_path / "nowhere").study()


# --- tables ---


def test_frame_has_a_column_for_each_field_and_metric(tmp_path: Path) -> None:
    table = frame([study_of("one", tmp_path, [ROW, FAILED])])
    expected = [name for name in asdict(ROW) if name not in ("metrics", "evaluations")]
    assert list(table.columns) == [*expected, "train/loss"]
    assert table["train/loss"].tolist() == [2 / 3, 2 / 3]
    assert table["episode_returns"].tolist() == [ROW.episode_returns, []]
    assert table["score"].isna().tolist() == [False, True]


def test_frame_has_nan_for_metrics_of_other_algorithms(tmp_path: Path) -> None:
    path = study_of("one", tmp_path, [ROW])
    fill(StudyDirectory(path), [replace(ROW, variant="iql", metrics={"value": 1.0})])
    table = frame([path]).set_index("variant")
    assert table["train/value"].isna().to_dict() == {"bc": True, "iql": False}
    assert table["train/loss"].isna().to_dict() == {"bc": False, "iql": True}


def test_frame_has_a_column_for_each_evaluation(tmp_path: Path) -> None:
    path = study_of("one", tmp_path, [replace(ROW, evaluations={"q": 0.1}), FAILED])
    fill(StudyDirectory(path), [replace(ROW, seed=1, evaluations={"q": float("nan")})])
    column = frame([path])["eval/q"]
    assert column[0] == 0.1
    assert column[1:].isna().all()


def test_frame_joins_studies(tmp_path: Path) -> None:
    table = frame([study_of("one", tmp_path, [ROW]), study_of("two", tmp_path, [ROW, FAILED])])
    assert table["study"].tolist() == ["one", "two", "two"]


def test_frame_includes_the_rows_of_unfinished_runs(tmp_path: Path) -> None:
    path = study_of("one", tmp_path, [ROW])
    fill(StudyDirectory(path), [replace(ROW, seed=1)], finish=False)
    assert frame([path])["seed"].tolist() == [0, 1]


def test_frame_refuses_a_study_without_rows(directory: StudyDirectory) -> None:
    with pytest.raises(UserError, match="no rows yet") as caught:
        frame([directory.path])
    assert str(directory.path) in str(caught.value)


def test_frame_refuses_a_folder_without_a_study(tmp_path: Path) -> None:
    good = study_of("one", tmp_path, [ROW])
    with pytest.raises(UserError, match="no study here"):
        frame([good, tmp_path / "two"])


def test_frame_refuses_two_folders_with_the_same_name(tmp_path: Path) -> None:
    paths = [study_of(f"{parent}/run", tmp_path, [ROW]) for parent in ("one", "two")]
    with pytest.raises(UserError, match="same name"):
        frame(paths)
    with pytest.raises(UserError, match="same name"):
        frame([paths[0], paths[0]])


def test_frame_treats_a_renamed_copy_as_another_study(tmp_path: Path) -> None:
    """The name of the folder counts, not the name that its rows store."""
    path = study_of("one", tmp_path, [ROW])
    shutil.copytree(path, tmp_path / "two")
    assert set(frame([path, tmp_path / "two"])["study"]) == {"one", "two"}


def as_python(table: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """The rows of an exported table as Python values, missing ones as None."""
    for record in table.to_dict("records"):
        yield {
            key: json.loads(value)
            if key.startswith("episode_") and isinstance(value, str)
            else (None if not isinstance(value, list) and pd.isna(value) else value)
            for key, value in record.items()
        }


@pytest.mark.parametrize("successes", [None, [True, False]])
def test_csv_and_parquet_exports_agree_with_the_rows(tmp_path: Path, successes: list[bool] | None) -> None:
    rows = [
        replace(ROW, episode_successes=successes, evaluations={"q": 1 / 3}),
        replace(FAILED, evaluations={"q": 0.5}),
    ]
    path = study_of("one", tmp_path, rows)
    csv, parquet = tmp_path / "deep" / "table.csv", tmp_path / "table.parquet"
    assert export_table(path, csv) == export_table(path, parquet) == 2
    tables = (pd.read_csv(csv, engine="python"), pd.read_parquet(parquet))
    assert list(tables[0].columns) == list(tables[1].columns)
    for table in tables:
        for record, row in zip(as_python(table), rows, strict=True):
            expected = asdict(replace(row, study="one"))
            expected |= {f"train/{key}": value for key, value in expected.pop("metrics").items()}
            expected |= {f"eval/{key}": value for key, value in expected.pop("evaluations").items()}
            assert record == expected


@pytest.mark.parametrize("name", ["table.xlsx", "table", "table.csv.gz"])
def test_export_refuses_another_ending_and_writes_nothing(tmp_path: Path, name: str) -> None:
    path = study_of("one", tmp_path, [ROW])
    with pytest.raises(UserError, match=r"\.csv or \.parquet"):
        export_table(path, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_texts_of_a_csv_table_are_never_formulas(directory: StudyDirectory, tmp_path: Path) -> None:
    names = ("=1+1", "+a", "-b", "@c", "\td", "e")
    for name in names:
        row = replace(ROW, variant=name, score=-1.5, metrics={"=loss": -2.0})
        fill(directory, [row])
    export_table(directory.path, tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["variant"]) == {f"'{name}" if name != "e" else "e" for name in names}
    assert set(table["score"]) == {-1.5}
    assert not any(column.startswith(("=", "-")) for column in table)


# --- damage ---


def refusal_of(directory: StudyDirectory) -> str:
    """The line with which the rows of a study are refused."""
    with pytest.raises(UserError) as caught:
        frame([directory.path])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"), [(b"0.25", b"0.35"), (b'"seed": 0', b'"seed": 1'), (b"\n", b"")]
)
def test_changed_rows_of_a_finished_run_are_refused(
    directory: StudyDirectory, before: bytes, after: bytes
) -> None:
    run = fill(directory, [ROW, FAILED])
    content = run.rows.read_bytes()
    assert before in content
    run.rows.write_bytes(content.replace(before, after, 1))
    said = refusal_of(directory)
    assert said.startswith(f"{run.rows}: damaged, its content has changed since the run finished; remove its")
    run.rows.write_bytes(content)
    assert len(frame([directory.path])) == 2


def test_the_record_of_a_finished_run_must_be_readable(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW])
    for content in (b"[1]", b"{", b"\xff", b'{"digests": 1}'):
        run.finished_record.write_bytes(content)
        assert str(run.finished_record) in refusal_of(directory)
        assert not run.finished or content == b'{"digests": 1}'


def test_a_run_that_an_older_version_finished_has_no_digests(directory: StudyDirectory) -> None:
    run = fill(directory, [ROW])
    run.finished_record.write_text(json.dumps({"rows_bytes": run.rows.stat().st_size}))
    assert run.finished
    assert len(frame([directory.path])) == 1


@pytest.mark.parametrize(
    "line",
    [
        *(b"\xff\xfe", b"[]", b"3", b"{}", b'{"seed": "x"}', b"[" * 100_000),
        json.dumps(asdict(ROW) | {"score": "high"}).encode(),
        json.dumps(asdict(ROW) | {"metrics": {"loss": []}}).encode(),
    ],
)
def test_a_damaged_line_of_an_unfinished_run_is_refused(directory: StudyDirectory, line: bytes) -> None:
    run = fill(directory, [ROW], finish=False)
    run.rows.write_bytes(run.rows.read_bytes() + line + b"\n")
    assert f"{run.rows}: line 2 is damaged" in refusal_of(directory)


@pytest.mark.parametrize(
    "content",
    [
        *(b"{}", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"invocations": 3}', b'{"invocations": [3]}'),
        *(b'{"invocations": []}', b'{"invocations": [{"began": "x"}]}', b'{"invocations": [{"seeds": 1}]}'),
        *(b'{"invocations": [{}], "datasets": {"a": 1}}', b'{"invocations": [{}], "algorithms": []}'),
    ],
)
def test_a_damaged_study_is_refused_by_every_command(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.json").write_bytes(content)
    run = fill(StudyDirectory(tmp_path), [ROW])
    for command in (["status"], ["table"], ["report", "--out", str(tmp_path / "a.html")]):
        with pytest.raises(SystemExit) as caught:
            cli.main([command[0], str(tmp_path), *command[1:]])
        out, err = capsys.readouterr()
        assert (caught.value.code, out, err.count("\n")) == (2, "", 1), command
        assert str(tmp_path) in err
    assert run.finished


def test_a_changed_value_of_a_study_is_refused(directory: StudyDirectory) -> None:
    assert directory.study() == json.loads(json.dumps(STUDY))
    text = directory.study_file.read_text()
    directory.study_file.write_text(text.replace('"start": 100', '"start": 101'))
    with pytest.raises(UserError, match=r"study\.json: damaged, its checksum is not that of its content"):
        directory.study()
    values = json.loads(text)
    del values["checksum"]
    directory.study_file.write_text(json.dumps(values | {"precision": "fast"}))  # of an older version
    assert directory.study()["precision"] == "fast"


@pytest.mark.parametrize("content", [b"[1, 2]", b"{}", b"{", b"\xff", b'{"stop": 1, "queued": 2}'])
def test_a_damaged_driver_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "driver.json").write_bytes(content)
    with pytest.raises(UserError, match=r"driver\.json: damaged; remove it"):
        DriverState.read(tmp_path)


@pytest.mark.parametrize("content", [b"[1]", b"{}", b"3", b"\xff", b'{"updates": 1}', WRONG_PROGRESS])
def test_damaged_progress_counts_as_none(directory: StudyDirectory, content: bytes) -> None:
    run = fill(directory, [ROW], finish=False)
    run.progress.write_bytes(content)
    assert run.read_progress() is None


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(2)], 3, {"versions": 1}])
def test_a_sound_file_of_other_content_is_no_checkpoint(directory: StudyDirectory, content: Any) -> None:
    run = fill(directory, [ROW], finish=False)
    torch.save(content, run.checkpoint)
    assert run.load_checkpoint() is None
    with zipfile.ZipFile(run.checkpoint, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"versions": [os.path.join]}))
        archive.writestr("other", "text")
    assert run.load_checkpoint() is None


@pytest.mark.parametrize("level", range(3))
def test_the_folder_of_a_run_may_not_be_a_symbolic_link(
    directory: StudyDirectory, tmp_path: Path, level: int
) -> None:
    run = fill(directory, [ROW])
    linked = [run.folder, *run.folder.parents][level]
    elsewhere = tmp_path / "elsewhere"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    assert f"{linked}: a symbolic link" in refusal_of(directory)
    with pytest.raises(UserError, match="a symbolic link"):
        run.open(None)
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before
