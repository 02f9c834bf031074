"""Rows in the files of Weights & Biases, which uploads nothing here."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import SMALL, STUDY, run, run_partly
from conftest import Seqeval, refused

from seqeval import Protocol, UserError
from seqeval.execution.storage import StudyDirectory

wandb = pytest.importorskip("wandb")
proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")

ONE = replace(STUDY, algorithms=(f"td3_bc:{SMALL},name=td3",), protocol=Protocol(start=18_000, grow_by=8))
BLOCK = 32_768  # bytes; records are divided among blocks, as in LevelDB's log


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file."""
    data, place, record = file.read_bytes(), 7, b""  # after the header
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # complete, or the last part
            yield proto.Record.FromString(record)
            record = b""


def shown(out: Path) -> dict[str, list[dict[str, float]]]:
    """The points of each run, by its name."""
    wandb.teardown()  # waits until its second process has written everything
    found: dict[str, list[dict[str, float]]] = {}
    for file in out.glob("wandb/*run-*/*.wandb"):
        if file.parent.is_symlink():
            continue
        name, points = "", []
        for record in records(file):
            if record.HasField("run"):
                assert record.run.project == "seqeval"
                assert record.run.run_group == out.name
                name = record.run.display_name
            if record.HasField("history"):
                items = {"/".join(item.nested_key) or item.key: item for item in record.history.item}
                points.append(
                    {key: float(item.value_json) for key, item in items.items() if not key.startswith("_")}
                )
        assert name not in found
        found[name] = points
    return found


def expected(out: Path) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for row in StudyDirectory(out).rows():
        metrics = {f"train/{key}": value for key, value in row["metrics"].items()}
        metrics |= {f"eval/{key}": value for key, value in row["evaluations"].items()}
        point = {
            "samples": row["samples"],
            "score": row["score"],
            "return_mean": row["return_mean"],
            **metrics,
        }
        name = f"{row['dataset']}/{row['variant']}/{row['seed']}"
        found.setdefault(name, []).append({key: value for key, value in point.items() if value is not None})
    return found


def test_each_run_of_a_resumed_study_has_each_point_once(tmp_path: Path) -> None:
    out = tmp_path / "study"
    for log in ("wandb", None, "wandb"):  # rows that were not logged are added
        run_partly(ONE, out, 3, save_every=0.2, log=log)
    run(ONE, out, log="wandb")
    found = shown(out)
    assert found == expected(out)
    assert found.keys() == {"pendulum-replay/td3/0", "pendulum-replay/td3/1"}
    assert len(found["pendulum-replay/td3/0"]) == 7
    run(ONE, out, log="wandb")  # of a finished study: written anew
    assert shown(out) == found


def test_the_flag_of_the_command_line(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = seqeval(
        *("run", "--datasets", "pendulum-replay", "--algorithms", f"bc:{SMALL},name=bc", "--seeds", 0),
        *("--protocol.start", 19_900, "--protocol.grow-by", 50, "--evaluation.points", 1),
        *("--evaluation.episodes", 1, "--jobs", 1, "--log", "wandb", "--out", out),
    )
    assert ended.code == 0
    assert "wandb" not in ended.out + ended.err
    assert shown(out) == expected(out)
    assert len(shown(out)["pendulum-replay/bc/0"]) == 2


def test_a_missing_login_is_one_line(
    seqeval: Seqeval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")

    def fail() -> bool:
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "login", fail)
    ended = seqeval(
        *("run", "--datasets", "pendulum-replay", "--algorithms", "bc", "--seeds", 0, "--log", "wandb"),
        *("--protocol.start", 19_900, "--protocol.grow-by", 50, "--out", tmp_path / "out"),
    )
    assert "log wandb: No API key configured" in refused(ended)
    assert "WANDB_MODE=offline" in ended.err


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.logs.wandb", raising=False)
    with pytest.raises(UserError, match=r"wandb is not installed; pip install 'seqeval-rl\[wandb\]'$"):
        run(ONE, tmp_path / "out", log="wandb")
    assert not (tmp_path / "out").exists()
