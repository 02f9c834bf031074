"""File formats other than HDF5: layouts, damaged files, and untrusted pickles, which must not run."""

from __future__ import annotations

import copy
import io
import os
import pickle
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, cli, datasets, environments
from seqeval.collect.log import LoggingEnv, TransitionLog
from seqeval.datasets import _memory
from seqeval.errors import UserError
from seqeval.execution import jobs
from seqeval.types import Dataset

PENDULUM = "Pendulum-v1"


def refusal(path: Path, env_id: str | None = PENDULUM, **options: Any) -> str:
    """The message with which a file is refused: a single line that names it."""
    with pytest.raises(UserError) as caught:
        datasets.load(str(path), env_id, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def steps(size: int, first: int = 0) -> dict[str, np.ndarray]:
    """D4RL's fields for Pendulum-v1. Row i observes (i, 0, 0) and is rewarded with i; its next observation is
    (i + 1, 0, 0). None is terminal."""
    rows = np.arange(first, first + size, dtype=np.float32)
    return {
        "observations": np.stack([rows, 0 * rows, 0 * rows], 1),
        "actions": rows[:, None] % 4 - 2,
        "rewards": rows,
        "terminals": np.zeros(size, bool),
        "next_observations": np.stack([rows + 1, 0 * rows, 0 * rows], 1),
    }


def flagged(size: int, *rows: int) -> np.ndarray:
    return np.isin(np.arange(size), rows)


def rows_of(dataset: Dataset) -> list[int]:
    return dataset.observations[:, 0].astype(int).tolist()


def where(flags: np.ndarray) -> list[int]:
    return np.flatnonzero(flags).tolist()


# --- .npz ---


def npz(tmp_path: Path, **fields: Any) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **fields)
    return path


def test_an_npz_file_in_d4rls_layout_is_read_like_an_hdf5_file(tmp_path: Path) -> None:
    fields = steps(6) | {"terminals": flagged(6, 2), "timeouts": flagged(6, 4)}
    references = {"reference_min": -10.0, "reference_max": 5, "reference_source": "made up"}
    path = npz(tmp_path, **fields, **references, env_id=PENDULUM, behaviour=b"dice", qpos=np.zeros((6, 2)))
    dataset = datasets.load(str(path))
    assert (dataset.name, dataset.env_id, len(dataset)) == ("mine", PENDULUM, 6)
    assert dataset.episode.tolist() == [0, 0, 0, 1, 1, 2]
    assert (where(dataset.terminated), where(dataset.truncated)) == ([2], [4, 5])
    for key in ("observations", "actions", "rewards", "next_observations"):
        assert np.array_equal(getattr(dataset, key), fields[key]), key
    assert dataset.card == references | {"env_id": PENDULUM, "behaviour": "dice"}
    assert dataset.reference is not None
    assert (dataset.reference.minimum, dataset.reference.maximum) == (-10, 5)


def test_an_npz_file_without_timeouts_is_truncated_at_the_time_limit(tmp_path: Path) -> None:
    dataset = datasets.load(str(npz(tmp_path, **steps(450), env_id=PENDULUM)))
    assert where(dataset.truncated) == [199, 399, 449]


def test_an_npz_file_without_an_environment_is_refused_with_the_flag_to_use(tmp_path: Path) -> None:
    path = npz(tmp_path, **steps(3))
    assert "--env" in refusal(path, None)
    assert datasets.load(str(path), PENDULUM).env_id == PENDULUM


def test_invalid_references_in_npz_files_are_refused(tmp_path: Path) -> None:
    assert "'reference_max' is missing" in refusal(npz(tmp_path, **steps(3), reference_min=0.0))
    references = {"reference_min": 1.0, "reference_max": 0.0, "reference_source": "made up"}
    assert "not above" in refusal(npz(tmp_path, **steps(3), **references))


def test_ogbench_terminals_truncate_and_its_masks_terminate(tmp_path: Path) -> None:
    """Two trajectories of 4 rows; the first reaches its goal in row 1 and continues, the second reaches
    it in its last row."""
    fields = steps(8) | {"terminals": flagged(8, 3, 7).astype(np.float32), "masks": 1 - flagged(8, 1, 7)}
    dataset = datasets.load(str(npz(tmp_path, **fields, qpos=np.zeros((8, 2)))), PENDULUM)
    assert (where(dataset.terminated), where(dataset.truncated)) == ([1, 7], [3])
    assert dataset.episode.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert dataset.episode_complete.all()
    assert (
        "2 transitions terminate according to 'masks', 1 are truncated according to 'terminals'"
        in dataset.notes[0]
    )


