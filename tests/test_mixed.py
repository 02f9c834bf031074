"""Mixtures of datasets: the order of transitions, truncated episodes, and parts that do not fit together."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, datasets
from seqeval.errors import UserError
from seqeval.execution.storage import StudyDirectory
from seqeval.slicing import arrival_order

LENGTH = 5


def write(path: Path, episodes: int, value: float, env_id: str = "Pendulum-v1", **attributes: float) -> str:
    """Episodes of `LENGTH` steps, every other of which terminates; every number except actions is
    `value` plus the step."""
    size = episodes * LENGTH
    steps = (value + np.arange(size)).astype(np.float32)
    ends = np.arange(size) % LENGTH == LENGTH - 1
    odd = (np.arange(size) // LENGTH) % 2 == 1
    with h5py.File(path, "w") as file:
        file.attrs.update({"env_id": env_id, **attributes})
        file["observations"] = np.repeat(steps[:, None], 3, 1)
        file["next_observations"] = np.repeat(steps[:, None] + 1, 3, 1)
        file["actions"] = np.full((size, 1), 0.5, np.float32)
        file["rewards"] = steps
        file["terminals"], file["timeouts"] = ends & odd, ends & ~odd
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return write(tmp_path / "low-a.hdf5", 4, 100), write(tmp_path / "high-a.hdf5", 3, 500)


def test_the_parts_are_concatenated(files: tuple[str, str]) -> None:
    low, high = map(datasets.load, files)
    both = datasets.load(f"mix:{files[0]}+{files[1]}")
    assert (both.name, both.env_id) == ("low-a:20+high-a:15", "Pendulum-v1")
    assert (both.segments, both.segment_names) == ((20, 15), ("low-a", "high-a"))
    for field in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated"):
        parts = [getattr(low, field), getattr(high, field)]
        np.testing.assert_array_equal(getattr(both, field), np.concatenate(parts))
        assert not getattr(both, field).flags.writeable
    assert both.episode.tolist() == np.repeat(np.arange(7), LENGTH).tolist()
    assert both.episode_returns.tolist() == [*low.episode_returns, *high.episode_returns]
    assert both.digest not in (low.digest, high.digest)


def test_a_size_truncates_the_last_episode_of_a_part(files: tuple[str, str]) -> None:
    both = datasets.load(f"mix:{files[0]}:8+{files[1]}:40%,name=half")
    assert (both.name, both.segments) == ("half", (8, 6))
    assert both.rewards.tolist() == [*range(100, 108), *range(500, 506)]
    assert both.episode.tolist() == [0] * 5 + [1] * 3 + [2] * 5 + [3]
    assert np.flatnonzero(both.truncated).tolist() == [4, 7, 12, 13]  # 7 and 13: the ends of the parts
    assert not both.terminated.any()
    assert both.episode_returns.tolist() == [510, 318, 2510, 505]
    assert both.episode_complete.tolist() == [True, False, True, False]
    assert both.next_observations[7, 0] == 108  # from the same file, not the other one


def test_a_size_at_the_end_of_an_episode_truncates_nothing(files: tuple[str, str]) -> None:
    both = datasets.load(f"mix:{files[0]}:10+{files[1]}")
    assert np.flatnonzero(both.terminated).tolist() == [9, 19]
    assert both.episode_complete.all()


def test_a_size_of_the_whole_part_changes_nothing(files: tuple[str, str]) -> None:
    whole, cut = (
        datasets.load(f"mix:{files[0]}+{files[1]}"),
        datasets.load(f"mix:{files[0]}:20+{files[1]}:100%"),
    )
    assert whole.digest == cut.digest
    assert whole.digest != datasets.load(f"mix:{files[1]}+{files[0]}").digest
    assert whole.digest != datasets.load(f"mix:{files[0]}:19+{files[1]}").digest


def test_segments_arrive_in_turn_and_shuffled_within(files: tuple[str, str]) -> None:
    both = datasets.load(f"mix:{files[0]}+{files[1]}")
    rng = np.random.default_rng(0)
    order = arrival_order("segments", rng, both.episode, both.episode_returns, both.segments)
    assert set(both.rewards[order[:20]].tolist()) == set(range(100, 120))
    assert order[:20].tolist() != list(range(20))


def test_invalid_mixtures_are_refused(files: tuple[str, str], tmp_path: Path) -> None:
    other = write(tmp_path / "other.hdf5", 2, 0, env_id="Pendulum-v1?g=9.0")
    for name, message in (
        (f"mix:{files[0]}+{other}", "low-a was collected in Pendulum-v1, other in Pendulum-v1[?]g=9.0"),
        (f"mix:{files[0]}:21+{files[1]}", "cannot take 21 transitions of low-a, which has 20"),
        (f"mix:{files[0]}:0+{files[1]}", "0 transitions of low-a"),
        (f"mix:{files[0]}:1%+{files[1]}", "0 transitions of low-a"),
        (f"mix:{files[0]}+mix:{files[1]}", "is a mixture itself"),
        (f"mix:{files[0]}+", "dataset '' is not known"),
        ("mix:pendulum-repaly:10+hopper-replay", "did you mean 'pendulum-replay'"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.load(name)


def test_parts_on_different_scales_have_no_scores(tmp_path: Path) -> None:
    scale = {"reference_min": 0.0, "reference_max": 1.0, "reference_source": "made up"}
    one = write(tmp_path / "one.hdf5", 2, 0, **scale)
    two = write(tmp_path / "two.hdf5", 2, 0, **scale | {"reference_max": 2.0})
    assert datasets.load(f"mix:{one}+{one}").reference.maximum == 1.0
    mixed = datasets.load(f"mix:{one}+{two}")
    assert mixed.reference is None
    assert "different reference returns" in mixed.notes[-1]


def test_a_study_of_mixed_data_records_its_segments(files: tuple[str, str], tmp_path: Path) -> None:
    study = Study(
        datasets=(f"mix:{files[0]}+{files[1]},name=both",),
        algorithms=("bc:hidden=(8,)",),
        seeds=(0,),
        protocol=Protocol(start=5, grow_by=5, order="segments", window=10),
        evaluation=Evaluation(points=1, episodes=1),
    )
    rows = seqeval.run(study, tmp_path / "out", Execution(jobs=1))
    assert rows["samples"].tolist() == [5, 35]
    about = StudyDirectory(tmp_path / "out").study()["datasets"]["both"]
    assert (about["segments"], about["segments_in_turn"]) == ([20, 15], ["low-a", "high-a"])
