"""`seqeval evaluate`: episodes of kept policies, run after the study."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from cluster import SMALL, run
from conftest import Seqeval, refused

import seqeval
from seqeval import Evaluation, Protocol, Study, UserError
from seqeval.evaluation.evaluators.episodes import start_seeds
from seqeval.execution.episodes import FILE

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(
        f"td3_bc:{SMALL},name=td3",
        "dt:embedding=8,layers=1,context=4,batch_size=4,target_returns=(-500,),name=dt",
    ),
    seeds=(0,),
    protocol=Protocol(start=19_960, grow_by=20, order="episodes"),
    evaluation=Evaluation(points=2, episodes=3, metrics=("initial-value",)),
)
EPISODES = ["episode_returns", "episode_lengths", "episode_successes", "return_mean", "score"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without episodes. Read-only."""
    out = tmp_path_factory.mktemp("evaluate") / "study"
    run(STUDY, out, keep_policies=True)
    return out


@pytest.fixture
def study(kept: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(kept, tmp_path / "study"))


def test_later_episodes_are_those_that_the_study_would_have_run(
    study: Path, tmp_path: Path, seqeval: Seqeval
) -> None:
    """Also of a policy that remembers its episode, to the last bit."""
    before = {file: file.read_bytes() for file in study.rglob("rows.jsonl")}
    assert load(study)["return_mean"].isna().all()
    ended = seqeval("evaluate", study, "--episodes", 3)
    assert ended.code == 0
    assert "pendulum-replay, dt, seed 0, n = 20000: 3 episodes, mean return -" in ended.out
    assert ended.out.endswith("6 rows have returns from later episodes\n")
    metrics = replace(STUDY.evaluation, metrics=("episodes",))
    expected = run(replace(STUDY, evaluation=metrics), tmp_path / "direct")
    pd.testing.assert_frame_equal(load(study)[EPISODES], expected[EPISODES])
    assert {file: file.read_bytes() for file in study.rglob("rows.jsonl")} == before


def load(study: Path) -> pd.DataFrame:
    return seqeval.load(study)


def test_it_resumes_and_adds_episodes(study: Path) -> None:
    seqeval.evaluate(study, episodes=1, algorithms=["td3"])
    file = next(study.rglob(FILE))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:40])  # as a killed process leaves it
    found = []
    assert seqeval.evaluate(study, episodes=2, algorithms=["td3"], report=lambda *x: found.append(x)) == 3
    assert [(key.samples, block.first, len(block.returns)) for key, block in found] == [
        *((19_960, 1, 1), (19_980, 0, 2), (20_000, 0, 2))
    ]
    seqeval.evaluate(study, episodes=2, report=lambda *x: found.append(x))
    assert len(found) == 6  # those of dt
    assert (load(study)["episode_returns"].map(len) == 2).all()


def test_the_first_starts_do_not_depend_on_the_number_of_episodes() -> None:
    assert start_seeds([3], [500], 40)[:7] == start_seeds([3], [500], 7)


def test_what_does_not_fit_is_refused_in_one_line(study: Path, tmp_path: Path, seqeval: Seqeval) -> None:
    assert "CartPole-v1 has observations of 4 numbers" in refused(
        seqeval("evaluate", study, "--env", "CartPole-v1")
    )
    assert "no 'tdd3' among its algorithms; did you mean 'td3'?" in refused(
        seqeval("evaluate", study, "--algorithms", "tdd3")
    )
    assert "no rows of these" in refused(seqeval("evaluate", study, "--seeds", 7))
    assert "episodes: must be at least 1" in refused(seqeval("evaluate", study, "--episodes", 0))
    seqeval("evaluate", study, "--episodes", 1)
    file = next(study.rglob(FILE))
    other = "Pendulum-v1?g=9.0"
    assert "cannot be mixed" in refused(seqeval("evaluate", study, "--env", other))
    file.write_text(file.read_text().replace('"first": 0', '"first": 1', 1))
    text = refused(seqeval("evaluate", study, "--episodes", 1))
    assert "line 1 is damaged (its digest is not that of its content)" in text
    shutil.rmtree(next(study.rglob("td3/seed-0/policies")))
    next(study.rglob("td3/seed-0")).joinpath(FILE).unlink(missing_ok=True)
    assert "--keep-policies" in refused(seqeval("evaluate", study, "--algorithms", "td3"))


def test_returns_of_two_environments_are_not_mixed(tmp_path: Path) -> None:
    metrics = replace(STUDY.evaluation, metrics=("episodes",))
    run(replace(STUDY, algorithms=STUDY.algorithms[:1], evaluation=metrics), tmp_path / "a")
    with pytest.raises(UserError, match="have returns from Pendulum-v1; returns from"):
        seqeval.evaluate(tmp_path / "a", env="Pendulum-v1?g=9.0")
    assert seqeval.evaluate(tmp_path / "a") == 0


def test_a_study_without_an_environment_needs_one(study: Path) -> None:
    file = study / "study.json"
    values = json.loads(file.read_text())
    from seqeval import environments

    entry = values["datasets"]["pendulum-replay"]
    entry["logged_in"] = environments.describe(entry["env_id"]).to_json()
    entry["env_id"] = None
    del values["checksum"]
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match="pendulum-replay has no environment; give one"):
        seqeval.evaluate(study, episodes=1)
    assert seqeval.evaluate(study, env="Pendulum-v1", episodes=1) == 6
    assert load(study)["return_mean"].notna().all()