def test_without_next_observations_the_last_rows_of_ogbench_are_dropped(tmp_path: Path) -> None:
    """They hold the last observation of a trajectory, and an action without effect."""
    fields = steps(8) | {"terminals": flagged(8, 3, 7), "masks": np.ones(8)}
    del fields["next_observations"]
    dataset = datasets.load(str(npz(tmp_path, **fields)), PENDULUM)
    assert rows_of(dataset) == [0, 1, 2, 4, 5, 6]
    assert dataset.next_observations[:, 0].tolist() == [1, 2, 3, 5, 6, 7]
    assert not dataset.terminated.any()


def test_ogbench_data_without_rewards_is_refused(tmp_path: Path) -> None:
    fields = steps(4)
    del fields["rewards"]
    message = refusal(npz(tmp_path, **fields, qpos=np.zeros((4, 2))))
    assert "'rewards' is missing" in message
    assert "singletask" in message


def test_ogbench_data_without_terminations_is_refused(tmp_path: Path) -> None:
    assert "'masks'" in refusal(npz(tmp_path, **steps(4), qpos=np.zeros((4, 2))))
    assert "compact_dataset=False" in refusal(npz(tmp_path, **steps(4), masks=np.ones(4), valids=np.ones(4)))


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((4, 1)), np.full(4, 0.5), np.array(list("1111")), 1])
def test_masks_that_are_not_flags_are_refused(tmp_path: Path, bad: Any) -> None:
    assert "'masks'" in refusal(npz(tmp_path, **steps(4), masks=bad))


@pytest.mark.parametrize("field", ["observations", "actions", "terminals"])
def test_a_missing_field_of_an_npz_file_is_named(tmp_path: Path, field: str) -> None:
    fields = steps(4)
    del fields[field]
    assert f"{field!r} is missing" in refusal(npz(tmp_path, **fields, masks=np.ones(4)))


# --- trajectories ---


def pickled(tmp_path: Path, content: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path = tmp_path / "mine.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# NumPy 2 writes `numpy._core`, NumPy 1 `numpy.core`; protocol 3 has names as lines, which can be exchanged.
@pytest.mark.parametrize(
    ("protocol", "core"), [(3, "numpy.core"), (3, "numpy._core"), (4, "numpy._core"), (5, "numpy._core")]
)
def test_trajectories_are_joined_and_truncated_unless_they_terminate(
    tmp_path: Path, protocol: int, core: str
) -> None:
    trajectories = [steps(3), steps(2, first=10), steps(4, first=20)]
    trajectories[1]["terminals"][-1] = True
    trajectories[2]["observations"] = np.asfortranarray(trajectories[2]["observations"])
    trajectories[2]["rewards"] = trajectories[2]["rewards"].astype(">f8")
    trajectories[0]["return"] = np.float64(3)
    path = pickled(tmp_path, trajectories, protocol)
    path.write_bytes(path.read_bytes().replace(b"numpy._core", core.encode()))
    dataset = datasets.load(str(path), PENDULUM)
    assert (dataset.name, rows_of(dataset)) == ("mine", [0, 1, 2, 10, 11, 20, 21, 22, 23])
    assert dataset.episode.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert (where(dataset.terminated), where(dataset.truncated)) == ([4], [2, 8])
    assert dataset.episode_complete.all()
    assert dataset.rewards.tolist() == rows_of(dataset)
    assert np.array_equal(dataset.actions, np.concatenate([each["actions"] for each in trajectories]))
    assert (dataset.next_observations[:, 0] == dataset.observations[:, 0] + 1).all()


def test_without_next_observations_the_truncated_end_of_a_trajectory_is_dropped(tmp_path: Path) -> None:
    trajectories = [steps(3), steps(2, first=10)]
    for each in trajectories:
        del each["next_observations"]
    assert rows_of(datasets.load(str(pickled(tmp_path, trajectories)), PENDULUM)) == [0, 1, 10]


def test_a_pickle_is_refused_without_an_environment(tmp_path: Path) -> None:
    assert "--env" in refusal(pickled(tmp_path, [steps(3)]), None)


def without(field: str) -> dict[str, Any]:
    return {key: values for key, values in steps(3).items() if key != field}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is empty"),
        ({"observations": 1}, "not dict"),
        (7, "not int"),
        ([steps(3), 7], "trajectory 1: must be a dict of arrays, not a int"),
        ([steps(3), without("rewards")], "trajectory 1: field 'rewards' is missing; it has actions, "),
        ([{}], "trajectory 0: field 'observations' is missing; it has no fields"),
        ([steps(3), without("next_observations")], "trajectory 1: field 'next_observations' is missing"),
        ([steps(3), steps(0)], "trajectory 1: field 'observations' must be a NumPy array"),
        ([steps(3) | {"rewards": [1.0, 2.0, 3.0]}], "field 'rewards' must be a NumPy array"),
        ([steps(3) | {"rewards": np.float32(1)}], "field 'rewards' must be a NumPy array"),
        ([steps(3) | {"rewards": np.array(1.0)}], "field 'rewards' must be a NumPy array"),
        ([steps(3) | {"rewards": np.ones(4)}], "field 'rewards' has shape (4,), but expected (3,)"),
        (
            [steps(3), steps(3) | {"actions": np.ones((3, 2))}],
            "trajectory 1: field 'actions' has shape (3, 2)",
        ),
        ([steps(3) | {"actions": np.ones((3, 2))}], "field 'actions' has shape (3, 2), expected (3, 1)"),
        ([steps(3) | {"terminals": np.full(3, 0.5)}], "'terminals' is neither 0 nor 1 in row 0"),
        ([steps(3) | {"rewards": np.full(3, np.nan)}], "'rewards' is not finite in row 0"),
    ],
)
def test_trajectories_with_another_layout_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    assert said in refusal(pickled(tmp_path, content))


