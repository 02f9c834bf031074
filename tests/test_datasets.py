"""The data rules on small files with known results, error messages, and embedded and real datasets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import xxhash
from conftest import PER_TRANSITION
from hypothesis import given, settings
from hypothesis import strategies as st

from seqeval import cli, datasets, environments
from seqeval.datasets import _rules, embedded
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

EMBEDDED = embedded.names()
CARD = {
    "name",
    "env_id",
    "behaviour",
    "transitions",
    "episodes",
    "reference_min",
    "reference_max",
    "reference_source",
    "versions",
    "licence",
    "made_by",
    "sha256",
}


def fields_of(
    size: int, ends: dict[int, str] | None = None, following: bool = False
) -> dict[str, np.ndarray]:
    """D4RL's fields for Pendulum-v1. Row i observes (i, 0, 0) and is rewarded with 2**i; with `following` its
    next observation is (i, 1, 0), which no row of `observations` is. `ends` maps a row to the flags set in
    it: "t" terminal, "c" a timeout, "tc" both."""
    ends = ends or {}
    rows = np.arange(size)
    fields = {
        "observations": np.stack([rows, 0 * rows, 0 * rows], 1).astype(np.float32),
        "actions": np.linspace(-1, 1, size, dtype=np.float32)[:, None],
        "rewards": np.ldexp(np.float32(1), rows % 20).astype(np.float32),
        "terminals": np.array(["t" in ends.get(row, "") for row in rows]),
        "timeouts": np.array(["c" in ends.get(row, "") for row in rows]),
    }
    if following:
        fields["next_observations"] = np.stack([rows, 0 * rows + 1, 0 * rows], 1).astype(np.float32)
    return fields


def write(path: Path, fields: dict[str, Any], **attributes: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file[name] = values
        for name, value in ({"env_id": "Pendulum-v1"} | attributes).items():
            if value is not None:
                file.attrs[name] = value
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made-up.hdf5"


def rows_of(dataset: Dataset) -> list[int]:
    """The rows of the file that are in the dataset."""
    return dataset.observations[:, 0].astype(int).tolist()


def following_rows(dataset: Dataset) -> list[int]:
    """The rows of the file that the next observations come from."""
    return dataset.next_observations[:, 0].astype(int).tolist()


def refusal(name: str | Path, env_id: str | None = None) -> str:
    """The message with which a dataset is refused; always a single line."""
    with pytest.raises(UserError) as caught:
        datasets.load(str(name), env_id)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the data rules ---


def test_without_next_observations_a_truncated_transition_is_dropped(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(7, {2: "c", 6: "t"})))
    assert rows_of(dataset) == [0, 1, 3, 4, 5, 6]
    assert not dataset.truncated.any()
    assert dataset.episode.tolist() == [0, 0, 1, 1, 1, 1]
    assert any("dropped 1 truncated" in note for note in dataset.notes)


def test_without_next_observations_a_terminal_transition_gets_its_own_observation(file: Path) -> None:
    """Never the first observation of the next episode, which is in the following row."""
    dataset = datasets.load(write(file, fields_of(6, {2: "t", 5: "t"})))
    assert rows_of(dataset) == [0, 1, 2, 3, 4, 5]
    assert following_rows(dataset) == [1, 2, 2, 4, 5, 5]
    assert dataset.terminated.tolist() == [False, False, True, False, False, True]


def test_without_next_observations_the_last_transition_of_the_log_is_dropped_unless_terminal(
    file: Path,
) -> None:
    assert rows_of(datasets.load(write(file, fields_of(4)))) == [0, 1, 2]
    assert rows_of(datasets.load(write(file, fields_of(4, {3: "c"})))) == [0, 1, 2]
    assert rows_of(datasets.load(write(file, fields_of(4, {3: "t"})))) == [0, 1, 2, 3]


def test_with_next_observations_every_transition_is_kept(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(7, {1: "t", 4: "c"}, following=True)))
    assert rows_of(dataset) == following_rows(dataset) == [0, 1, 2, 3, 4, 5, 6]
    assert (dataset.next_observations[:, 1] == 1).all()
    assert dataset.terminated.tolist() == [row == 1 for row in range(7)]
    assert dataset.truncated.tolist() == [row in (4, 6) for row in range(7)]  # 6: the log ends
    assert dataset.episode.tolist() == [0, 0, 1, 1, 1, 2, 2]
    # The next observations of the file differ from its rows: 0, 2, 3 and 5 are inside episodes.
    (note,) = dataset.notes
    assert note.startswith("4 next observations inside episodes")


def test_an_episode_longer_than_the_time_limit_is_noted(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(402, {200: "c"})))
    assert "an episode has 201 steps, but Pendulum-v1 truncates at 200" in dataset.notes[0]


@pytest.mark.parametrize("following", [False, True])
def test_a_step_that_is_terminal_and_timeout_is_terminal_with_a_note(file: Path, following: bool) -> None:
    dataset = datasets.load(write(file, fields_of(6, {2: "tc", 5: "t"}, following)))
    assert rows_of(dataset) == [0, 1, 2, 3, 4, 5]
    assert dataset.terminated.tolist() == [False, False, True, False, False, True]
    assert not dataset.truncated.any()
    assert any("1 steps are both terminal and timeout" in note for note in dataset.notes)


def test_without_timeouts_an_episode_is_truncated_at_the_time_limit(file: Path) -> None:
    fields = fields_of(450)
    del fields["timeouts"]
    dataset = datasets.load(write(file, fields))
    assert sorted(set(range(450)) - set(rows_of(dataset))) == [199, 399, 449]
    assert np.bincount(dataset.episode).tolist() == [199, 199, 49]
    assert dataset.episode_complete.tolist() == [True, True, False]
    assert any("no timeouts" in note and "200 steps" in note for note in dataset.notes)


def test_without_timeouts_the_time_limit_counts_from_each_terminal(file: Path) -> None:
    fields = fields_of(700, {49: "t", 299: "t"}, following=True)
    del fields["timeouts"]
    dataset = datasets.load(write(file, fields))
    assert np.flatnonzero(dataset.terminated).tolist() == [49, 299]
    assert np.flatnonzero(dataset.truncated).tolist() == [249, 499, 699]
    assert np.bincount(dataset.episode).tolist() == [50, 200, 50, 200, 200]
    assert dataset.episode_complete.all()


def test_without_timeouts_a_terminal_at_the_time_limit_stays_a_terminal(file: Path) -> None:
    fields = fields_of(400, {199: "t"}, following=True)
    del fields["timeouts"]
    dataset = datasets.load(write(file, fields))
    assert np.flatnonzero(dataset.terminated).tolist() == [199]
    assert np.flatnonzero(dataset.truncated).tolist() == [399]
    assert len(dataset.episode_returns) == 2


def test_without_timeouts_and_time_limit_no_episode_is_truncated(file: Path) -> None:
    fields = fields_of(6, {2: "t"}, following=True)
    del fields["timeouts"]
    for name in ("observations", "next_observations"):
        fields[name] = fields[name][:, :2]
    dataset = datasets.load(write(file, fields, env_id="Countdown-v0"))
    assert np.flatnonzero(dataset.truncated).tolist() == [5]
    assert not any("None" in note for note in dataset.notes)


def test_episode_returns_include_dropped_steps(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(6, {1: "t", 3: "c"})))
    assert rows_of(dataset) == [0, 1, 2, 4]
    assert dataset.episode_returns.tolist() == [1 + 2, 4 + 8, 16 + 32]


def test_the_last_unfinished_episode_is_not_complete(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(6, {1: "t", 3: "c"})))
    assert dataset.episode_complete.tolist() == [True, True, False]
    finished = datasets.load(write(file, fields_of(6, {1: "t", 5: "c"})))
    assert finished.episode_complete.tolist() == [True, True]


def test_the_behaviour_return_is_the_mean_of_complete_episodes_or_of_all_if_none_is(
    file: Path,
) -> None:
    some = datasets.load(write(file, fields_of(6, {1: "t", 3: "c"})))
    assert some.behaviour_return == (3 + 12) / 2
    none = datasets.load(write(file, fields_of(3)))
    assert none.behaviour_return == 1 + 2 + 4


def test_an_episode_whose_steps_are_all_dropped_keeps_its_index(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(5, {1: "c", 2: "c", 4: "t"})))
    assert rows_of(dataset) == [0, 3, 4]
    assert dataset.episode.tolist() == [0, 2, 2]
    assert dataset.episode_returns.tolist() == [3, 4, 24]


def test_actions_outside_the_bounds_are_noted_except_for_rounding(file: Path) -> None:
    fields = fields_of(4, {3: "t"})
    fields["actions"][1] = -2.5
    assert any("clipped" in note and "0.5" in note for note in datasets.load(write(file, fields)).notes)
    fields["actions"][1] = -2.0001
    assert datasets.load(write(file, fields)).notes == ()


# --- arrays, names and digests ---


@pytest.mark.parametrize("following", [False, True])
def test_arrays_have_the_documented_types_and_shapes(file: Path, following: bool) -> None:
    fields = fields_of(8, {2: "c", 5: "t"}, following)
    integers = {name: values.astype(np.int64) for name, values in fields.items() if name != "actions"}
    dataset = datasets.load(write(file, fields | integers))
    size = len(dataset)
    expected = {
        "observations": (np.float32, (size, 3)),
        "actions": (np.float32, (size, 1)),
        "rewards": (np.float32, (size,)),
        "next_observations": (np.float32, (size, 3)),
        "terminated": (np.bool_, (size,)),
        "truncated": (np.bool_, (size,)),
        "episode": (np.int32, (size,)),
        "episode_returns": (np.float64, (3,)),
        "episode_complete": (np.bool_, (3,)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(dataset, name)
        assert (array.dtype, array.shape) == (dtype, shape), name
    assert sum(dataset.segments) == size == (8 if following else 6)
    assert (dataset.observation_size, dataset.actions.shape) == (3, (len(dataset), 1))


@pytest.mark.parametrize("following", [False, True])
def test_the_arrays_of_transitions_are_read_only(file: Path, following: bool) -> None:
    dataset = datasets.load(write(file, fields_of(8, {2: "c", 5: "t"}, following)))
    per_transition = [value for value in vars(dataset).values() if np.shape(value)[:1] == (len(dataset),)]
    assert len(per_transition) == 7
    for array in per_transition:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_the_arrays_of_episodes_are_read_only(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(8, {2: "c", 5: "t"})))
    assert not dataset.episode_returns.flags.writeable
    assert not dataset.episode_complete.flags.writeable


def test_a_dataset_is_named_after_its_file_and_keeps_its_attributes(tmp_path: Path) -> None:
    path = write(tmp_path / "my.data-v2.HDF5", fields_of(4, {3: "t"}), behaviour="dice", version=3)
    dataset = datasets.load(path)
    assert (dataset.name, dataset.env_id) == ("my.data-v2", "Pendulum-v1")
    assert (dataset.card["behaviour"], dataset.card["version"]) == ("dice", 3)
    assert dataset.reference is None  # there are no published returns for Pendulum


def test_an_attribute_may_be_a_list(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(4, {3: "t"}), hidden=[256, 256]))
    assert list(dataset.card["hidden"]) == [256, 256]


def test_the_environment_may_be_named_in_bytes(file: Path) -> None:
    """As MATLAB, older h5py and `np.bytes_` write strings."""
    assert (
        datasets.load(write(file, fields_of(4, {3: "t"}), env_id=np.bytes_("Pendulum-v1"))).env_id
        == "Pendulum-v1"
    )


def test_the_environment_can_be_given_if_the_file_names_none(file: Path) -> None:
    path = write(file, fields_of(4, {3: "t"}), env_id=None)
    assert datasets.load(path, "Pendulum-v1").env_id == "Pendulum-v1"


def test_the_digest_depends_on_the_data_and_not_on_the_name(tmp_path: Path) -> None:
    fields = fields_of(6, {2: "c", 5: "t"})
    one = write(tmp_path / "one.hdf5", fields)
    shutil.copy(one, tmp_path / "two.hdf5")
    digest = datasets.load(one).digest
    assert datasets.load(str(tmp_path / "two.hdf5")).digest == digest
    for name in ("observations", "actions", "rewards"):
        changed = {key: values.copy() for key, values in fields.items()}
        changed[name][1] += 0.25
        assert datasets.load(write(tmp_path / "other.hdf5", changed)).digest != digest, name
    assert datasets.load(write(tmp_path / "other.hdf5", fields_of(6, {2: "t", 5: "t"}))).digest != digest


def test_the_digest_depends_on_episode_returns(tmp_path: Path) -> None:
    """The arrival order `return` and the data's mean depend on the reward of a step that is dropped."""
    fields = fields_of(6, {2: "c", 5: "t"})
    one = datasets.load(write(tmp_path / "one.hdf5", fields))
    fields["rewards"][2] = 100.0
    two = datasets.load(write(tmp_path / "two.hdf5", fields))
    assert one.behaviour_return != two.behaviour_return
    assert one.digest != two.digest


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Dial-v0"])
@pytest.mark.parametrize("rules", ["strict", "qlearning"])
@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ends", [{9: "c", 20: "t"}, {39: "t"}])  # nothing is dropped from the latter
def test_the_digest_is_that_of_the_final_arrays(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    env_id: str,
    rules: DataRules,
    following: bool,
    dtype: type[np.floating],
    ends: dict[int, str],
) -> None:
    """Study directories identify data by it."""
    monkeypatch.setattr(_rules, "CHUNK", 3)  # rows are moved in several steps
    fields = fields_of(40, ends, following)
    if env_id == "Dial-v0":
        fields["actions"] = np.full(40, 6.0)
    for field in ("observations", "rewards", "actions"):
        fields[field] = fields[field].astype(dtype)
    dataset = datasets.load(write(file, fields, env_id=env_id), rules=rules)
    each = [
        getattr(dataset, name) for name in sorted((*PER_TRANSITION, "episode_returns", "episode_complete"))
    ]
    parts = [env_id.encode(), *(xxhash.xxh3_128_digest(values.tobytes()) for values in each)]
    assert dataset.digest == xxhash.xxh3_128_hexdigest(b"".join(parts))


