"""What files may say about themselves, reference returns and bounds of actions, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import h5py
import numpy as np
import pytest
from conftest import Seqeval, refused

from seqeval import datasets, environments, load_policy
from seqeval.datasets import _write
from seqeval.errors import UserError
from seqeval.execution.storage import frame
from seqeval.policy import Policy
from seqeval.types import Continuous, Dataset

BOUNDS = {"action_low": np.array([-3.0, 0.0]), "action_high": np.array([5.0, 0.5])}
REFERENCES = {"reference_min": -10.0, "reference_max": 30.0, "reference_source": "made up"}


class Unbounded(gymnasium.Env):
    """Accepts any action of two numbers, and rewards its first one. Episodes have five steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space: gymnasium.Space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    received: ClassVar[list[np.ndarray]] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.left = 5
        return self.np_random.standard_normal(3).astype(np.float32), {}

    def step(self, action):
        self.received.append(np.array(action))
        self.left -= 1
        observation = self.np_random.standard_normal(3).astype(np.float32)
        return observation, float(action[0]), False, self.left == 0, {}


class Bounded(Unbounded):
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Pictures(Bounded):
    observation_space = gymnasium.spaces.Box(0.0, 255.0, (2, 2), np.float32)


gymnasium.register("Unbounded-v0", entry_point=Unbounded)
gymnasium.register("Bounded-v0", entry_point=Bounded)
gymnasium.register("Pictures-v0", entry_point=Pictures)


def fields(size: int = 200) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.standard_normal((size, 3)).astype(np.float32),
        "actions": rng.uniform([-3, 0], [5, 0.5], (size, 2)).astype(np.float32),
        "rewards": rng.standard_normal(size).astype(np.float32),
        "terminals": np.zeros(size, bool),
        "timeouts": np.arange(size) % 5 == 4,
    }