# --- pickles with code ---


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def in_list(evil: Any) -> Any:
    return [evil]


def in_dict(evil: Any) -> Any:
    return [steps(3) | {"infos": {"deep": [(evil,)]}}]


def in_array(evil: Any) -> Any:
    return [steps(3) | {"rewards": np.array([evil, evil, evil], object)}]


def as_field(evil: Any) -> Any:
    return [steps(3) | {"rewards": evil}]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", [in_list, in_dict, in_array, as_field])
def test_a_pickle_with_code_is_refused_without_running_it(tmp_path: Path, protocol: int, place: Any) -> None:
    target = tmp_path / "made"
    path = pickled(tmp_path, place(Evil(target)), protocol)
    said = refusal(path)
    assert "--trust-pickle" in said or "dtype 'O8'" in said
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists(), "the test tests nothing"


def test_the_command_names_the_code_without_running_it(tmp_path: Path, capsys: Any) -> None:
    target = tmp_path / "made"
    path = pickled(tmp_path, Evil(target))
    with pytest.raises(SystemExit) as caught:
        cli.main(["datasets", "show", str(path), "--env", PENDULUM])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert f"'{os.mkdir.__module__}.mkdir'" in err
    assert not target.exists()


class Call:
    """An object of a pickle written by hand: what a function would return."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


RECONSTRUCT = np.zeros(1).__reduce__()[0]


@pytest.mark.parametrize(
    "content",
    [
        np.array(["text", None], object),
        np.array([(1, 2)], [("a", object), ("b", "i4")]),
        np.array([(1.0, 2)], [("a", "f8"), ("b", "i4")]),
        np.array(["text"]),
        np.array(["2020-01-01"], "M8[D]"),
    ],
    ids=lambda content: str(content.dtype),
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, content: np.ndarray) -> None:
    assert "holds" in refusal(pickled(tmp_path, [steps(3) | {"rewards": content}], 4))


def test_an_array_of_forged_pointers_is_never_created(tmp_path: Path) -> None:
    """NumPy trusts the flags of a pickled dtype: without them it reads these bytes as objects."""
    dtype = Call(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
    forged = Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (3,), dtype, False, b"\x01" * 24))
    assert "dtype 'O8'" in refusal(pickled(tmp_path, [steps(3) | {"rewards": forged}]))


def test_the_state_of_a_dtype_cannot_change_it(tmp_path: Path) -> None:
    dtype = Call(np.dtype, ("f8", False, True), (3, "<", None, ("a",), {"a": ("O8", 0)}, 8, 8, 63))
    forged = Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (3,), dtype, False, np.arange(3.0).tobytes()))
    path = pickled(tmp_path, [steps(3) | {"rewards": forged}])
    assert datasets.load(str(path), PENDULUM).rewards.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("shape", "content"),
    [((4,), b"\0" * 24), ((2**62,), b""), ((3,), 24), ((3,), [1.0])],
)
def test_an_array_that_does_not_match_its_header_is_refused(tmp_path: Path, shape: Any, content: Any) -> None:
    forged = Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, np.dtype("f8"), False, content))
    assert "not a readable pickle" in refusal(pickled(tmp_path, [steps(3) | {"rewards": forged}]))


@pytest.mark.parametrize(
    "name",
    [
        *("os system", "posix system", "builtins eval", "builtins getattr", "numpy load", "numpy fromfile"),
        *("numpy ndarray.tofile", "numpy._core.multiarray fromfile", "copyreg _reconstructor"),
        *("torch._utils _rebuild_tensor_v2", "functools partial", "numpy.core.multiarray scalar.__class__"),
    ],
)
def test_every_other_global_in_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    module, attribute = name.split()
    path = tmp_path / "mine.pickle"
    path.write_bytes(b"\x80\x04" + pickle.dumps(module, 0)[:-1] + pickle.dumps(attribute, 0)[:-1] + b"\x93.")
    assert repr(f"{module}.{attribute}") in refusal(path)


def test_an_npz_file_with_objects_is_refused_without_running_their_code(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for field in ("rewards", "env_id"):
        path = npz(tmp_path, **steps(3) | {field: np.array([Evil(target)] * 3, object)})
        assert "not a readable .npz" in refusal(path)
    assert not target.exists()


# --- damaged files ---


def whole(tmp_path: Path, kind: str) -> Path:
    """A small valid file."""
    path = tmp_path / f"mine.{kind.rpartition('.')[2]}"
    if kind == "zipped.npz":
        np.savez_compressed(path, **steps(5))
    elif kind == "npz":
        np.savez(path, **steps(5))
    else:
        path.write_bytes(pickle.dumps([steps(3), steps(2)], 4 if kind == "pkl" else 5))
    return path


KINDS = ["npz", "zipped.npz", "pkl", "pickle"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shortened_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = whole(tmp_path, kind)
    content = path.read_bytes()
    assert len(datasets.load(str(path), PENDULUM)) == 5
    for size in [0, 1, 2, *range(3, len(content), 23), len(content) - 1]:
        path.write_bytes(content[:size])
        assert "not a readable" in refusal(path), size


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_wrong_byte_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    path = whole(tmp_path, kind)
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            datasets.load(str(path), PENDULUM)
        except UserError:
            refusal(path)


@pytest.mark.parametrize("ending", ["npz", "pkl", "pickle", "NPZ", "PKL"])
@pytest.mark.parametrize(
    "content", [b"not what its name says\n", b"\x93NUMPY\x01\x00", b"\x80\x04\x95", b"PK"]
)
def test_garbage_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(content)
    assert "not a readable" in refusal(path)


def test_a_single_array_with_the_ending_npz_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "mine.npz", io.BytesIO()
    np.save(content, np.zeros(3))
    path.write_bytes(content.getvalue())
    assert "not a readable .npz" in refusal(path)


@pytest.mark.parametrize("ending", ["npz", "pkl", "pickle"])
def test_a_missing_file_is_refused(tmp_path: Path, ending: str) -> None:
    assert "no such file" in refusal(tmp_path / f"mine.{ending}")


# --- replay buffers ---

SMALL = {"policy_kwargs": {"net_arch": [4]}, "batch_size": 4, "learning_starts": 30, "train_freq": 10}


def learned(env_id: str, n_envs: int, total: int, make: Any) -> tuple[Any, list[dict[str, np.ndarray]]]:
    """A model that has learned for `total` steps, and what each environment received and answered."""
    logs = [TransitionLog(env_id, total) for _ in range(n_envs)]
    envs = DummyVecEnv([lambda log=log: LoggingEnv(environments.make(env_id), log) for log in logs])
    model = make(envs, **copy.deepcopy(SMALL))  # Stable-Baselines3 changes them
    model.set_logger(Logger(None, []))
    model.learn(total)
    envs.close()
    return model, [log.rows(0, log.size) for log in logs]


def saved(model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "buffer.pkl"
    model.save_replay_buffer(path)
    return path


def expected(logs: list[dict[str, np.ndarray]], size: int) -> dict[str, np.ndarray]:
    """The last `size` steps of each log, one log after the other, each truncated at its end."""
    for log in logs:
        log["timeouts"][-1] |= not log["terminals"][-1]
    return {key: np.concatenate([log[key][-size:] for log in logs]) for key in logs[0]}


def check_episodes(dataset: Dataset, fields: dict[str, np.ndarray], partial: set[int]) -> None:
    """Check the episodes of fields without dropped rows; those in `partial` are incomplete."""
    ends = fields["terminals"] | fields["timeouts"]
    episode = np.r_[0, np.cumsum(ends)[:-1]]
    assert dataset.episode.tolist() == episode.tolist()
    returns = np.bincount(episode, fields["rewards"].astype(np.float64))
    assert dataset.episode_returns == pytest.approx(returns)
    assert set(where(~dataset.episode_complete)) == partial


SHORT = f"{PENDULUM}?max_episode_steps=35"  # the numbers of steps below are not multiples of it


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("total", [120, 330])  # the ring holds 150 steps: not full, and wrapped around
def test_a_replay_buffer_contains_the_logged_steps(tmp_path: Path, n_envs: int, total: int) -> None:
    model, logs = learned(
        SHORT, n_envs, total, lambda envs, **small: SAC("MlpPolicy", envs, seed=0, buffer_size=150, **small)
    )
    buffer = model.replay_buffer
    assert (buffer.full, buffer.pos > 0) == (total > 150, True)
    dataset = datasets.load(str(saved(model, tmp_path)), SHORT, trust_pickle=True)
    fields = expected(logs, min(total, 150) // n_envs)
    for key in ("observations", "actions", "rewards", "next_observations"):
        assert np.array_equal(getattr(dataset, key), fields[key]), key
    assert np.abs(dataset.actions).max() > 1  # in the environment's units
    assert not dataset.terminated.any()
    assert dataset.truncated.tolist() == fields["timeouts"].tolist()
    ends, size = where(fields["timeouts"]), len(fields["rewards"]) // n_envs
    lasts = {ends.index((i + 1) * size - 1) for i in range(n_envs)}
    firsts = {0, *(last + 1 for last in lasts)} - {len(ends)} if buffer.full else set()
    check_episodes(dataset, fields, lasts | firsts)
    assert dataset.notes == ()


def test_a_replay_buffer_with_discrete_actions_contains_the_logged_steps(tmp_path: Path) -> None:
    env_id = "CartPole-v1?max_episode_steps=14"
    model, logs = learned(
        env_id, 1, 330, lambda envs, **small: DQN("MlpPolicy", envs, seed=0, buffer_size=150, **small)
    )
    dataset = datasets.load(str(saved(model, tmp_path)), env_id, trust_pickle=True)
    fields = expected(logs, 150)
    for key in ("observations", "actions", "rewards", "next_observations"):
        assert np.array_equal(getattr(dataset, key), fields[key]), key
    assert dataset.actions.dtype == np.int64
    assert dataset.terminated.tolist() == fields["terminals"].tolist()
    assert dataset.truncated.tolist() == fields["timeouts"].tolist()
    assert dataset.terminated.any()
    assert (dataset.truncated[:-1]).any()


@pytest.mark.parametrize("total", [120, 320, 300])
@pytest.mark.parametrize("optimised", [False, True])
def test_a_replay_buffer_without_timeouts_truncates_by_length(
    tmp_path: Path, optimised: bool, total: int
) -> None:
    """Episode ends at the time limit are truncations, even if terminal. With optimize_memory_usage no next
    observation is known there, and the oldest step has been overwritten by the newest next observation."""
    env_id = "CartPole-v1?max_episode_steps=16"
    model, logs = learned(
        env_id,
        2,
        total,
        lambda envs, **small: DQN(
            "MlpPolicy",
            envs,
            seed=0,
            buffer_size=150,
            optimize_memory_usage=optimised,
            replay_buffer_kwargs={"handle_timeout_termination": False},
            **small,
        ),
    )
    dataset = datasets.load(str(saved(model, tmp_path)), env_id, trust_pickle=True)
    for log in logs:
        ends = np.r_[-1, where(log["terminals"] | log["timeouts"])]
        log["timeouts"][ends[1:]] = np.diff(ends) == 16
        log["terminals"] &= ~log["timeouts"]
    full = total > 150
    size = min(total, 150) // 2 - (optimised and full)
    fields = expected(logs, size)
    if full:  # the end of an episode is unknown if its beginning is
        ended = fields["terminals"] | fields["timeouts"]
        for first in (0, size):
            end = first + int(np.argmax(ended[first:]))
            fields["terminals"][end], fields["timeouts"][end] = False, True
    kept = ~fields["timeouts"] if optimised else np.ones(2 * size, bool)
    for key in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(dataset, key), fields[key][kept]), key
    assert dataset.terminated.tolist() == fields["terminals"][kept].tolist()
    assert dataset.truncated.tolist() == fields["timeouts"][kept].tolist()
    going = ~dataset.terminated  # next observations of terminal transitions are not used
    assert np.array_equal(dataset.next_observations[going], fields["next_observations"][kept][going])
    assert dataset.terminated.any()
    assert "records no timeouts" in dataset.notes[0]


@pytest.fixture(scope="module")
def buffer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay buffer of Pendulum-v1 made by hand."""
    path = tmp_path_factory.mktemp("buffer") / "by-hand.pkl"
    made = ReplayBuffer(10, *spaces(PENDULUM))
    for i in range(6):
        made.add(*(np.full((1, 3), i + j, np.float32) for j in (0, 1)), np.zeros((1, 1)), i, i == 3, [{}])
    path.write_bytes(pickle.dumps(made))
    return path