def test_episode_returns_are_sums_in_float64(file: Path) -> None:
    """To the last bit, for numbers of very different sizes and episodes of very different lengths."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=9000) * 10 ** rng.uniform(-20, 20, 9000)).astype(np.float32)
    for first in ([0], [0, 8999], [0, 1, 2, 30, 31, 4000, 8000], np.arange(9000), np.arange(0, 9000, 7)):
        ends = dict.fromkeys((np.asarray(first)[1:] - 1).tolist(), "c")
        fields = fields_of(9000, ends, following=True) | {"rewards": values}
        returns = datasets.load(write(file, fields)).episode_returns
        assert returns.dtype == np.float64
        np.testing.assert_array_equal(returns, np.add.reduceat(values.astype(np.float64), first))


def test_inconsistent_next_observations_inside_episodes_are_counted(file: Path) -> None:
    rng = np.random.default_rng(0)
    size = 20_000
    fields = fields_of(size, dict.fromkeys(range(99, size, 100), "c"))
    fields["next_observations"] = np.r_[fields["observations"][1:], fields["observations"][-1:]]
    changed = np.flatnonzero(
        (rng.random(size) < 0.01) | np.isin(np.arange(size), [8190, 8191, 8192, size - 1])
    )
    for row in changed:
        fields["next_observations"][row, rng.integers(3, size=2)] = -1
    fields["next_observations"][5] *= [1, -1, -1]  # -0 is 0
    inside = (changed % 100 != 99).sum()
    assert 0 < inside < len(changed)
    expected = f"{inside} next observations inside episodes are not the observation of the next row"
    assert expected in datasets.load(write(file, fields)).notes


# --- refused files ---


@pytest.mark.parametrize("row", [0, 11, 39])
@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "next_observations"])
def test_the_first_row_with_a_nan_is_found_anywhere(file: Path, field: str, row: int) -> None:
    fields = fields_of(40, following=True)
    fields[field][row:] = np.nan
    assert f"field {field!r} is not finite in row {row}: " in refusal(write(file, fields))


def test_the_largest_float32_numbers_are_accepted(file: Path) -> None:
    """All of them are float32's largest, of either sign; one more infinity of either sign is refused."""
    fields = fields_of(40, following=True)
    largest = np.finfo(np.float32).max
    fields["observations"][:] = np.where(np.arange(40) % 3, largest, -largest)[:, None]
    assert (abs(datasets.load(write(file, fields)).observations) == largest).all()
    for bad in (np.inf, -np.inf):
        fields["observations"][17, 2] = bad
        assert "field 'observations' is not finite in row 17: [" in refusal(write(file, fields))


