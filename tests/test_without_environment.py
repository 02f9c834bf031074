"""Datasets without an environment: trained under every regime, never scored, with a note."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, make_dataset, refused

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, datasets, environments, load_policy
from seqeval.config import Online
from seqeval.datasets import _write
from seqeval.errors import UserError
from seqeval.execution.storage import StudyDirectory
from seqeval.replay.normalization import RewardScale
from seqeval.types import Continuous, Environment, Vector

MAZE, ANT, DIVERSE, KITCHEN = (
    "maze2d-umaze-v1",
    "antmaze-umaze-v2",
    "antmaze-umaze-diverse-v2",
    "kitchen-complete-v0",
)
FILES = {
    MAZE: ("maze2d-umaze-sparse-v1.hdf5", 4, 2),
    ANT: ("Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5", 29, 8),
    DIVERSE: ("Ant_maze_u-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5", 29, 8),
    KITCHEN: ("mini_kitchen_microwave_kettle_light_slider-v0.hdf5", 60, 9),
}
ROWS = 720
BC = "bc:hidden=(8,8),batch_size=16,name=bc"
SHORT = Protocol(start=100, grow_by=50, sizes=2, updates_per_size=3)


class Plane(gymnasium.Env):
    """Observes as many numbers as Maze2d does and takes its actions; an episode is one step, its reward 2."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.ones(4, np.float32), 2.0, True, False, {}


class WidePlane(Plane):
    action_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)


gymnasium.register("Plane-v0", entry_point=Plane)
gymnasium.register("WidePlane-v0", entry_point=WidePlane)


def write(folder: Path, name: str, timeouts: bool = True, seed: int = 0) -> Path:
    """A file of D4RL's: truncated episodes of 90 steps, or terminating ones of 360 without timeouts."""
    file_name, observation, action = FILES[name]
    rng = np.random.default_rng(seed)
    with h5py.File(folder / file_name, "w") as file:
        file["observations"] = rng.standard_normal((ROWS, observation)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (ROWS, action)).astype(np.float32)
        file["rewards"] = (rng.random(ROWS) < 0.1).astype(np.float32)
        file["terminals"] = np.zeros(ROWS) if timeouts else (np.arange(ROWS) % 360 == 359).astype(np.float32)
        if timeouts:
            file["timeouts"] = np.arange(ROWS) % 90 == 89
    return folder / file_name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with all files."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("SEQEVAL_DATA", str(data))
    for name in FILES:
        write(data, name, timeouts=name != KITCHEN)
    return data


def study(out: Path, *names: str) -> list[object]:
    """The arguments of a small study."""
    return [
        *("run", "--datasets", *names, "--algorithms", BC, "--seeds", 0, 1, "--jobs", 1, "--out", out),
        *("--protocol.start", 100, "--protocol.grow-by", 50, "--evaluation.points", 2),
    ]


def note_of(name: str, said: str) -> str:
    (note,) = [note for note in datasets.load(name).notes if said in note]
    return note


# --- the data ---


@pytest.mark.parametrize("name", FILES)
def test_datasets_load_with_d4rls_sizes_and_action_bounds(name: str) -> None:
    dataset = datasets.load(name)
    _, observation, action = FILES[name]
    assert (dataset.env_id, dataset.reference) == (None, None)
    about = environments.of(dataset)
    assert (about.observation_size, dataset.observation_size) == (observation, observation)
    assert (about.actions.low.tolist(), about.actions.high.tolist()) == ([-1] * action, [1] * action)
    assert about.name == dataset.environment == name.rpartition("-")[0].removesuffix("-diverse")
    note = note_of(name, "no installed environment has its observations")
    assert note.startswith("trained without evaluation, so there are no returns and no scores: ")
    assert f"observations of {observation} numbers; Gymnasium-Robotics'" in note


def test_timeouts_of_the_file_replace_the_time_limit(folder: Path) -> None:
    """Timeouts of Maze2d mark reached goals: neither early ends nor long episodes are suspicious."""
    path = write(folder, MAZE)
    with h5py.File(path, "a") as file:
        file["timeouts"][:] = np.isin(np.arange(ROWS), [10, 500])
    dataset = datasets.load(MAZE)
    assert environments.of(dataset).time_limit is None
    assert np.bincount(dataset.episode).tolist() == [10, 489, ROWS - 502]  # without their last transitions
    assert not any("limit" in note or "missing" in note for note in dataset.notes)