def spaces(env_id: str) -> tuple[gymnasium.Space, gymnasium.Space]:
    env = environments.make(env_id)
    env.close()
    return env.observation_space, env.action_space


def test_an_untrusted_replay_buffer_is_refused(buffer: Path, capsys: Any, tmp_path: Path) -> None:
    message = refusal(buffer)
    assert "ReplayBuffer" in message
    assert "runs code" in message
    assert "--trust-pickle" in message
    commands = [
        ["datasets", "show", str(buffer), "--env", PENDULUM],
        ["run", "--datasets", str(buffer), "--env", PENDULUM, "--algorithms", "bc", "--out", str(tmp_path)],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            cli.main(command)
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert "--trust-pickle" in err
        assert err.count("\n") == 1


def test_a_trusted_replay_buffer_is_shown(buffer: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["datasets", "show", str(buffer), "--env", PENDULUM, "--trust-pickle"])
    assert caught.value.code == 0
    assert "6" in capsys.readouterr().out


SHORT_RUN = Protocol(start=2)


def test_a_study_can_use_a_trusted_replay_buffer(buffer: Path, tmp_path: Path) -> None:
    trusting = Study(
        (str(buffer),),
        ("bc:batch_size=2",),
        seeds=(0,),
        protocol=SHORT_RUN,
        evaluation=Evaluation(points=1, episodes=1),
        env=PENDULUM,
        trust_pickle=True,
    )
    rows = seqeval.run(trusting, tmp_path, Execution(jobs=1))
    assert rows["samples"].max() == 6


def test_trust_pickle_is_not_part_of_the_study_definition(tmp_path: Path) -> None:
    path = pickled(tmp_path, [steps(30)])
    described = []
    for trust in (False, True):
        one = Study((str(path),), ("bc",), protocol=SHORT_RUN, env=PENDULUM, trust_pickle=trust)
        described.append(jobs.resolve(one).describe())
        del described[-1]["invocations"]
    assert described[0] == described[1]


def test_every_source_accepts_trust_pickle(tmp_path: Path) -> None:
    for name, env_id in (
        ("pendulum-replay", None),
        ("none", PENDULUM),
        (npz(tmp_path, **steps(3)), PENDULUM),
    ):
        datasets.load(str(name), env_id, trust_pickle=True)


def test_a_replay_buffer_of_another_environment_is_refused(buffer: Path) -> None:
    for env_id in ("MountainCarContinuous-v0", "CartPole-v1", "Hopper-v4"):
        assert f"not those of {env_id}" in refusal(buffer, env_id, trust_pickle=True)


def test_a_trusted_pickle_without_data_is_refused(tmp_path: Path) -> None:
    empty = pickled(tmp_path, ReplayBuffer(10, *spaces(PENDULUM)))
    assert "empty" in refusal(empty, trust_pickle=True)
    assert "--env" in refusal(empty, None, trust_pickle=True)
    assert "not Evil" in refusal(pickled(tmp_path, Call(Evil, (tmp_path,))), trust_pickle=True)


def test_a_trusted_pickle_whose_code_fails_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.pkl"
    path.write_bytes(
        b"\x80\x04" + pickle.dumps("gym_of_old", 0)[:-1] + pickle.dumps("Box", 0)[:-1] + b"\x93."
    )
    message = refusal(path, trust_pickle=True)
    assert "ModuleNotFoundError" in message
    assert "gym_of_old" in message
    assert "gym_of_old" not in sys.modules


# --- files that claim, share or nest more than they hold ---


def archive_of(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(values: Any, **changes: Any) -> bytes:
    """An array as NumPy stores it, or with another header."""
    content = io.BytesIO()
    values = np.asarray(values)
    header = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape} | changes
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue() + values.tobytes()


def members_of(**instead: bytes) -> dict[str, bytes]:
    return {f"{key}.npy": npy(values) for key, values in steps(3).items()} | instead


def test_an_array_in_an_npz_file_without_its_ending_counts_as_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name.removesuffix(".npy"): content for name, content in members_of().items()}
    path = archive_of(tmp_path / "mine.npz", members)
    assert len(datasets.load(str(path), PENDULUM)) == 3
    monkeypatch.setattr(_memory, "free_memory", lambda: 0)
    assert "of memory" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.zeros(3), shape=(10**10,)),
        npy(np.zeros(3), shape=(2,)),
        npy(np.zeros(3), shape=(-1,)),
        npy(np.zeros(0), shape=(10**12, 0)),
        b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
        b"\x93NUMPY\x01\x00\x10\x27" + b"-" * 10_000,
        b"\x93NUMPY\x09\x00\x10\x27",
        b"",
    ],
    ids=lambda content: str(len(content)),
)
def test_a_header_that_does_not_fit_its_array_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(archive_of(tmp_path / "mine.npz", members_of(**{"rewards.npy": content})))