@pytest.mark.parametrize("first", ["observations", "next_observations"])
def test_the_order_of_the_fields_does_not_matter(first: str) -> None:
    fields = fields_of(40, {9: "c", 20: "t"}, following=True)
    raw = {first: fields[first]} | fields
    dataset = _rules.assemble("memory", "memory", raw, "Pendulum-v1", None, {}, "strict")
    assert "37 next observations inside episodes are not the observation of the next row" in dataset.notes


def test_a_field_that_cannot_be_read_completely_is_named(file: Path) -> None:
    rewards = np.random.default_rng(0).random(4000, np.float32)
    write(file, fields_of(4000) | {"rewards": rewards})
    with h5py.File(file, "a") as opened:
        del opened["rewards"]
        stored = opened.create_dataset("rewards", data=rewards, chunks=(1000,), compression="gzip")
        at, size = stored.id.get_chunk_info(2).byte_offset, stored.id.get_chunk_info(2).size
    content = bytearray(file.read_bytes())
    content[at : at + size] = bytes(size)
    file.write_bytes(content)
    message = refusal(file)
    assert message.startswith(f"{file}: field 'rewards' cannot be read completely (")


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_field_is_named_with_the_existing_fields(file: Path, field: str) -> None:
    fields = fields_of(4)
    del fields[field]
    message = refusal(write(file, fields))
    assert all(part in message for part in (str(file), repr(field), "missing", *fields))


