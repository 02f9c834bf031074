"""`--group`: one piece of work for an algorithm on several datasets, and it stores what it would without."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cluster import differences, load_chaos, saved, silent
from conftest import Seqeval

from seqeval import Evaluation, Online, Protocol, Study, UserError, datasets
from seqeval.execution import WorkFailed
from seqeval.execution.jobs import Resolved, resolve
from seqeval.execution.remote import Follower
from seqeval.execution.storage import RunDirectory
from seqeval.training import trainer

SMALL = "hidden=(16,16),batch_size=16"
SIZES = {"a": 400, "b": 250, "c": 400}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three datasets of Pendulum, of which two are equally long: 39, 20 and 39 updates, and 20 online."""
    folder, data = tmp_path_factory.mktemp("data"), datasets.load("pendulum-replay")
    for place, (name, size) in enumerate(SIZES.items()):
        rows = slice(place * 1000, place * 1000 + size)
        fields = ("observations", "actions", "rewards", "next_observations")
        ends = {"terminals": data.terminated[rows], "timeouts": data.truncated[rows]}
        np.savez(folder / f"{name}.npz", **{field: getattr(data, field)[rows] for field in fields}, **ends)
    return Study(
        datasets=tuple(str(folder / f"{name}.npz") for name in SIZES),
        algorithms=(f"td3_bc:{SMALL},name=td3_bc",),
        seeds=(0, 1),
        protocol=Protocol(start=100, grow_by=8),
        evaluation=Evaluation(points=3, episodes=1),
        online=Online(steps=10, updates_per_step=2),
        env="Pendulum-v1?max_episode_steps=10",
    )