def hdf5(path: Path, arrays: dict[str, np.ndarray], **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
        file.attrs.update(attributes)
    return path


def refusal(path: Path, env_id: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        datasets.load(str(path), env_id)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- bounds of actions ---


def bounds_of(dataset: Dataset) -> tuple[list[float], list[float]]:
    actions = environments.of(dataset).actions
    assert isinstance(actions, Continuous)
    return actions.low.tolist(), actions.high.tolist()


@pytest.fixture
def unbounded(tmp_path: Path) -> Path:
    return hdf5(tmp_path / "mine.hdf5", fields(), env_id="Unbounded-v0", **BOUNDS, **REFERENCES)


def test_a_file_gives_the_bounds_that_its_environment_lacks(unbounded: Path, tmp_path: Path) -> None:
    dataset = datasets.load(str(unbounded))
    assert bounds_of(dataset) == ([-3.0, 0.0], [5.0, 0.5])
    assert (dataset.env_id, dataset.environment) == ("Unbounded-v0", "Unbounded-v0")
    assert not [note for note in dataset.notes if "bounds" in note]
    npz = tmp_path / "mine.npz"
    np.savez(npz, **fields(), env_id="Unbounded-v0", **BOUNDS)
    assert bounds_of(datasets.load(str(npz))) == ([-3.0, 0.0], [5.0, 0.5])
    assert datasets.load(str(npz)).digest == dataset.digest


def test_a_study_acts_within_these_bounds(seqeval: Seqeval, unbounded: Path, tmp_path: Path) -> None:
    Unbounded.received.clear()
    ended = seqeval(
        *(
            "run",
            "--datasets",
            unbounded,
            "--algorithms",
            "bc:hidden=(8,8),name=bc",
            "--seeds",
            0,
            "--jobs",
            1,
        ),
        *("--protocol.start", 20, "--evaluation.points", 2, "--evaluation.episodes", 2),
        *("--out", tmp_path / "out"),
    )
    assert ended.code == 0, ended.err
    received = np.array(Unbounded.received)
    assert ((received >= BOUNDS["action_low"]) & (received <= BOUNDS["action_high"])).all()
    rows = frame([tmp_path / "out"])
    np.testing.assert_allclose(rows["score"], 100 * (rows["return_mean"] + 10) / 40)
    policy: Policy = load_policy(tmp_path / "out", "mine", "bc", 0)
    actions = policy(np.random.default_rng(1).standard_normal((100, 3)) * 100)
    assert ((actions >= BOUNDS["action_low"]) & (actions <= BOUNDS["action_high"])).all()
    assert actions[:, 0].max() > 1.5  # farther than an environment's usual bound of 1


def test_other_bounds_are_other_data(unbounded: Path, tmp_path: Path) -> None:
    other = hdf5(
        tmp_path / "other.hdf5", fields(), env_id="Unbounded-v0", **BOUNDS | {"action_high": [6.0, 1.0]}
    )
    assert datasets.load(str(unbounded)).digest != datasets.load(str(other)).digest
    with pytest.raises(UserError, match="mine and other give different bounds of their actions"):
        datasets.load(f"mix:{unbounded}+{other}")
    assert len(datasets.load(f"mix:{unbounded}+{unbounded}")) == 2 * len(datasets.load(str(unbounded)))


def test_a_converted_file_keeps_the_bounds(unbounded: Path, tmp_path: Path) -> None:
    dataset = datasets.load(str(unbounded))
    copy, _ = _write.write(dataset, str(tmp_path / "copy.hdf5"))
    assert bounds_of(datasets.load(str(copy))) == bounds_of(dataset)
    with pytest.raises(UserError, match=r"Minari cannot store the bounds of its actions.*; write a \.h"):
        _write.write(dataset, "minari:mine/copy-v0")


def test_bounds_of_a_bounded_environment_are_not_used(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "mine.hdf5", fields(), env_id="Bounded-v0", **BOUNDS)
    dataset = datasets.load(str(path))
    assert bounds_of(dataset) == ([-1.0, -1.0], [1.0, 1.0])
    assert (
        "attributes action_low and action_high are not used: Bounded-v0 has bounds of its own"
        in dataset.notes
    )


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"action_low": [-1.0, -1.0]}, "attribute 'action_high' is missing"),
        (BOUNDS | {"action_low": [9.0, 0.0]}, "must be finite, and each low below its high"),
        (BOUNDS | {"action_high": [np.inf, 1.0]}, "must be finite"),
        (BOUNDS | {"action_high": 1.0}, "must hold one number for each action"),
        (BOUNDS | {"action_high": "high"}, "must hold one number for each action"),
        (
            {"action_low": -1.0, "action_high": 1.0},
            "has actions of 2 numbers, but the data gives bounds of 1",
        ),
        (
            {},
            "give their bounds in the file of the data (attributes action_low and action_high, HDF5 or npz)",
        ),
    ],
)
def test_wrong_bounds_are_refused(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    path = hdf5(tmp_path / "mine.hdf5", fields(), env_id="Unbounded-v0", **attributes)
    text = refusal(path)
    assert message in text
    assert not attributes or text.startswith(f"{path}: ")


def test_the_command_line_names_the_attributes_for_bounds(seqeval: Seqeval, tmp_path: Path) -> None:
    path = hdf5(tmp_path / "mine.hdf5", fields(), env_id="Unbounded-v0")
    text = refused(seqeval("datasets", "show", path))
    assert "action_low and action_high" in text
    assert "ClipAction" not in text
    assert "RescaleAction" not in text


# --- reference returns ---


@pytest.mark.parametrize("recorded", ["Bounded-v0", "test_file_attributes:Bounded-v0"])
@pytest.mark.parametrize("given", [None, "Bounded-v0", "test_file_attributes:Bounded-v0"])
def test_own_references_are_used_whatever_module_registers_the_environment(
    tmp_path: Path, recorded: str, given: str | None
) -> None:
    path = hdf5(tmp_path / "mine.hdf5", fields(), env_id=recorded, **REFERENCES)
    reference = datasets.load(str(path), given).reference
    assert reference is not None
    assert reference.score(10.0) == 50.0


def test_own_references_hold_for_no_other_environment(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "mine.hdf5", fields(), env_id="Bounded-v0", **REFERENCES)
    assert datasets.load(str(path), "Bounded-v0?max_episode_steps=7").reference is None


# --- missing fields and shapes ---


def renamed(**names: str) -> dict[str, np.ndarray]:
    return {names.get(key, key): values for key, values in fields().items()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            renamed(terminals="dones") | {"infos/goal": np.zeros(3)},
            "field 'terminals' is missing; it has actions, dones, infos/goal, observations, rewards, "
            "timeouts; if 'dones' holds the terminals (ends without a future value, so no timeouts), rename "
            "it to 'terminals'",
        ),
        (
            renamed(observations="obs"),
            "it has actions, obs, rewards, terminals, timeouts; if 'obs' holds the observations, rename it "
            "to 'observations'",
        ),
        (renamed(rewards="rewrads"), "did you mean 'rewrads'?"),
        (
            {f"episode_{i:03}/observations": np.zeros(1) for i in range(40)},
            "episode_029/observations and 10 more",
        ),
        ({}, "field 'observations' is missing; it has no fields"),
    ],
)
def test_a_missing_field_is_reported_with_those_that_are_there(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    text = refusal(hdf5(tmp_path / "mine.hdf5", arrays, env_id="Bounded-v0"))
    assert message in text
    if not any("/" in name for name in arrays) and arrays:
        np.savez(tmp_path / "mine.npz", **arrays, env_id="Bounded-v0")
        assert "is missing; it has" in refusal(tmp_path / "mine.npz")


def test_images_are_refused_with_advice_that_works(tmp_path: Path) -> None:
    pictures = fields() | {"observations": np.zeros((200, 2, 2), np.float32)}
    path = hdf5(tmp_path / "pictures.hdf5", pictures, env_id="Pictures-v0")
    assert refusal(path).endswith("add the option flatten_observation=True if the data holds them as vectors")
    env_id = "Pictures-v0?flatten_observation=True"
    assert refusal(path, env_id).endswith(f"'observations' of {env_id}; store each row as one vector")
    flat = hdf5(tmp_path / "flat.hdf5", pictures | {"observations": np.zeros((200, 4))}, env_id=env_id)
    assert len(datasets.load(str(flat))) > 0