def test_a_group_instead_of_a_field_is_a_missing_field(file: Path) -> None:
    fields = fields_of(4)
    del fields["rewards"]
    path = write(file, fields)
    with h5py.File(path, "a") as opened:
        opened.create_group("rewards")
    assert "'rewards' is missing" in refusal(path)


def test_a_field_without_a_shape_is_refused(file: Path) -> None:
    message = refusal(write(file, fields_of(4) | {"rewards": h5py.Empty("f4")}))
    assert str(file) in message
    assert "'rewards'" in message


@pytest.mark.parametrize("field", ["actions", "rewards", "terminals", "timeouts", "next_observations"])
def test_fields_of_unequal_lengths_are_refused(file: Path, field: str) -> None:
    fields = fields_of(6, following=True)
    fields[field] = fields[field][:-1]
    message = refusal(write(file, fields))
    assert all(part in message for part in (str(file), repr(field), "has shape (5,", "expected (6,"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "next_observations"])
def test_a_number_that_is_not_finite_is_refused_with_its_first_row(
    file: Path, field: str, bad: float
) -> None:
    fields = fields_of(6, following=True)
    fields[field][3:5, ...] = bad
    message = refusal(write(file, fields))
    assert all(part in message for part in (str(file), repr(field), "not finite", "row 3"))


