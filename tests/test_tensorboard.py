"""Scalars, read with TensorBoard's own reader."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cluster import SMALL, STUDY, rows, run, run_partly
from test_storage import FAILED, ROW

from seqeval import Execution, Slurm, UserError, cli
from seqeval.execution.storage import StudyDirectory

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
Log = pytest.importorskip("seqeval.execution.logs.tensorboard").Log

ONE = replace(STUDY, algorithms=(f"td3_bc:{SMALL},name=td3",))
Points = dict[tuple[str, str], list[tuple[int, float]]]


def single(value: float) -> float:
    """In float32, as TensorBoard stores it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def shown(out: Path) -> Points:
    """What TensorBoard shows: the points of each run and tag."""
    found: Points = {}
    for folder in {file.parent for file in out.glob("tensorboard/**/events.*")}:
        events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        name = str(folder.relative_to(out / "tensorboard"))
        for tag in events.Tags()["scalars"]:
            found[name, tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def expected(stored: Iterable[dict]) -> Points:
    found: Points = {}
    for row in stored:
        name = f"{row['dataset']}/{row['variant']}/seed-{row['seed']}"
        metrics = {f"train/{key}": value for key, value in row["metrics"].items()}
        metrics |= {f"eval/{key}": value for key, value in row["evaluations"].items()}
        for tag, value in {"score": row["score"], "return_mean": row["return_mean"], **metrics}.items():
            if value is not None:
                found.setdefault((name, tag), []).append((row["samples"], single(value)))
    return found


def test_rows_appear_one_by_one_while_a_study_runs(tmp_path: Path) -> None:
    out = tmp_path / "study"
    found = []
    for row in rows(ONE, out, log="tensorboard"):
        found.append(asdict(row))
        assert shown(out) == expected(found)
    runs = {run for run, _ in shown(out)}
    assert runs == {"pendulum-replay/td3/seed-0", "pendulum-replay/td3/seed-1"}
    tags = {tag for _, tag in shown(out)}
    assert {"score", "return_mean", "train/critic_loss", "train/actor_loss"} <= tags
    assert [x for x, _ in shown(out)[min(runs), "score"]] == [
        *(1000, 7336, 13672, 20_000),
        *(20_040, 20_080, 20_120),
    ]


def test_a_resumed_study_has_each_point_once(tmp_path: Path) -> None:
    out = tmp_path / "study"
    for log in ("tensorboard", None, "tensorboard"):  # rows that were not logged are added
        run_partly(ONE, out, 3, save_every=0.2, log=log)
    run(ONE, out, log="tensorboard")
    stored = expected(StudyDirectory(out).rows())
    assert shown(out) == stored
    assert len(stored["pendulum-replay/td3/seed-0", "score"]) == 7
    # The files of a finished study are written anew.
    for file in list(out.glob("tensorboard/**/events.*")):
        file.unlink()
    run(ONE, out, log="tensorboard")
    assert shown(out) == stored


def test_repeated_rows_replace_earlier_ones(tmp_path: Path) -> None:
    """Also in a TensorBoard that has read the earlier ones."""
    log = Log(StudyDirectory(tmp_path))
    first = [asdict(replace(ROW, samples=x, score=float(x))) for x in (100, 200, 300)]
    again = [asdict(replace(ROW, samples=x, score=float(-x))) for x in (200, 300)]
    log.add(first[0])
    (file,) = tmp_path.glob("tensorboard/**/events.*")
    reader = accumulator.EventAccumulator(str(file.parent))
    for new, scores in ((first[1:], [100, 200, 300]), (again, [100, -200, -300])):
        for row in new:
            log.add(row)
        reader.Reload()
        found = [(event.step, event.value) for event in reader.Scalars("score")]
        assert found == list(zip((100, 200, 300), scores, strict=True))


def test_values_that_are_not_finite_have_no_point(tmp_path: Path) -> None:
    log = Log(StudyDirectory(tmp_path))
    for row in (
        replace(ROW, score=None, metrics={"loss": 2.0, "broken": float("nan")}, evaluations={"q": 3.0}),
        replace(FAILED, metrics={"loss": None, "broken": float("inf")}),
    ):
        log.add(asdict(row))
    name = "made-up/bc/seed-0"
    assert shown(tmp_path) == {
        (name, "return_mean"): [(100, single(ROW.return_mean))],
        (name, "train/loss"): [(100, 2.0)],
        (name, "eval/q"): [(100, 3.0)],
    }


def test_the_flag_of_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    short = ("--protocol.start", "19900", "--protocol.grow-by", "50", "--evaluation.episodes", "1")
    study = (
        "run",
        "--datasets",
        "pendulum-replay",
        "--algorithms",
        f"bc:{SMALL},name=bc",
        "--seeds",
        "0",
        *short,
    )
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [*study, "--evaluation.points", "1", "--log", "tensorboard", "--out", str(out), "--jobs", "1"]
        )
    assert ended.value.code == 0
    assert shown(out) == expected(StudyDirectory(out).rows())


def test_detached_studies_and_a_missing_package_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"log: tensorboard needs the command to wait .*; remove slurm\.detach"
    ):
        Execution(launcher="slurm", slurm=Slurm(detach=True), log="tensorboard")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.logs.tensorboard")
    with pytest.raises(UserError, match=r"is not installed; pip install 'seqeval-rl\[tensorboard\]'$"):
        run(ONE, tmp_path / "out", log="tensorboard")
    assert not (tmp_path / "out").exists()
