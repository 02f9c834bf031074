"""Scalars, read with TensorBoard's own reader."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cluster import SMALL, STUDY, silent
from test_storage import FAILED, ROW

from seqeval import Slurm, UserError, cli
from seqeval.execution.storage import RunDirectory

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
Scalars = pytest.importorskip("seqeval.execution.tensorboard").Scalars

ONE = replace(STUDY, algorithms=(f"td3_bc:{SMALL},name=td3",))
Points = dict[tuple[str, str], list[tuple[int, float]]]


def single(value: float) -> float:
    """In float32, as TensorBoard keeps it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def shown(out: Path) -> Points:
    """What TensorBoard shows: of each run and tag the points."""
    found: Points = {}
    for folder in {file.parent for file in out.glob("tensorboard/**/events.*")}:
        events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        run = str(folder.relative_to(out / "tensorboard"))
        for tag in events.Tags()["scalars"]:
            found[run, tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def expected(rows: Iterable[dict]) -> Points:
    found: Points = {}
    for row in rows:
        run = f"{row['dataset']}/{row['variant']}/seed-{row['seed']}"
        metrics = {f"train/{name}": value for name, value in row["metrics"].items()}
        for tag, value in {"score": row["score"], "return_mean": row["return_mean"], **metrics}.items():
            if value is not None:
                found.setdefault((run, tag), []).append((row["samples"], single(value)))
    return found


def test_a_study_is_there_row_by_row_while_it_runs(tmp_path: Path) -> None:
    out = tmp_path / "study"
    rows = []
    for row in ONE.rows(out, jobs=1, console=silent(), log="tensorboard"):
        rows.append(asdict(row))
        assert shown(out) == expected(rows)
    runs = {run for run, _ in shown(out)}
    assert runs == {"pendulum-replay/td3/seed-0", "pendulum-replay/td3/seed-1"}
    tags = {tag for _, tag in shown(out)}
    assert {"score", "return_mean", "train/critic_loss", "train/actor_loss"} <= tags
    assert [x for x, _ in shown(out)[min(runs), "score"]] == [
        *(1000, 7336, 13672, 20_000),
        *(20_040, 20_080, 20_120),
    ]


def test_a_study_that_goes_on_has_each_point_once_and_none_too_few(tmp_path: Path) -> None:
    out = tmp_path / "study"
    for log in ("tensorboard", None, "tensorboard"):  # what is not logged is made good
        rows = ONE.rows(out, jobs=1, console=silent(), save_every=0.2, log=log)
        for _ in range(3):
            next(rows)
        rows.close()
    ONE.run(out, jobs=1, console=silent(), log="tensorboard")
    whole = expected(RunDirectory(out).rows())
    assert shown(out) == whole
    assert len(whole["pendulum-replay/td3/seed-0", "score"]) == 7
    # Of a study that is finished it is made anew.
    files = list(out.glob("tensorboard/**/events.*"))
    for file in files:
        file.unlink()
    ONE.run(out, jobs=1, console=silent(), log="tensorboard")
    assert shown(out) == whole


def test_where_rows_go_back_the_later_ones_count(tmp_path: Path) -> None:
    """Also for a TensorBoard that has read the earlier ones."""
    scalars = Scalars(RunDirectory(tmp_path))
    rows = [asdict(replace(ROW, samples=x, score=float(x))) for x in (100, 200, 300)]
    again = [asdict(replace(ROW, samples=x, score=float(-x))) for x in (200, 300)]
    scalars.add(rows[0])
    (file,) = tmp_path.glob("tensorboard/**/events.*")
    reader = accumulator.EventAccumulator(str(file.parent))
    for new, scores in ((rows[1:], [100, 200, 300]), (again, [100, -200, -300])):
        for row in new:
            scalars.add(row)
        reader.Reload()
        found = [(event.step, event.value) for event in reader.Scalars("score")]
        assert found == list(zip((100, 200, 300), scores, strict=True))


def test_what_is_no_number_has_no_point(tmp_path: Path) -> None:
    scalars = Scalars(RunDirectory(tmp_path))
    for row in (
        replace(ROW, score=None, metrics={"loss": 2.0, "broken": float("nan")}),
        replace(FAILED, metrics={"loss": None, "broken": float("inf")}),
    ):
        scalars.add(asdict(row))
    run = "made-up/bc/seed-0"
    assert shown(tmp_path) == {
        (run, "return_mean"): [(100, single(ROW.return_mean))],
        (run, "train/loss"): [(100, 2.0)],
    }


def test_by_the_flag_on_the_command_line(tmp_path: Path) -> None:
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
    assert shown(out) == expected(RunDirectory(out).rows())


def test_what_will_not_do_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"written by who waits for the rows; leave slurm\.detach out"):
        ONE.run(tmp_path / "out", launcher=Slurm(detach=True), log="tensorboard")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "seqeval.execution.tensorboard")
    with pytest.raises(UserError, match=r"is not installed; pip install 'seqeval-rl\[tensorboard\]'$"):
        ONE.run(tmp_path / "out", log="tensorboard")
    assert not (tmp_path / "out").exists()
