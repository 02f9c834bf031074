"""Malformed HDF5 files: each is refused in one line or loads as a dataset that passes `check`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqeval import datasets, environments
from seqeval.errors import UserError
from seqeval.types import DataRules, Dataset

EXAMPLES = 500
WIDTHS = {"Pendulum-v1": 3, "CartPole-v1": 4}
FIELDS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
NUMBERS = [np.nan, np.inf, -np.inf, 1e300, -3.5e38, 3.4e38, 1e-320, -0.0, 2.0, 0.5, 1.0, -1.0, 2.0**53]

# Possible corruptions of a field: kind and argument.
CORRUPTIONS = st.one_of(
    st.tuples(st.just("missing"), st.none()),
    st.tuples(
        st.just("dtype"),
        st.sampled_from(
            [
                "f2",
                "f4",
                "f8",
                "g",
                ">f2",
                ">f4",
                ">f8",
                "i1",
                "u1",
                "i4",
                "i8",
                ">i8",
                "u8",
                "?",
                "c8",
                "c16",
                "S3",
                "i4,f4",
            ]
        ),
    ),
    st.tuples(
        st.just("instead"),
        st.sampled_from(
            [
                "group",
                "empty",
                "strings",
                "bytes",
                "ragged",
                "references",
                "enum",
                "type",
                "soft-link",
                "external-link",
                "opaque",
                "vast",
            ]
        ),
    ),
    st.tuples(
        st.just("shape"),
        st.sampled_from(["flat", "column", "row", "deep", "scalar", "none", "wide", "narrow", "turned"]),
    ),
    st.tuples(st.just("length"), st.sampled_from([-1, 1])),
    st.tuples(st.just("number"), st.tuples(st.sampled_from(NUMBERS), st.integers(0, 1000))),
    st.tuples(st.just("all"), st.sampled_from(NUMBERS)),
    st.tuples(
        st.just("stored"), st.sampled_from(["gzip", "lzf", "chunked", "shuffled", "unwritten", "growing"])
    ),
)
ENV_IDS = st.sampled_from(
    [
        *(
            "Pendulum-v1",
            "CartPole-v1",
            "Pendulum-v0",
            "Pendulum",
            "pendulum-v1",
            "",
            "\n",
            "a\nb",
            "a\u2028b",
        ),
        *(
            "no_module:A-v0",
            "Pendulum-v1?g",
            "Pendulum-v1?g=5.0",
            "Blackjack-v1",
            np.array(b"P\xff", h5py.string_dtype("utf-8", 2)),
            b"\xff",
            "/",
            ":",
        ),
        *(b"Pendulum-v1", b"Pendulum-v1\xff", 3, 2.5, np.nan, True, ["Pendulum-v1"], h5py.Empty("f4")),
        *(h5py.Empty("S1"), np.void(b"\x00\xff"), np.array([b"a", b"\xff"]), np.zeros((2, 2)), 1j, None),
    ]
)
REFERENCES = st.dictionaries(
    st.sampled_from(["reference_min", "reference_max", "reference_source", "behaviour", b"\xff"]),
    st.sampled_from([0.0, 1, -5, np.inf, np.nan, True, "a\nb", b"\xff", h5py.Empty("f4"), [1.0, 2.0]]),
    max_size=3,
)


@dataclass(frozen=True)
class Log:
    """A sound log and its corruptions."""

    env_id: str
    ends: tuple[str, ...]  # of each row: "" or of "t" terminal, "c" timeout
    optional: tuple[str, ...]  # optional fields in the file
    corruptions: tuple[tuple[str, tuple[str, Any]], ...]  # field, corruption
    attributes: dict[str, Any]
    kept: float  # share of the file's bytes that is kept
    rules: DataRules
    seed: int


LOGS = st.builds(
    Log,
    env_id=st.sampled_from(sorted(WIDTHS)),
    ends=st.lists(st.sampled_from(["", "", "", "t", "c", "tc"]), max_size=9).map(tuple),
    optional=st.sampled_from([(), ("timeouts",), ("next_observations",), ("timeouts", "next_observations")]),
    corruptions=st.lists(st.tuples(st.sampled_from(FIELDS), CORRUPTIONS), max_size=3).map(tuple),
    attributes=st.one_of(
        st.just({}), REFERENCES, ENV_IDS.map(lambda env_id: {"env_id": env_id} if env_id is not None else {})
    ),
    kept=st.sampled_from([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.99, 0.9, 0.5, 0.1, 0.0]),
    rules=st.sampled_from(["strict", "strict", "qlearning"]),
    seed=st.integers(0, 3),
)


def sound(log: Log) -> dict[str, np.ndarray]:
    rng, size, width = np.random.default_rng(log.seed), len(log.ends), WIDTHS[log.env_id]
    observations = rng.standard_normal((size + 1, width)).astype(np.float32)
    discrete = log.env_id == "CartPole-v1"
    fields = {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": rng.integers(0, 2, size) if discrete else rng.uniform(-2, 2, (size, 1)).astype(np.float32),
        "rewards": rng.standard_normal(size).astype(np.float32),
        "terminals": np.array(["t" in end for end in log.ends], bool),
        "timeouts": np.array(["c" in end for end in log.ends], bool),
    }
    absent = {"timeouts", "next_observations"} - set(log.optional)
    return {name: values for name, values in fields.items() if name not in absent}


@np.errstate(all="ignore")
def corrupted(values: np.ndarray, corruption: str, argument: Any) -> np.ndarray:
    """A field after a corruption that leaves it an array."""
    if corruption in ("dtype", "number", "all") and values.dtype.kind not in "fiub":
        return values  # corrupted otherwise already
    if corruption in ("shape", "length") and not values.ndim:
        return values
    if corruption == "dtype":
        if argument == "S3":
            return np.full(values.shape, b"1.5")
        if argument == "i4,f4":
            return np.zeros(values.shape, argument)
        real = np.nan_to_num(values) if np.dtype(argument).kind in "iub" else values
        return real.astype(argument)
    if corruption == "shape":
        shapes = {
            "flat": values.reshape(-1),
            "column": values[:, None] if values.ndim == 1 else values,
            "row": values[None],
            "deep": values[..., None, None],
            "scalar": values.ravel()[0] if values.size else np.float32(0),
            "none": values[:0],
            "wide": np.concatenate([values, values], -1),
            "narrow": values[..., :0],
            "turned": values.T,
        }
        return np.asarray(shapes[argument])
    if corruption == "length":
        return values[:-1] if argument < 0 else np.concatenate([values, values[-1:]])
    changed = values.astype(np.float64)
    if corruption == "all":
        changed[...] = argument
    elif changed.size:
        changed.flat[argument[1] % changed.size] = argument[0]
    return changed


def put(file: h5py.File, name: str, values: np.ndarray, corruption: str, argument: Any) -> None:
    """Write a field or its replacement."""
    length = len(values) if values.ndim else 1
    if corruption == "instead":
        match argument:
            case "group":
                file.create_group(name)["values"] = values
            case "empty":
                file[name] = h5py.Empty("f4")
            case "strings":
                file.create_dataset(name, data=["1.0"] * length, dtype=h5py.string_dtype())
            case "bytes":
                file.create_dataset(name, data=[b"\xff\x00"] * length, dtype=h5py.string_dtype("ascii", 4))
            case "ragged":
                file.create_dataset(name, (length,), dtype=h5py.vlen_dtype(np.float32))
            case "references":
                file.create_dataset(name, (length,), dtype=h5py.ref_dtype)
            case "enum":
                file.create_dataset(name, values.shape, dtype=h5py.enum_dtype({"NO": 0, "YES": 1}, "i1"))
            case "type":
                file[name] = np.dtype("f4")
            case "soft-link":
                file[name] = h5py.SoftLink("/nowhere")
            case "external-link":
                file[name] = h5py.ExternalLink("nowhere.hdf5", "/observations")
            case "opaque":
                file.create_dataset(name, values.shape, dtype="V8")
            case "vast":
                file.create_dataset(name, (10**12, *values.shape[1:]), "f4", chunks=(8, *values.shape[1:]))
    elif corruption == "stored" and values.size and values.ndim:
        options: dict[str, Any] = {
            "gzip": {"data": values, "compression": "gzip"},
            "lzf": {"data": values, "compression": "lzf"},
            "chunked": {"data": values, "chunks": (1,) * values.ndim},
            "shuffled": {"data": values, "shuffle": True, "fletcher32": values.dtype.kind in "fiu"},
            "unwritten": {"shape": values.shape, "dtype": values.dtype, "chunks": True},
            "growing": {"data": values, "maxshape": (None,) * values.ndim},
        }[argument]
        file.create_dataset(name, **options)
    else:
        file[name] = values


def write(path: Path, log: Log) -> None:
    fields = sound(log)
    last: dict[str, tuple[str, Any]] = dict.fromkeys(fields, ("", None))
    for name, (corruption, argument) in log.corruptions:
        if name not in fields:
            continue
        if corruption == "missing":
            del fields[name]
        elif corruption in ("instead", "stored"):
            last[name] = corruption, argument
        else:
            fields[name] = corrupted(fields[name], corruption, argument)
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            put(file, name, values, *last[name])
        for name, value in ({"env_id": log.env_id} | log.attributes).items():
            file.attrs[name] = value
    if log.kept < 1:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * log.kept)])


def check(dataset: Dataset) -> None:
    """Properties of every dataset."""
    size, episodes = len(dataset), len(dataset.episode_returns)
    environment = environments.describe(dataset.env_id)
    discrete = isinstance(environment.actions, environments.Discrete)
    assert size > 0
    flat, wide = (size,), (size, environment.observation_size)
    for name, dtype, shape in (
        ("observations", np.float32, wide),
        ("next_observations", np.float32, wide),
        ("rewards", np.float32, flat),
        ("terminated", bool, flat),
        ("truncated", bool, flat),
        ("episode", np.int32, flat),
        (
            "actions",
            np.int64 if discrete else np.float32,
            flat if discrete else (size, environment.actions.size),
        ),
        ("episode_returns", np.float64, (episodes,)),
        ("episode_complete", bool, (episodes,)),
    ):
        values = getattr(dataset, name)
        assert (values.dtype, values.shape) == (dtype, shape), name
        assert not values.flags.writeable, name
        assert np.isfinite(values).all(), name
    if discrete:
        first = environment.actions.first
        assert ((dataset.actions >= first) & (dataset.actions < first + environment.actions.size)).all()
    assert not (dataset.terminated & dataset.truncated).any()
    assert sum(dataset.segments) == size
    assert len(dataset.segments) == len(dataset.segment_names) == 1
    # Episodes are in order; one whose rows were all dropped keeps its index.
    steps = np.diff(dataset.episode)
    assert (steps >= 0).all()
    assert dataset.episode[0] >= 0
    assert dataset.episode[-1] < episodes
    # No transition follows the end of an episode within it.
    ended = dataset.terminated | dataset.truncated
    assert (steps[ended[:-1]] > 0).all()
    assert dataset.behaviour_return is not None
    assert np.isfinite(dataset.behaviour_return)
    assert all("\n" not in note for note in dataset.notes)


def check_numbers(dataset: Dataset, path: Path, log: Log) -> None:
    """The dataset contains the file's numbers according to an independent implementation of the rules."""
    with h5py.File(path) as file:
        raw = {name: file[name][...] for name in FIELDS if name in file}
    size = len(raw["observations"])
    terminals = raw["terminals"].astype(float) == 1
    timeouts = raw["timeouts"].astype(float) == 1 if "timeouts" in raw else np.zeros(size, bool)
    last = np.arange(size) == size - 1
    from_rows = log.rules == "qlearning" or "next_observations" not in raw
    if log.rules == "qlearning":
        kept = ~timeouts & ~last
    elif from_rows:
        kept = terminals | (~timeouts & ~last)
    else:
        kept = np.ones(size, bool)
    rows = np.flatnonzero(kept)
    for name in ("observations", "actions", "rewards"):
        mine = getattr(dataset, name)
        np.testing.assert_array_equal(mine, raw[name][rows].reshape(mine.shape).astype(mine.dtype), name)
    np.testing.assert_array_equal(dataset.terminated, terminals[rows])
    ends = np.flatnonzero(terminals | timeouts | last)
    np.testing.assert_array_equal(dataset.episode, np.searchsorted(ends, rows))
    parts = np.split(raw["rewards"].astype(np.float32).astype(np.float64), ends[:-1] + 1)
    np.testing.assert_allclose(dataset.episode_returns, [part.sum() for part in parts], rtol=1e-12)
    goes_on = ~dataset.terminated
    behind = (
        raw["observations"][np.minimum(rows + 1, size - 1)] if from_rows else raw["next_observations"][rows]
    )
    expected = behind.astype(np.float32)[goes_on]
    np.testing.assert_array_equal(dataset.next_observations[goes_on], expected)