def test_a_huge_string_in_an_npz_file_is_refused(tmp_path: Path) -> None:
    members = members_of(**{"behaviour.npy": npy(np.array("x" * 10**6))})
    path = archive_of(tmp_path / "mine.npz", members)
    assert path.stat().st_size < 10_000
    assert "'behaviour.npy' is larger than 1 MiB" in refusal(path)


def test_compression_that_python_undoes_in_one_piece_is_refused(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "mine.npz", members_of(), zipfile.ZIP_LZMA)
    assert "compressed in another way" in refusal(path)


def test_trajectories_that_share_arrays_count_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pickled(tmp_path, [steps(100)] * 50)
    assert path.stat().st_size < 10_000
    assert len(datasets.load(str(path), PENDULUM)) == 5000
    monkeypatch.setattr(_memory, "free_memory", lambda: 100_000)
    assert "of memory, " in refusal(path)


def test_arrays_without_content_are_refused(tmp_path: Path) -> None:
    empty = np.zeros((10**12, 0), np.float32)
    path = pickled(tmp_path, [dict.fromkeys(steps(3), empty)])
    assert "must be a NumPy array with one row per step" in refusal(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["key", "set", "dtype", "value"])
def test_a_tuple_doubled_many_times_takes_no_time(tmp_path: Path, protocol: int, place: str) -> None:
    """Each level holds the one below it twice, so that hashing or printing it takes 2 ** 60 steps."""
    doubled = b"(" + b"I1\nI2\n" + b"t" + b"".join(b"p%d\n(g%d\ng%d\nt" % (i, i, i) for i in range(60))
    content = {
        "key": b"(" + doubled + b"I1\nd",
        "set": b"\x8f(" + doubled + b"\x90",
        "dtype": b"cnumpy\ndtype\n(" + doubled + b"tR",
        "value": b"(lp99\n" + b"(dS'observations'\n" + doubled + b"sa",
    }[place]
    path = tmp_path / "mine.pkl"
    path.write_bytes((b"\x80%c" % protocol if protocol else b"") + content + b".")
    refusal(path)


def test_keys_that_are_tuples_of_numbers_are_read(tmp_path: Path) -> None:
    trajectory = steps(3) | {"infos": {(1, "a"): {1, 2}, "b": frozenset({("c", 1)})}}
    assert len(datasets.load(str(pickled(tmp_path, [trajectory])), PENDULUM)) == 3