def test_a_number_that_float32_cannot_hold_is_refused(file: Path) -> None:
    rewards = np.array([0, 0, 1e300, 0], np.float64)
    message = refusal(write(file, fields_of(4) | {"rewards": rewards}))
    assert all(part in message for part in (str(file), "'rewards'", "row 2"))


@pytest.mark.parametrize(("field", "size"), [("observations", 4), ("next_observations", 4), ("actions", 2)])
def test_sizes_other_than_the_environments_are_refused(file: Path, field: str, size: int) -> None:
    message = refusal(write(file, fields_of(6) | {field: np.zeros((6, size), np.float32)}))
    assert all(part in message for part in (str(file), repr(field), str(size), "Pendulum-v1"))


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("observations", (6,)),
        ("observations", (6, 3, 1)),
        ("actions", (6,)),
        ("rewards", (6, 1)),
        ("terminals", (6, 1)),
        ("timeouts", (6, 1)),
        ("rewards", ()),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(file: Path, field: str, shape: tuple[int, ...]) -> None:
    message = refusal(write(file, fields_of(6) | {field: np.zeros(shape, np.float32)}))
    assert all(part in message for part in (str(file), repr(field), str(shape)))


@pytest.mark.parametrize("bad", [2, -1, 0.5, np.nan])
@pytest.mark.parametrize("field", ["terminals", "timeouts"])
def test_a_flag_that_is_neither_0_nor_1_is_refused_with_its_first_row(
    file: Path, field: str, bad: float
) -> None:
    flags = np.zeros(6, np.float32)
    flags[1], flags[4] = 1, bad
    message = refusal(write(file, fields_of(6) | {field: flags}))
    assert all(part in message for part in (str(file), repr(field), "row 4"))


@pytest.mark.parametrize("values", [np.array([b"a"] * 6), np.zeros(6, np.complex64)])
def test_a_field_that_holds_no_numbers_is_refused(file: Path, values: np.ndarray) -> None:
    message = refusal(write(file, fields_of(6) | {"rewards": values}))
    assert all(part in message for part in (str(file), "'rewards'", "not numbers"))


def test_a_file_without_transitions_is_refused(file: Path) -> None:
    message = refusal(write(file, {name: values[:0] for name, values in fields_of(6).items()}))
    assert str(file) in message
    assert "empty" in message


def test_a_file_whose_transitions_are_all_dropped_is_refused(file: Path) -> None:
    message = refusal(write(file, fields_of(3, {0: "c", 1: "c", 2: "c"})))
    assert str(file) in message
    assert "next observation" in message


def test_a_text_file_with_the_ending_of_hdf5_is_refused(file: Path) -> None:
    file.write_text("not what its name says\n")
    message = refusal(file)
    assert str(file) in message
    assert "HDF5" in message


def test_a_shortened_hdf5_file_is_refused(file: Path) -> None:
    write(file, fields_of(500))
    file.write_bytes(file.read_bytes()[:4000])
    message = refusal(file)
    assert str(file) in message
    assert "HDF5" in message


@pytest.mark.parametrize("folder", [False, True])
def test_a_path_without_a_file_is_refused(file: Path, folder: bool) -> None:
    if folder:
        file.mkdir()
    assert f"{file}: no such file" in refusal(file)


def test_an_unknown_name_is_refused_with_similar_names() -> None:
    message = refusal("pendulum-reply")
    assert "'pendulum-reply'" in message
    assert "did you mean 'pendulum-replay'" in message


def test_a_path_without_a_known_ending_is_refused_with_all_endings(file: Path) -> None:
    message = refusal(file.with_suffix(""))
    assert ".hdf5" in message
    assert "did you mean" not in message


def test_an_unknown_environment_is_refused_with_similar_names(file: Path) -> None:
    message = refusal(write(file, fields_of(4), env_id="Pendulm-v1"))
    assert "'Pendulm-v1'" in message
    assert "did you mean 'Pendulum-v1'" in message
    assert "'Pendulum-v7'" in refusal(write(file, fields_of(4)), "Pendulum-v7")


@pytest.mark.parametrize("env_id", ["Hopper-v2", "Hopper-v3"])
def test_environments_removed_from_gymnasium_are_refused(file: Path, env_id: str) -> None:
    """D4RL's own files use these names."""
    assert repr(env_id) in refusal(write(file, fields_of(4)), env_id)