def test_a_malformed_file_is_refused_in_one_line_or_loads_correctly(tmp_path: Path) -> None:
    path, outcomes = tmp_path / "log.hdf5", Counter[str]()

    # No deadline, because it depends on the machine; pytest's timeout stops a file that hangs.
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(log=LOGS)
    def loads(log: Log) -> None:
        write(path, log)
        try:
            dataset = datasets.load(str(path), rules=log.rules)
        except UserError as error:
            message = str(error)
            assert len(message.splitlines()) == 1
            assert message.encode().decode() == message  # it can be printed
            assert str(path) in message or "environment" in message
            outcomes["refused"] += 1
            return
        outcomes["loaded"] += 1
        check(dataset)
        check_numbers(dataset, path, log)
        assert datasets.load(str(path), rules=log.rules).digest == dataset.digest

    loads()
    assert outcomes["refused"] >= EXAMPLES / 10
    assert outcomes["loaded"] >= EXAMPLES / 10


def test_each_kind_of_corruption_is_handled_as_intended(tmp_path: Path) -> None:
    """The corruptions above work as intended: harmless ones load, and argument is not numeric is refused."""
    path = tmp_path / "log.hdf5"
    ends, optional = ("", "t", "", "c", ""), ("timeouts", "next_observations")

    def log(*corruptions: tuple[str, tuple[str, Any]], kept: float = 1.0) -> Log:
        return Log("Pendulum-v1", ends, optional, corruptions, {}, kept, "strict", 0)

    harmless = [*(("stored", argument) for argument in ["gzip", "lzf", "chunked", "shuffled", "growing"])]
    harmless += [("dtype", argument) for argument in ["f2", "f4", "f8", "g", ">f4", ">f8"]]
    for corruption in harmless:
        write(path, log(("rewards", corruption)))
        check_numbers(datasets.load(str(path)), path, log())
    for argument in [
        "group",
        "empty",
        "strings",
        "bytes",
        "ragged",
        "references",
        "type",
        "soft-link",
        "external-link",
        "opaque",
        "vast",
    ]:
        write(path, log(("rewards", ("instead", argument))))
        with pytest.raises(UserError, match=r"'rewards'|memory"):
            datasets.load(str(path))
    for field in ("timeouts", "next_observations"):
        for argument in [
            "group",
            "type",
            "soft-link",
            "external-link",
        ]:  # never ignored as if they were missing
            write(path, log((field, ("instead", argument))))
            with pytest.raises(UserError, match=f"'{field}' (exists, but|is a link to another file)"):
                datasets.load(str(path))
    for kept in (0.0, 0.1, 0.5, 0.9, 0.99):
        write(path, log(kept=kept))
        with pytest.raises(UserError, match="not a readable HDF5 file"):
            datasets.load(str(path))