def test_without_timeouts_episodes_are_truncated_at_d4rls_limit_with_a_note() -> None:
    """Demonstrations of 360 steps are truncated at Kitchen's 280, as D4RL's qlearning_dataset does."""
    dataset = datasets.load(KITCHEN)
    assert np.bincount(dataset.episode).tolist() == [279, 80, 279, 80]
    assert np.flatnonzero(dataset.terminated).tolist() == [358, 717]  # two rows are dropped
    assert note_of(KITCHEN, "timeouts") == (
        "no timeouts field: 2 episodes truncated at kitchen-complete's limit of 280 steps; without "
        "next_observations too, each is taken from the next row, which is wrong at every end of an episode "
        "that the file does not mark"
    )
    assert "end of a demonstration" in note_of(KITCHEN, "terminal")


@pytest.mark.parametrize(("name", "limit"), [(MAZE, 300), (ANT, 700), (KITCHEN, 280)])
def test_the_time_limits_are_those_of_d4rls_environments(folder: Path, name: str, limit: int) -> None:
    with h5py.File(write(folder, name, timeouts=False), "a") as file:
        file["terminals"][:] = 0
    dataset = datasets.load(name)
    assert environments.of(dataset).time_limit == limit
    assert len(dataset) == ROWS - (-(-ROWS // limit))  # one truncated transition per episode


def test_observations_of_another_size_are_refused(folder: Path) -> None:
    write(folder, MAZE).rename(write(folder, ANT))
    with pytest.raises(
        UserError, match=r"has shape \(720, 4\), expected \(720, 29\) for 720 'observations' of antmaze-umaze"
    ):
        datasets.load(ANT)


@pytest.mark.parametrize(
    ("name", "env_id", "says"),
    [
        (
            ANT,
            "Ant-v4",
            "observations of 29 numbers and actions of 8 from -1 to 1, but Ant-v4 has observations of 27",
        ),
        (MAZE, "WidePlane-v0", "WidePlane-v0 has observations of 4 numbers and actions of 2 from -2 to 2"),
        (MAZE, "CartPole-v1", "CartPole-v1 has observations of 4 numbers and 2 discrete actions"),
        (MAZE, "Nowhere-v0", "'Nowhere-v0' cannot be made"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(name: str, env_id: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        datasets.load(name, env_id)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_antmaze_rewards_are_shifted_by_minus_one_in_every_environment() -> None:
    data = replace(make_dataset(), reference=None)
    ant = Environment("antmaze-umaze", Vector(3), Continuous(-np.ones(1), np.ones(1)), None)
    for dataset in (
        datasets.load(ANT),
        replace(data, env_id="gymnasium_robotics:AntMaze_UMaze-v4?flatten_observation=True"),
        replace(data, env_id="Mine-v0", logged_in=ant),
        replace(data, env_id=None, logged_in=ant),
    ):
        assert RewardScale.known_before_data(dataset) == RewardScale(offset=-1.0)
        assert RewardScale.known_from_all_data(dataset) == RewardScale(offset=-1.0)
    for name in (MAZE, KITCHEN):
        assert RewardScale.known_before_data(datasets.load(name)) == RewardScale()


def test_mixed_data_of_one_maze_notes_missing_scores_once() -> None:
    both = datasets.load(f"mix:{ANT}:200+{DIVERSE}:50%")
    assert (both.env_id, both.environment, both.segments) == (None, "antmaze-umaze", (200, 356))
    assert environments.of(both).observation_size == 29
    (note,) = [note for note in both.notes if "no scores" in note]
    assert note.startswith(f"{ANT} and {DIVERSE}: trained without evaluation")
    with pytest.raises(UserError, match="was collected in antmaze-umaze, maze2d-umaze-v1 in maze2d-umaze"):
        datasets.load(f"mix:{ANT}+{MAZE}")


@pytest.mark.parametrize("to", ["copy.hdf5", "minari:copy-v0"])
def test_conversion_is_refused_if_the_copy_could_not_be_loaded(tmp_path: Path, to: str) -> None:
    for env_id in (None, "Plane-v0"):
        with pytest.raises(UserError, match="collected in maze2d-umaze, which no file can name"):
            _write.write(datasets.load(MAZE, env_id), to if ":" in to else str(tmp_path / to))


def test_the_environment_survives_the_round_trip_through_json() -> None:
    own = environments.of(datasets.load(KITCHEN))
    back = Environment.from_json(json.loads(json.dumps(own.to_json())))
    assert (back.name, back.observation_size, back.time_limit) == ("kitchen-complete", 60, 280)
    np.testing.assert_array_equal(back.actions.low, own.actions.low)
    np.testing.assert_array_equal(back.actions.high, own.actions.high)


# --- training ---


@pytest.mark.parametrize("regime", ["stream", "retrain", "warm", "full"])
@pytest.mark.parametrize("name", [MAZE, KITCHEN])
def test_every_regime_trains_without_evaluation_episodes(tmp_path: Path, name: str, regime: str) -> None:
    protocol = replace(SHORT, regime=regime)
    study = Study((name,), (BC,), (0, 1), protocol, evaluation=Evaluation(points=2))
    rows = seqeval.run(study, tmp_path / "run", Execution(jobs=1))
    assert len(rows) == {"stream": 6, "retrain": 4, "warm": 4, "full": 2}[regime]
    assert (rows["status"] == "ok").all()
    assert rows[["return_mean", "score"]].isna().all(axis=None)
    assert (rows["episode_returns"].str.len() == 0).all()
    assert (rows["episode_lengths"].str.len() == 0).all()
    assert rows["samples"].max() == len(datasets.load(name))
    assert (rows["updates"] > 0).all()
    assert (rows["train_seconds"] > 0).all()
    assert np.isfinite(rows["train/loss"]).all()
    policy = load_policy(tmp_path / "run", name, "bc", 1)
    assert policy.env_id is None
    actions = policy(np.random.default_rng(0).standard_normal((5, FILES[name][1])))
    assert actions.shape == (5, FILES[name][2])
    assert (np.abs(actions) <= 1).all()


def test_weights_are_the_same_with_and_without_evaluation(tmp_path: Path) -> None:
    """Training on the same data gives the same weights with and without an environment."""
    settings = Study((MAZE,), (BC,), (3,), SHORT, evaluation=Evaluation(points=2))
    without = seqeval.run(settings, tmp_path / "without", Execution(jobs=1))
    played = seqeval.run(replace(settings, env="Plane-v0"), tmp_path / "played", Execution(jobs=1))
    assert without["train/loss"].tolist() == played["train/loss"].tolist()
    observations = np.random.default_rng(0).standard_normal((9, 4))
    np.testing.assert_array_equal(
        load_policy(tmp_path / "without", MAZE, "bc", 3)(observations),
        load_policy(tmp_path / "played", MAZE, "bc", 3)(observations),
    )


def test_a_given_environment_yields_returns_but_no_scores(tmp_path: Path) -> None:
    settings = Study(
        (MAZE,), ("td3_bc:hidden=(8,8),batch_size=16,name=td3",), (0,), SHORT, Online(steps=3), env="Plane-v0"
    )
    rows = seqeval.run(
        replace(settings, evaluation=Evaluation(points=2, episodes=3)), tmp_path / "run", Execution(jobs=1)
    )
    assert (rows["return_mean"] == 2).all()
    assert rows["score"].isna().all()
    assert rows["phase"].tolist() == ["offline"] * 3 + ["online"] * 2
    about = StudyDirectory(tmp_path / "run").study()["datasets"][MAZE]
    assert (about["env_id"], about["logged_in"]["name"], about["reference"]) == (
        "Plane-v0",
        "maze2d-umaze",
        None,
    )
    assert any(
        "evaluated in Plane-v0, not in D4RL's maze2d-umaze: returns, but no scores" in n
        for n in about["notes"]
    )


def test_a_seed_with_infinite_losses_fails_without_evaluation_too(tmp_path: Path) -> None:
    study = Study((MAZE,), ("bc:hidden=(8,8),learning_rate=1e30,name=bc",), (0,), SHORT)
    rows = seqeval.run(study, tmp_path / "run", Execution(jobs=1))
    assert rows["status"].iloc[-1] == "failed"


# --- the command line ---


def test_the_run_command_notes_missing_scores_before_training(seqeval: Seqeval, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = seqeval(*study(out, MAZE))
    assert ended.code == 0
    told = " ".join(ended.err.split())
    assert told.count("no returns and no scores") == 1
    assert told.index("no returns and no scores") < told.index("1 of 1 jobs ended")
    assert "failed" not in told
    header, *lines = ended.out.splitlines()
    assert header.split()[:4] == ["dataset", "algorithm", "phase", "unit"]
    name, _, phase, unit, *numbers = lines[0].split()
    assert (name, phase, unit) == (MAZE, "offline", "eval/prequential_squared_error")
    assert numbers[1] == "±"
    assert numbers[-2] == "2"
    assert int(numbers[-1]) < 712  # nothing arrives after N
    assert lines[1] == "note: no environment, so no returns; shown instead: eval/prequential_squared_error"
    assert lines[2].startswith("figure: ")
    assert "nan" not in ended.out
    files = {path.name for path in out.iterdir()}
    assert files == {".lock", "runs", "study.json", "curves.png", "curves.pdf"}

    again = seqeval(*study(out, MAZE))
    assert again.code == 0
    assert "every run is finished" in again.err
    assert again.out == ended.out
    plotted = seqeval("plot", out, "--out", tmp_path / "figure.svg")
    assert plotted.code == 0
    assert "shown instead: eval/prequential_squared_error" in plotted.err
    drawn = (tmp_path / "figure.svg").read_text()
    assert "lower is better" in drawn
    assert "mean of the data" not in drawn
    assert seqeval("export", out, "--to", tmp_path / "rows.csv").code == 0
    table = pd.read_csv(tmp_path / "rows.csv")
    assert len(table) == 6
    assert table["return_mean"].isna().all()
    assert set(table["episode_returns"]) == {"[]"}


def test_only_datasets_with_an_environment_are_drawn(seqeval: Seqeval, tmp_path: Path) -> None:
    arguments = study(tmp_path / "run", MAZE, "pendulum-replay")
    ended = seqeval(*arguments, "--protocol.grow-by", 5000, "--evaluation.episodes", 1)
    assert ended.code == 0
    assert "not evaluated" in ended.out
    assert f"not drawn: {MAZE}" in ended.out
    assert "figure: " in ended.out
    plotted = seqeval("plot", tmp_path / "run", "--out", tmp_path / "figure.svg")
    assert plotted.code == 0
    assert f"note: not drawn: {MAZE}" in plotted.err
    drawn = (tmp_path / "figure.svg").read_text()
    assert "pendulum-replay" in drawn
    assert MAZE not in drawn


def test_an_online_phase_is_refused_in_one_line(seqeval: Seqeval, tmp_path: Path) -> None:
    line = refused(seqeval(*study(tmp_path / "run", MAZE), "--online.steps", 10))
    assert f"{MAZE}: has no environment for an online phase; remove online.steps" in line
    assert not (tmp_path / "run").exists()


def test_the_show_command_says_that_there_are_no_scores(seqeval: Seqeval, tmp_path: Path) -> None:
    ended = seqeval("datasets", "show", ANT, "--figure", tmp_path / "card.png")
    assert ended.code == 0
    facts = dict(line.split("  ", 1) for line in ended.out.splitlines() if "  " in line)
    assert facts["environment"].strip() == "none"
    assert facts["scores"].strip() == "none: there is no environment to evaluate in"
    assert facts["observation"].strip() == "29 numbers"
    assert "no installed environment has its observations" in ended.out
    assert (tmp_path / "card.png").stat().st_size > 0
    assert "Plane-v0" in seqeval("datasets", "show", MAZE, "--env", "Plane-v0").out