@pytest.mark.parametrize(("env_id", "what"), [("Buttons-v0", "actions"), ("FrozenLake-v1", "observations")])
def test_unsupported_spaces_are_refused(file: Path, env_id: str, what: str) -> None:
    message = refusal(write(file, fields_of(4)), env_id)
    assert repr(env_id) in message
    assert what in message


def test_a_file_without_an_environment_is_refused_with_the_flag_to_use(file: Path) -> None:
    message = refusal(write(file, fields_of(4), env_id=None))
    assert str(file) in message
    assert "env_id" in message
    assert "--env" in message


def test_an_embedded_dataset_is_refused_for_another_environment() -> None:
    message = refusal("pendulum-replay", "Hopper-v4")
    assert all(part in message for part in ("'pendulum-replay'", "Pendulum-v1", "Hopper-v4", "--env"))
    assert len(datasets.load("pendulum-replay", "Pendulum-v1")) == 20_000


# --- the embedded datasets ---


def bytes_of(name: str) -> bytes:
    return (resources("seqeval.datasets.data") / f"{name}.hdf5").read_bytes()


def test_every_file_has_a_card_and_every_card_a_file() -> None:
    entries = [entry.name for entry in resources("seqeval.datasets.data").iterdir()]
    with_file = sorted(name.removesuffix(".hdf5") for name in entries if name.endswith(".hdf5"))
    assert with_file == EMBEDDED
    assert "pendulum-replay" in EMBEDDED


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_file_matches_the_checksum_of_its_card_and_is_small(name: str) -> None:
    content = bytes_of(name)
    assert hashlib.sha256(content).hexdigest() == embedded.card(name)["sha256"]
    assert len(content) <= 6_000_000


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_card_of_an_embedded_dataset_is_complete(name: str) -> None:
    card = embedded.card(name)
    assert card.keys() >= CARD
    assert card["name"] == name
    assert card["reference_min"] < card["reference_max"]
    assert card["versions"].keys() >= {"python", "gymnasium"}
    assert json.loads(json.dumps(card)) == card


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_dataset_matches_its_card(name: str) -> None:
    card, dataset = embedded.card(name), datasets.load(name)
    assert (dataset.name, dataset.env_id) == (name, card["env_id"])
    assert len(dataset) == card["transitions"]  # it has next observations: nothing is dropped
    assert int(dataset.episode_complete.sum()) == card["episodes"]
    assert dataset.reference is not None
    assert dataset.card == card


def test_published_references_take_precedence_over_the_cards() -> None:
    reference = datasets.load("hopper-replay").reference
    assert reference is not None
    assert (round(reference.minimum, 6), reference.maximum) == (-20.272305, 3234.3)
    own = datasets.load("pendulum-replay").reference
    assert own is not None
    assert own.minimum == embedded.card("pendulum-replay")["reference_min"]


def test_the_references_score_0_and_100() -> None:
    reference = datasets.load("pendulum-replay").reference
    assert reference is not None
    assert reference.score(reference.minimum) == 0
    assert reference.score(reference.maximum) == 100
    assert reference.score((reference.minimum + reference.maximum) / 2) == pytest.approx(50)


# --- real data, if available ---

REAL = [  # ../shared/data/README.md: file, environment, episodes, terminals, mean and best score
    ("hopper_random-zoo", "Hopper-v4", 4555, 4554, 1.2, 7.4),
    ("hopper_medium-zoo", "Hopper-v4", 246, 227, 46.4, 112.7),
    ("hopper_expert-zoo", "Hopper-v4", 113, 48, 100.2, 114.7),
    ("hopper_replay-zoo", "Hopper-v4", 897, 874, 10.0, 110.5),
    ("halfcheetah_medium-zoo", "HalfCheetah-v4", 100, 0, 45.5, 49.2),
    ("halfcheetah_replay-zoo", "HalfCheetah-v4", 100, 0, 20.3, 43.2),
]


@pytest.mark.parametrize(("name", "env_id", "episodes", "terminals", "mean", "best"), REAL)
def test_a_real_file_has_the_documented_episodes_and_scores(
    shared: Path, name: str, env_id: str, episodes: int, terminals: int, mean: float, best: float
) -> None:
    dataset = datasets.load(str(shared / "data" / f"{name}.hdf5"))
    assert dataset.env_id == env_id
    assert len(dataset.episode_returns) == episodes
    assert int(dataset.terminated.sum()) == terminals
    assert dataset.reference is not None
    score = dataset.reference.score
    assert round(score(dataset.behaviour_return), 1) == mean
    assert round(score(float(dataset.episode_returns.max())), 1) == best
    dropped = 100_000 - len(dataset)
    assert dropped == ((episodes - terminals) if "replay" in name else 0)


# --- properties ---

LOGS = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        st.lists(st.booleans(), min_size=size, max_size=size),
        st.lists(st.booleans(), min_size=size, max_size=size),
    )
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "log.hdf5"