@pytest.fixture(scope="module")
def whole(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study run in peace, dataset by dataset."""
    out = tmp_path_factory.mktemp("whole") / "study"
    study.run(out, jobs=1, console=silent())
    return out


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    return load_chaos()


def begin(study: Study, out: Path, rows: int, **how: Any) -> Iterator[Any]:
    """Runs a study till it has given so many rows, and leaves it there: as saved now and then, or never."""
    left = study.rows(out, jobs=1, console=silent(), **how)
    for _ in range(rows):
        next(left)
    left.close()


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_stored_is_the_same(study: Study, whole: Path, tmp_path: Path, jobs: int) -> None:
    told = silent()
    study.run(tmp_path / "study", jobs=jobs, console=told, group=True)
    assert differences()(whole, tmp_path / "study") == []
    said = told.file.getvalue()
    assert f"{jobs} of {jobs} done" in said
    assert f"a and 2 more · td3_bc · seed {'0, 1' if jobs == 1 else '0'}: over" in said
    assert "100%" in said


@pytest.mark.parametrize(
    ("first", "then", "rows", "save_every"),
    [(True, False, 20, 0.02), (False, True, 20, 0.02), (True, True, 3, 0.0), (True, False, 38, 0.02)],
)
def test_it_may_be_begun_and_gone_on_with_either_way(
    study: Study, whole: Path, tmp_path: Path, first: bool, then: bool, rows: int, save_every: float
) -> None:
    out = tmp_path / "study"
    begin(study, out, rows, save_every=save_every, group=first)
    assert saved(out)
    study.run(out, jobs=1, console=silent(), group=then)
    assert differences()(whole, out) == []


def test_datasets_and_seeds_may_join_on_the_way(study: Study, whole: Path, tmp_path: Path) -> None:
    """One seed is further than the others, one is over."""
    out = tmp_path / "study"
    replace(study, datasets=study.datasets[1:2], seeds=(1,)).run(out, jobs=1, console=silent())
    begin(replace(study, datasets=study.datasets[:1], seeds=(1,)), out, 2, save_every=0)
    told = silent()
    study.run(out, jobs=1, console=told, group=True)
    assert "note: a · td3_bc · seed 1: goes on after" in told.file.getvalue()
    assert differences()(whole, out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_random_moments_it_ends_up_the_same(
    chaos: ModuleType, study: Study, whole: Path, tmp_path: Path
) -> None:
    options = {"jobs": 1, "save_every": 0.02, "group": True}
    kills = chaos.kill_and_resume(study, tmp_path / "study", 6, 0.6, seed=0, **options)
    assert kills.total() == 6
    assert chaos.differences(whole, tmp_path / "study") == []


def test_stopped_each_is_saved(study: Study, whole: Path, tmp_path: Path, seqeval: Seqeval) -> None:
    out = tmp_path / "study"
    rows = study.rows(out, jobs=1, console=silent(), save_every=1000, group=True)
    next(rows), next(rows), next(rows)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(rows)
    assert len(saved(out)) == 6
    (line,) = [line for line in seqeval("status", out).out.splitlines() if line.startswith("b  ")]
    assert line.split()[:3] == ["b", "td3_bc", "2"]  # stopped
    study.run(out, jobs=1, console=silent(), group=True)
    assert differences()(whole, out) == []


@pytest.mark.parametrize("users", [True, False])
def test_what_fails_on_one_dataset_fails_the_piece_and_names_it(
    study: Study, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: bool
) -> None:
    out, course_of = tmp_path / "study", trainer.course_of

    def course(agents: Any, dataset: Any, *more: Any) -> Iterator[Any]:
        for number, event in enumerate(course_of(agents, dataset, *more)):
            if dataset.name == "b" and number == 20:
                raise UserError("it was killed") if users else ZeroDivisionError
            yield event

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "course_of", course)
        with pytest.raises(UserError if users else WorkFailed) as raised:
            study.run(out, jobs=1, console=silent(), save_every=0.02, group=True)
    text = "b · td3_bc · seed 0, 1: it was killed" if users else "b · td3_bc · seed 0, 1:\nTraceback"
    assert str(raised.value).startswith(text)
    assert len(list(out.glob("cells/*/*/*/error.txt"))) == 6
    study.run(out, jobs=1, console=silent(), group=True)
    assert differences()(whole, out) == []


def pieces(resolved: Resolved, out: Path, workers: int = 1) -> list[list[tuple[str, tuple[int, ...]]]]:
    """What is done together: datasets and seeds."""
    works = resolved.pending(RunDirectory(out), workers, group=True)
    return [[(part.dataset_name, part.seeds) for part in work.parts] for work in works]


def test_what_makes_one_piece(study: Study, tmp_path: Path) -> None:
    """Equal sizes; equally many updates too, where an algorithm counts down; and a share of the seeds for
    each worker that would be idle."""
    together = resolve(study)
    a, b, c = ((name, (0, 1)) for name in SIZES)
    assert pieces(together, tmp_path) == [[a, b, c]]
    assert pieces(together, tmp_path, 2) == [[(name, (seed,)) for name in SIZES] for seed in (0, 1)]
    assert pieces(together, tmp_path, 9) == pieces(together, tmp_path, 2)

    decay = replace(study.protocol, learning_rate_decay=True)
    names = ("td3_bc", "iql", "sb3:TD3")
    decaying = resolve(replace(study, algorithms=names, protocol=decay, online=Online()))
    assert pieces(decaying, tmp_path, 5) == [[a, b, c], [a, c], [a, c], [b], [b]]

    others = replace(study, datasets=(*study.datasets, "pendulum-replay", "hopper-replay"), env=None)
    apart = resolve(replace(others, datasets=others.datasets[3:], algorithms=names[:1]))
    assert [[name for name, _ in piece] for piece in pieces(apart, tmp_path)] == [
        ["pendulum-replay"],
        ["hopper-replay"],
    ]


def test_who_follows_from_elsewhere_is_told_of_every_row_and_update(
    study: Study, whole: Path, tmp_path: Path
) -> None:
    out = RunDirectory(tmp_path / "study")
    works = resolve(study).pending(out, group=True)
    assert [work.updates for work in works] == [2 * (39 + 20 + 39 + 3 * 20)]
    follower = Follower(works, out)
    assert follower.news(0) == []
    begin(study, out.path, 30, save_every=0.02, group=True)
    news = follower.news(0)
    assert len([report for report in news if report.row is not None]) == 30
    assert 0 < news[-1].updates < works[0].updates
    assert len(news[-1].score.split(", ")) == 3
    study.run(out.path, jobs=1, console=silent(), group=True)
    news = follower.news(0)
    assert news[-1].updates == works[0].updates
    assert len(news) == 42 - 30 + 1
    assert follower.over(0, None).updates == works[0].updates


def test_on_the_command_line(study: Study, whole: Path, tmp_path: Path, seqeval: Seqeval) -> None:
    flags = ["--trainer.start", 100, "--trainer.grow-by", 8, "--evaluation.points", 3, "--online.steps", 10]
    flags += ["--evaluation.episodes", 1, "--online.updates-per-step", 2, "--seeds", 0, 1, "--env", study.env]
    what = ["--datasets", *study.datasets, "--algorithms", *study.algorithms, "--out", tmp_path / "study"]
    ended = seqeval("run", *what, *flags, "--group", "--jobs", 1)
    assert ended.code == 0
    assert "and 2 more" in ended.err
    assert differences()(whole, tmp_path / "study") == []
