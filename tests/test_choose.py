"""`seqeval choose`: a bandit that runs episodes of kept policies on demand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cluster import SMALL, run
from conftest import Seqeval, refused

import seqeval
from seqeval import Evaluation, Protocol, Study, UserError
from seqeval.analysis import bandit
from seqeval.choosing import BLOCK, pulls
from seqeval.execution.episodes import FILE, EpisodeFile

STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=(f"td3_bc:{SMALL},alpha=1|2.5|8,name=td3", f"bc:{SMALL},name=bc"),
    seeds=(0, 1),
    protocol=Protocol(start=19_980, grow_by=20),
    evaluation=Evaluation(points=1, episodes=2, metrics=("episodes", "initial-value")),
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a sweep. Read-only."""
    out = tmp_path_factory.mktemp("choose") / "study"
    run(STUDY, out, keep_policies=True)
    return out


@pytest.fixture
def study(kept: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(kept, tmp_path / "study"))


def test_a_seed_without_all_settings_does_not_choose(study: Path, seqeval: Seqeval) -> None:
    runs = map(str, study.glob("runs/*/*/*"))
    shutil.rmtree(next(run for run in runs if "alpha=8" in run and run.endswith("seed-1")))
    stopped = seqeval("choose", study, "--budget", 2)
    assert stopped.code == 2
    assert "statistics need every seed" in stopped.err
    assert "--leave-out-incomplete" in stopped.err
    partial = seqeval("choose", study, "--budget", 2, "--leave-out-incomplete")
    assert partial.code == 0
    assert partial.err.startswith("note: left out of the statistics: pendulum-replay, td3:alpha=8, seed 1")
    rows = seqeval_load(study)
    first = rows[(rows["seed"] == 0) & (rows["samples"] == 20_000) & (rows["algorithm"] == "td3_bc")]
    table = pd.read_csv(study / "choice.csv").set_index(["rule", "samples"])
    assert table.loc[("random", 20_000), "estimate"] == pytest.approx(first["score"].mean())
    assert table.loc[("oracle", 20_000), "estimate"] == pytest.approx(first["score"].max())


def test_new_episodes_are_run_stored_and_used_again(study: Path, seqeval: Seqeval) -> None:
    before = {file: file.read_bytes() for file in study.rglob("rows.jsonl")}
    first = seqeval("choose", study, "--budget", 9, "--trials", 2)
    assert first.code == 0
    assert "pendulum-replay, td3_bc: score of the policy that each rule deploys at n" in first.out
    assert "new episodes: 0" not in first.out  # nine pulls need more than the six episodes of the rows
    table = pd.read_csv(study / "choice.csv")
    assert set(table["rule"]) >= {"oracle", "random", "eval/initial_value", "bandit 1", "bandit 9"}
    assert set(table["samples"]) == {19_980, 20_000}
    again = seqeval("choose", study, "--budget", 9, "--trials", 2)
    assert "new episodes: 0\n" in again.out
    pd.testing.assert_frame_equal(pd.read_csv(study / "choice.csv"), table)
    assert {file: file.read_bytes() for file in study.rglob("rows.jsonl")} == before
    blocks = [block for file in study.rglob(FILE) for block in EpisodeFile(file.parent).blocks()]
    assert {(block.use, block.first % BLOCK, len(block.returns)) for block in blocks} == {
        ("choice", 2, BLOCK)
    }
    assert seqeval_load(study)["episode_returns"].map(len).eq(2).all()  # no row takes them


def seqeval_load(study: Path) -> pd.DataFrame:
    return seqeval.load(study)


def test_an_interrupted_choice_gives_the_same_table(study: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(study, tmp_path / "whole" / "study"))
    expected = seqeval.choose(whole, budget=12, trials=2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seqeval.choose(study, budget=12, trials=2, report=stop)
    assert len(list(study.rglob(FILE))) == 1
    pd.testing.assert_frame_equal(seqeval.choose(study, budget=12, trials=2), expected)


def test_the_deployed_values_lie_between_the_worst_and_the_best(study: Path) -> None:
    table = seqeval.choose(study, budget=4, k=2, trials=3, across_algorithms=True)
    assert set(table["algorithm"]) == {"all algorithms"}
    wide = table.pivot(index="samples", columns="rule", values="estimate")
    for rule in ("bandit 1", "bandit 4", "random"):
        assert (wide[rule] <= wide["oracle"] + 1e-9).all()


def test_episodes_are_observed_in_order_and_only_pulled_arms_are_deployed() -> None:
    asked: list[tuple[int, int]] = []

    def episode(arm: int, number: int) -> float:
        asked.append((arm, number))
        return -10.0 * arm - 5  # all negative: an arm without a pull must not count as 0

    values = np.array([-5.0, -15.0, -25.0])
    deployed = bandit.deployed_on_demand(values, episode, 30, 1, np.random.default_rng(0))
    for arm in range(3):
        numbers = [n for a, n in asked if a == arm]
        assert numbers == list(range(len(numbers)))
    first = asked[0][0]
    assert deployed[0, 0] == values[first]
    assert (deployed[0, 2:] == -5).all()  # constant returns: after a pull of each it is the best


def test_the_pulls_of_the_table() -> None:
    assert pulls(3) == [1, 2, 3]
    assert pulls(200)[:10] == list(range(1, 11))
    assert pulls(200)[-1] == 200


def test_what_cannot_be_chosen_is_refused_in_one_line(study: Path, seqeval: Seqeval, tmp_path: Path) -> None:
    assert "budget: must be at least 1" in refused(seqeval("choose", study, "--budget", 0))
    assert "k: must be at most 3, the number of policies, not 4" in refused(
        seqeval("choose", study, "--k", 4)
    )
    assert "must end in .csv" in refused(seqeval("choose", study, "--out", tmp_path / "a.txt"))
    assert "no study here" in refused(seqeval("choose", tmp_path / "none"))
    for folder in study.rglob("policies"):
        shutil.rmtree(folder)
    assert "--keep-policies" in refused(seqeval("choose", study, "--budget", 30))


def test_a_study_without_a_sweep_is_refused(study: Path) -> None:
    for folder in study.glob("runs/*/td3*"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="no algorithm has several settings"):
        seqeval.choose(study)