@settings(deadline=None, max_examples=150)
@given(log=LOGS, following=st.booleans())
def test_no_transition_crosses_an_episode_border(
    scratch: Path, log: tuple[list[bool], list[bool]], following: bool
) -> None:
    """Against the rules, spelt out one step at a time."""
    terminals, timeouts = log
    size = len(terminals)
    fields = fields_of(size, following=following)
    fields |= {"terminals": np.array(terminals), "timeouts": np.array(timeouts)}
    episode, returns, complete, episode_of = 0, [0.0], [False], []
    for row in range(size):
        if row and (terminals[row - 1] or timeouts[row - 1]):
            episode += 1
            returns.append(0.0)
            complete.append(False)
        episode_of.append(episode)
        returns[-1] += float(fields["rewards"][row])
        complete[-1] = terminals[row] or timeouts[row]
    cut = [(timeouts[row] or row == size - 1) and not terminals[row] for row in range(size)]
    kept = [row for row in range(size) if following or not cut[row]]

    path = write(scratch, fields)
    if not kept:
        assert "next observation" in refusal(path)
        return
    dataset = datasets.load(path)
    assert rows_of(dataset) == kept
    assert dataset.episode.tolist() == [episode_of[row] for row in kept]
    assert dataset.terminated.tolist() == [terminals[row] for row in kept]
    assert dataset.truncated.tolist() == [cut[row] for row in kept]
    assert dataset.episode_returns.tolist() == returns
    assert dataset.episode_complete.tolist() == complete
    for row, after in zip(kept, following_rows(dataset), strict=True):
        assert after == (row if following or terminals[row] else row + 1)
        assert episode_of[after] == episode_of[row]


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 900), ends=st.sets(st.integers(0, 899), max_size=6))
def test_without_timeouts_no_episode_is_longer_than_the_time_limit(
    scratch: Path, size: int, ends: set[int]
) -> None:
    fields = fields_of(size, dict.fromkeys(ends, "t"), following=True)
    del fields["timeouts"]
    steps, cut = 0, []
    for row in range(size):
        steps += 1
        if row in ends or steps == 200 or row == size - 1:
            if row not in ends:
                cut.append(row)
            steps = 0
    dataset = datasets.load(write(scratch, fields))
    assert np.flatnonzero(dataset.truncated).tolist() == cut
    assert np.bincount(dataset.episode).max() <= 200


