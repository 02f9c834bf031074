"""`seqeval run --config`: a TOML file, or the study.json of an earlier study."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from conftest import Seqeval, refused

from seqeval import UserError
from seqeval.cli import config_file
from seqeval.cli.config_file import expanded, flags
from seqeval.config import Execution, Study
from seqeval.execution.storage import frame

TOML = """
datasets = ["pendulum-replay"]
algorithms = ["bc:hidden=(8,8),name=bc"]
seeds = [0]
jobs = 1
out = "{out}"

[protocol]
start = 19_900
grow-by = 50
counted_from_zero = true

[evaluation]
points = 2
episodes = 1
"""
SECONDS = ["train_seconds", "eval_seconds", "study"]


def written(folder: Path, text: str, name: str = "study.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def study(out: Path) -> dict:
    return json.loads((out / "study.json").read_text())


def test_a_file_stands_for_flags(tmp_path: Path) -> None:
    file = written(
        tmp_path, TOML.format(out="x y") + '[slurm]\nmore = ["account=me", "qos=low"]\ndetach = false'
    )
    assert list(flags(file)) == [
        *("--datasets", "pendulum-replay", "--algorithms", "bc:hidden=(8,8),name=bc", "--seeds", "0"),
        *("--jobs", "1", "--out", "x y", "--protocol.start", "19900", "--protocol.grow-by", "50"),
        *("--protocol.counted-from-zero", "--evaluation.points", "2", "--evaluation.episodes", "1"),
        *("--slurm.more", "account=me", "qos=low", "--slurm.no-detach"),
    ]
    given = [f"--config={file}", "--seeds", "3"]
    assert expanded(given) == [*flags(file), *given]
    assert expanded(["--config", str(file)])[-2:] == ["--config", str(file)]


def test_a_study_runs_from_a_file_and_flags_win_over_it(seqeval: Seqeval, tmp_path: Path) -> None:
    file = written(tmp_path, TOML.format(out=tmp_path / "out"))
    assert seqeval("run", "--config", file).code == 0
    protocol = study(tmp_path / "out")["protocol"]
    assert (protocol["start"], protocol["grow_by"], protocol["counted_from_zero"]) == (19_900, 50, True)
    flags = ("--protocol.start", 19_950, "--protocol.no-counted-from-zero", "--out", tmp_path / "other")
    assert seqeval("run", "--config", file, *flags, "--seeds", 1, 2).code == 0
    protocol = study(tmp_path / "other")["protocol"]
    assert (protocol["start"], protocol["counted_from_zero"]) == (19_950, False)
    assert study(tmp_path / "other")["invocations"][0]["seeds"] == [1, 2]


def test_a_file_wins_over_the_preset_and_may_name_it(seqeval: Seqeval, tmp_path: Path) -> None:
    file = written(tmp_path, 'preset = "paper"\n' + TOML.format(out=tmp_path / "out"))
    assert seqeval("run", "--config", file, "--evaluation.every", "None").code == 0
    assert study(tmp_path / "out")["protocol"]["normalizer"] == "full"
    assert study(tmp_path / "out")["protocol"]["start"] == 19_900


def test_the_study_of_an_earlier_one_is_repeated(seqeval: Seqeval, tmp_path: Path) -> None:
    plain = TOML.format(out=tmp_path / "one").replace(
        "bc:hidden=(8,8),name=bc", "td3_bc:hidden=(8, 8),alpha=1"
    )
    assert seqeval("run", "--config", written(tmp_path, plain)).code == 0
    assert seqeval("run", "--config", tmp_path / "one/study.json", "--out", tmp_path / "two").code == 0
    one, two = study(tmp_path / "one"), study(tmp_path / "two")
    for key in ("protocol", "online", "evaluation", "precision", "datasets", "algorithms"):
        assert one[key] == two[key]
    left, right = (frame([tmp_path / name]).drop(columns=SECONDS) for name in ("one", "two"))
    pd.testing.assert_frame_equal(left, right)
    # Runs that are there are kept, as with the same flags.
    ended = seqeval("run", "--config", tmp_path / "two/study.json", "--out", tmp_path / "two", "--seeds", 0)
    assert "every run is finished" in " ".join(ended.err.split())


def test_the_environment_of_a_file_is_repeated(seqeval: Seqeval, tmp_path: Path) -> None:
    from test_cli import small_file

    small_file(tmp_path / "mine.hdf5", env_id=None)
    text = TOML.format(out=tmp_path / "one").replace("19_900", "100")
    text = text.replace("pendulum-replay", f"{tmp_path}/mine.hdf5")
    file = written(tmp_path, 'env = "Pendulum-v1"\n' + text)
    assert seqeval("run", "--config", file).code == 0
    assert seqeval("run", "--config", tmp_path / "one/study.json", "--out", tmp_path / "two").code == 0
    assert study(tmp_path / "two")["datasets"]["mine"]["env_id"] == "Pendulum-v1"


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    """The names in a file are those of the settings, whatever their type."""
    settings = asdict(Study(("a",), ("b",))) | asdict(Execution())
    lines = list(config_file._flat(settings))
    assert {name for name, _ in lines} == {
        *dict(config_file._settings(Study)),
        *dict(config_file._settings(Execution)),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes = [0]", "sedes is not a setting; did you mean 'seeds'?"),
        ("[protocol]\ngrowby = 4", "protocol.growby is not a setting; did you mean 'grow_by'?"),
        ("[protocl]\nstart = 4", "[protocl] is not a group of settings; did you mean 'protocol'?"),
        ('protocol = "paper"', "protocol is a group of settings; write them below [protocol]"),
        ("start = 4", "start is not a setting; did you mean 'protocol.start'?"),
        ("dry_run = true", "dry_run is not a setting"),
        ("seeds = [0", "(at end of document)"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    seqeval: Seqeval, tmp_path: Path, text: str, message: str
) -> None:
    file = written(tmp_path, text)
    error = refused(seqeval("run", "--config", file, "--out", tmp_path / "out"))
    assert error.startswith(f"seqeval: {file}: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_refused(seqeval: Seqeval, tmp_path: Path) -> None:
    assert "none.toml: No such file" in refused(seqeval("run", "--config", tmp_path / "none.toml"))
    rows = written(tmp_path, '{"a": 1}', "rows.json")
    assert "not the study.json of a study" in refused(seqeval("run", "--config", rows))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        list(flags(tmp_path / "binary.toml"))


def test_a_value_of_another_type_is_refused(seqeval: Seqeval, tmp_path: Path) -> None:
    file = written(tmp_path, TOML.format(out=tmp_path / "out").replace("19_900", '"many"'))
    ended = seqeval("run", "--config", file)
    assert ended.code == 2
    assert "protocol.start: must be a whole number, not 'many'" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 2", r"seeds: must be a list; write seeds = \[2\]"),
        ('algorithms = "bc"', r"algorithms: must be a list; write algorithms = \[\"bc\"\]"),
        ('[protocol]\nstart = "5000"', "protocol.start: must be a whole number, not '5000'"),
        ('[slurm]\nmore = "qos=low"', r"slurm.more: must be a list; write more = \[\"qos=low\"\]"),
    ],
)
def test_values_of_a_file_have_the_types_of_the_settings(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(flags(written(tmp_path, text)))
