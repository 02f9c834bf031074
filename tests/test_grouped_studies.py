"""`--group`: one job for an algorithm on several datasets stores what jobs of single datasets store."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster import checkpoints, differences, load_chaos, rows, run, run_partly, silent
from conftest import Seqeval

from seqeval import Evaluation, Execution, Online, Protocol, Study, UserError, datasets
from seqeval.errors import PluginError
from seqeval.evaluation.evaluators.episodes import Episodes
from seqeval.execution.jobs import ResolvedStudy, resolve
from seqeval.execution.storage import StudyDirectory

SMALL = "hidden=(16,16),batch_size=16"
SIZES = {"a": 400, "b": 250, "c": 400}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three datasets of Pendulum, two of them equally long: 39, 20 and 39 updates offline, and 20 online."""
    folder, data = tmp_path_factory.mktemp("data"), datasets.load("pendulum-replay")
    for place, (name, size) in enumerate(SIZES.items()):
        part = slice(place * 1000, place * 1000 + size)
        fields = ("observations", "actions", "rewards", "next_observations")
        ends = {"terminals": data.terminated[part], "timeouts": data.truncated[part]}
        np.savez(folder / f"{name}.npz", **{field: getattr(data, field)[part] for field in fields}, **ends)
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
def uninterrupted(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study directory of an uninterrupted study, dataset by dataset."""
    out = tmp_path_factory.mktemp("uninterrupted") / "study"
    run(study, out)
    return out


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_grouped_study_stores_the_same(
    study: Study, uninterrupted: Path, tmp_path: Path, jobs: int
) -> None:
    console = silent()
    run(study, tmp_path / "study", console, jobs=jobs, group=True)
    assert differences()(uninterrupted, tmp_path / "study") == []
    printed = console.file.getvalue()
    assert f"a and 2 more · td3_bc · seed {'0, 1' if jobs == 1 else '0'}" in printed
    assert "100%" in printed


@pytest.mark.parametrize(
    ("first", "then", "count", "save_every"),
    [(True, False, 20, 0.0), (False, True, 20, 0.02), (True, True, 9, 0.0), (True, False, 38, 0.02)],
)
def test_a_study_may_be_started_and_resumed_with_and_without_groups(
    study: Study, uninterrupted: Path, tmp_path: Path, first: bool, then: bool, count: int, save_every: float
) -> None:
    out = tmp_path / "study"
    run_partly(study, out, count, save_every=save_every, group=first)
    assert checkpoints(out)
    run(study, out, group=then)
    assert differences()(uninterrupted, out) == []


def test_datasets_and_seeds_may_be_added_to_a_grouped_study(
    study: Study, uninterrupted: Path, tmp_path: Path
) -> None:
    """One seed was interrupted, and one has finished."""
    out = tmp_path / "study"
    run(replace(study, datasets=study.datasets[1:2], seeds=(1,)), out)
    run_partly(replace(study, datasets=study.datasets[:1], seeds=(1,)), out, 2, save_every=0)
    console = silent()
    run(study, out, console, group=True)
    assert "note: a · td3_bc · seed 1: resumes after" in console.file.getvalue()
    assert differences()(uninterrupted, out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_grouped_study_that_is_killed_at_random_times_resumes_exactly(
    study: Study, uninterrupted: Path, tmp_path: Path
) -> None:
    chaos, execution = load_chaos(), Execution(jobs=1, save_every=0.02, group=True)
    kills = chaos.kill_and_resume(study, tmp_path / "study", 6, 0.3, 0, execution)
    assert kills.total() >= 3
    assert differences()(uninterrupted, tmp_path / "study") == []


def test_every_run_of_a_grouped_study_is_saved_when_it_is_stopped(
    study: Study, uninterrupted: Path, tmp_path: Path, seqeval: Seqeval
) -> None:
    out = tmp_path / "study"
    new = rows(study, out, save_every=1000, group=True)
    next(new), next(new), next(new)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(new)
    assert len(checkpoints(out)) == 6
    (line,) = [line for line in seqeval("status", out).out.splitlines() if line.startswith("b  ")]
    assert line.split()[:2] == ["b", "td3_bc"]
    run(study, out, group=True)
    assert differences()(uninterrupted, out) == []


@pytest.mark.parametrize("fixable", [True, False])
def test_a_failure_on_one_dataset_fails_the_job(
    study: Study, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixable: bool
) -> None:
    out, evaluate, calls = tmp_path / "study", Episodes.evaluate, []

    def failing(self: Episodes, *arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 7:
            raise UserError("it was killed") if fixable else ZeroDivisionError
        return evaluate(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Episodes, "evaluate", failing)
        with pytest.raises(UserError if fixable else PluginError) as raised:
            run(study, out, save_every=0.02, group=True)
    title = "a and 2 more · td3_bc · seed 0, 1"
    cause = "it was killed" if fixable else "a plug-in or environment raised an exception"
    assert str(raised.value).startswith(f"{title}: {cause}")
    assert len(list(out.glob("runs/*/*/*/error.txt"))) == 6
    run(study, out, group=True)
    assert differences()(uninterrupted, out) == []


def jobs(resolved: ResolvedStudy, out: Path, workers: int = 1) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The datasets and seeds of each job."""
    return [
        [
            (name, tuple(replica.seed for replica in job.replicas if replica.dataset == name))
            for name in job.datasets
        ]
        for job in resolved.jobs(StudyDirectory(out), workers, group=True)
    ]


def test_datasets_of_equal_spaces_share_a_job(study: Study, tmp_path: Path) -> None:
    """Where an algorithm depends on the total number of updates, only those of equally many; each worker that
    would be idle gets a share of the seeds."""
    together = resolve(study)
    a, b, c = ((name, (0, 1)) for name in SIZES)
    assert jobs(together, tmp_path) == [[a, b, c]]
    assert jobs(together, tmp_path, 2) == [[(name, (seed,)) for name in SIZES] for seed in (0, 1)]
    assert jobs(together, tmp_path, 9) == jobs(together, tmp_path, 2)

    decay = replace(study.protocol, learning_rate_decay=True)
    names = ("td3_bc", "iql", "sb3:TD3")
    decaying = resolve(replace(study, algorithms=names, protocol=decay, online=Online()))
    assert sorted(jobs(decaying, tmp_path, 5)) == sorted([[a, b, c], [a, c], [a, c], [b], [b]])

    others = replace(study, datasets=("pendulum-replay", "hopper-replay"), algorithms=names[:1], env=None)
    apart = resolve(others)
    assert [[name for name, _ in job] for job in jobs(apart, tmp_path)] == [
        ["pendulum-replay"],
        ["hopper-replay"],
    ]


def test_the_command_line_groups_datasets(
    study: Study, uninterrupted: Path, tmp_path: Path, seqeval: Seqeval
) -> None:
    flags = ["--protocol.start", 100, "--protocol.grow-by", 8, "--evaluation.points", 3, "--online.steps", 10]
    flags += ["--evaluation.episodes", 1, "--online.updates-per-step", 2, "--seeds", 0, 1, "--env", study.env]
    names = ["--datasets", *study.datasets, "--algorithms", *study.algorithms, "--out", tmp_path / "study"]
    ended = seqeval("run", *names, *flags, "--group", "--jobs", 1)
    assert ended.code == 0, ended.err
    assert "and 2 more" in ended.err
    assert differences()(uninterrupted, tmp_path / "study") == []
