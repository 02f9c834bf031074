"""Files of logged data that come from no environment: --env none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import Seqeval, refused

from seqeval import datasets, load_policy
from seqeval.types import Continuous, Discrete, Environment, Vector

BOUNDS = {"action_low": [-2.0, 0.0], "action_high": [2.0, 1.0]}


def log(path: Path, actions: np.ndarray, **attributes: Any) -> Path:
    """A file with episodes of 20 steps."""
    rng, size = np.random.default_rng(0), len(actions)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.standard_normal((size, 3)).astype(np.float32)
        file["actions"] = actions
        file["rewards"] = rng.standard_normal(size).astype(np.float32)
        file["terminals"] = np.arange(size) % 20 == 19
        file.attrs.update(attributes)
    return path


def vectors(size: int = 300) -> np.ndarray:
    return np.random.default_rng(1).uniform([-2, 0], [2, 1], (size, 2)).astype(np.float32)


def numbers(size: int = 300) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, size)


def test_the_file_says_what_its_spaces_are(tmp_path: Path) -> None:
    continuous = datasets.load(str(log(tmp_path / "mine.hdf5", vectors(), **BOUNDS)), "none")
    assert continuous.env_id is None
    assert continuous.logged_in is not None
    assert continuous.logged_in.observation_size == 3
    assert isinstance(continuous.logged_in.actions, Continuous)
    assert continuous.logged_in.actions.low.tolist() == BOUNDS["action_low"]
    assert continuous.logged_in.actions.high.tolist() == BOUNDS["action_high"]
    discrete = datasets.load(str(log(tmp_path / "numbered.hdf5", numbers())), "none")
    assert discrete.logged_in is not None
    assert discrete.logged_in.actions == Discrete(4, 0)
    assert discrete.actions.tolist() == numbers().tolist()


def test_an_environment_of_numbered_actions_is_stored_and_restored() -> None:
    stored = Environment("mine", Vector(3), Discrete(4, 0), None).to_json()
    restored = Environment.from_json(stored)
    assert (restored.name, restored.observation_size, restored.actions) == ("mine", 3, Discrete(4, 0))


@pytest.mark.parametrize(
    ("actions", "attributes", "message"),
    [
        (vectors(), {}, "the bounds of its actions are unknown; set the file's attributes action_low"),
        (numbers() - 1, {}, "field 'actions' holds -1; number actions from 0"),
    ],
)
def test_a_file_that_says_too_little_is_refused(
    seqeval: Seqeval, tmp_path: Path, actions: np.ndarray, attributes: dict[str, Any], message: str
) -> None:
    path = log(tmp_path / "mine.hdf5", actions, **attributes)
    assert message in refused(seqeval("datasets", "show", path, "--env", "none"))


def test_a_file_without_an_environment_says_how_to_go_on(seqeval: Seqeval, tmp_path: Path) -> None:
    path = log(tmp_path / "mine.hdf5", vectors(), **BOUNDS)
    assert "--env none for data without one" in refused(seqeval("datasets", "show", path))


@pytest.mark.parametrize("kind", ["vectors", "numbers"])
def test_a_study_of_such_a_file_has_curves_of_its_metrics(
    seqeval: Seqeval, tmp_path: Path, kind: str
) -> None:
    actions, attributes = (vectors(), BOUNDS) if kind == "vectors" else (numbers(), {})
    path, out = log(tmp_path / "mine.hdf5", actions, **attributes), tmp_path / "out"
    small = ("--protocol.start", 60, "--protocol.grow-by", 60, "--evaluation.points", 2, "--seeds", 0, 1)
    algorithm = "bc:hidden=(8,8),batch_size=16,name=bc"
    ended = seqeval(
        "run", "--datasets", path, "--env", "none", "--algorithms", algorithm, *small, "--out", out
    )
    assert ended.code == 0
    assert (out / "curves.png").exists()
    assert seqeval("export", out, "--to", tmp_path / "rows.csv").code == 0
    table = pd.read_csv(tmp_path / "rows.csv")
    assert table["eval/prequential_squared_error"].notna().sum() == 4  # none at N
    assert table["return_mean"].isna().all()
    policy = load_policy(out, "mine", "bc", 0)
    assert policy.env_id is None
    assert policy(np.zeros((5, 3))).shape == ((5, 2) if kind == "vectors" else (5,))


def test_such_a_file_has_no_online_phase(seqeval: Seqeval, tmp_path: Path) -> None:
    path = log(tmp_path / "mine.hdf5", vectors(), **BOUNDS)
    line = refused(
        seqeval(
            *("run", "--datasets", path, "--env", "none", "--algorithms", "td3_bc"),
            *("--protocol.start", 60, "--online.steps", 10, "--out", tmp_path / "out"),
        )
    )
    assert "has no environment for an online phase" in line


def test_a_converted_dataset_needs_no_environment(seqeval: Seqeval, tmp_path: Path) -> None:
    message = refused(seqeval("datasets", "show", "pendulum-replay", "--env", "none"))
    assert "`seqeval datasets convert pendulum-replay --to pendulum-replay.hdf5`" in message
    path = tmp_path / "copy.hdf5"
    assert seqeval("datasets", "convert", "pendulum-replay", "--to", path).code == 0
    space = datasets.load(str(path), "none").logged_in
    assert space is not None
    assert isinstance(space.actions, Continuous)
    assert (space.actions.low.tolist(), space.actions.high.tolist()) == ([-2.0], [2.0])
    assert not any("action_low" in note for note in datasets.load(str(path)).notes)