class Buttons(gymnasium.Env):
    """Actions are neither bounded vectors nor discrete."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gymnasium.spaces.MultiBinary(2)


class Dial(Buttons):
    """Three actions, numbered from 5."""

    action_space = gymnasium.spaces.Discrete(3, start=5)


gymnasium.register("Buttons-v0", entry_point=Buttons)
gymnasium.register("Dial-v0", entry_point=Dial)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_discrete_actions_keep_the_environments_numbering(file: Path, dtype, shape) -> None:
    numbers = np.array([5, 7, 6, 5, 5, 7])
    fields = fields_of(6, {5: "t"}) | {"actions": numbers.astype(dtype).reshape(shape)}
    dataset = datasets.load(write(file, fields, env_id="Dial-v0"))
    assert (dataset.actions.dtype, dataset.actions.tolist()) == (np.int64, numbers[: len(dataset)].tolist())


@pytest.mark.parametrize("bad", [4, 8, 5.5, -1])
def test_a_discrete_action_outside_the_action_space_is_refused(file: Path, bad: float) -> None:
    actions = np.array([5, 7, bad, 5, 5, bad])
    message = refusal(write(file, fields_of(6) | {"actions": actions}, env_id="Dial-v0"))
    assert f"'actions' is {bad:g} in row 2" in message
    assert "from 5 to 7" in message


def test_discrete_actions_with_two_columns_are_refused(file: Path) -> None:
    fields = fields_of(6) | {"actions": np.full((6, 2), 5)}
    assert "shape (6, 2)" in refusal(write(file, fields, env_id="Dial-v0"))


def test_an_environment_may_have_options(file: Path) -> None:
    dataset = datasets.load(write(file, fields_of(4)), "Pendulum-v1?g=5.0&max_episode_steps=2")
    env = environments.make(dataset.env_id)
    assert (env.unwrapped.g, env.spec.max_episode_steps) == (5.0, 2)
    assert environments.describe(dataset.env_id).time_limit == 2
    assert environments.describe("Ant-v4?use_contact_forces=True").observation_size == 111
    assert environments.describe("Ant-v4").observation_size == 27


@pytest.mark.parametrize("options", ["g", "g=fast", "gravity=1", "g=1&&", "=3"])
def test_invalid_environment_options_are_refused(file: Path, options: str) -> None:
    assert f"'Pendulum-v1?{options}'" in refusal(write(file, fields_of(4)), f"Pendulum-v1?{options}")


# --- files that lead elsewhere ---


def hdf5_with(path: Path, **instead: Any) -> Path:
    """A log of Pendulum-v1 in which some fields are replaced: by links, or by what a function creates."""
    size = 4
    fields: dict[str, Any] = {
        "observations": np.zeros((size, 3), np.float32),
        "actions": np.zeros((size, 1), np.float32),
        "rewards": np.arange(size, dtype=np.float32),
        "terminals": np.zeros(size, bool),
    }
    with h5py.File(path, "w") as file:
        file.attrs["env_id"] = "Pendulum-v1"
        for name, value in (fields | instead).items():
            if callable(value):
                value(file, name)
            else:
                file[name] = value
    return path


def external_storage(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("pipe.hdf5", "rewards", (4,))
    file.create_virtual_dataset(name, layout)


def through_a_group(file: h5py.File, name: str) -> None:
    file["elsewhere"] = h5py.ExternalLink("pipe.hdf5", "/")
    file[name] = h5py.SoftLink("/elsewhere/rewards")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "instead", [h5py.ExternalLink("pipe.hdf5", "/rewards"), external_storage, virtual, through_a_group]
)
def test_a_file_that_reads_others_is_refused_without_opening_them(tmp_path: Path, instead: Any) -> None:
    os.mkfifo(tmp_path / "pipe.hdf5")  # opening it waits for ever
    path = hdf5_with(tmp_path / "mine.hdf5", rewards=instead)
    with pytest.raises(UserError, match=r"'rewards' is (a link to another|stored in other) file"):
        datasets.load(str(path))


def test_links_within_a_file_are_followed_unless_they_lead_back(tmp_path: Path) -> None:
    def linked(file: h5py.File, name: str) -> None:
        file["group/numbers"] = np.arange(4, dtype=np.float32)
        file["group/second"] = h5py.SoftLink("./numbers")
        file[name] = h5py.SoftLink("/group/second")

    def loop(file: h5py.File, name: str) -> None:
        file["other"] = h5py.SoftLink(f"/{name}")
        file[name] = h5py.SoftLink("/other")

    loaded = datasets.load(str(hdf5_with(tmp_path / "linked.hdf5", rewards=linked)))
    assert loaded.rewards.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"loop\.hdf5: 'rewards' is a link that leads back to itself"):
        datasets.load(str(hdf5_with(tmp_path / "loop.hdf5", rewards=loop)))


def test_a_large_attribute_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["behaviour"] = np.zeros(200_000)
    with pytest.raises(UserError, match=r"mine\.hdf5: attribute 'behaviour' is larger than 1 MiB"):
        datasets.load(str(path))


@pytest.mark.parametrize("ending", ["hdf5", "npz"])
def test_an_environment_that_a_file_names_imports_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    (tmp_path / f"evil_{ending}.py").write_text("import os\nos.mkdir('made')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = hdf5_with(tmp_path / "mine.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["env_id"] = f"evil_{ending}:Evil-v0"
        fields = {name: values[...] for name, values in file.items()}
    if ending == "npz":
        path = tmp_path / "mine.npz"
        np.savez(path, **fields, env_id=f"evil_{ending}:Evil-v0")
    with pytest.raises(UserError, match=r"if you trust that module, add --env evil_(hdf5|npz):Evil-v0$"):
        datasets.load(str(path))
    assert not (tmp_path / "made").exists()
    with pytest.raises(UserError, match="cannot be made"):  # the user may import it
        datasets.load(str(path), f"evil_{ending}:Evil-v0")
    assert (tmp_path / "made").exists()


def test_packages_that_the_suite_knows_may_be_named() -> None:
    environments.refuse_import("mine", "gymnasium_robotics:AdroitHandPen-v1")
    environments.refuse_import("mine", "Ant-v4?contact_force_range=(0,0)&x='a:b'")


@pytest.mark.parametrize("kind", ["good", "unknown", "missing"])
def test_text_from_files_reaches_the_terminal_as_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A name and attributes that would clear the screen, forge lines, or fill it."""
    path = hdf5_with(tmp_path / "\x1b[2Jx\nseqeval: done\u202e.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["behaviour"] = "\x1b]0;title\x07\rfine\nnot" + "y" * 10_000
        if kind == "unknown":
            file.attrs["env_id"] = "\x1b[31m" + "z" * 20_000
        if kind == "missing":
            del file.attrs["env_id"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["datasets", "show", str(path)])
    out, err = capsys.readouterr()
    assert caught.value.code == (0 if kind == "good" else 2)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(out + err)
    assert "\nseqeval: done" not in out + err
    shown = {
        "good": "\\x07\\rfine\\nnot",
        "unknown": "'\\x1b[31m",
        "missing": "[2Jx\\nseqeval: done\\u202e.hdf5: no ",
    }
    assert shown[kind] in out + err
    assert all(len(line) < 2100 for line in (out + err).splitlines())
