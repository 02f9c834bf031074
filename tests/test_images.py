"""Image observations in memory: frames stored once, stacks cut at the borders of episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_data import image_dataset, slow_stack

from seqeval.algorithm import Sampling
from seqeval.frames import Frames, FrameStacks
from seqeval.replay.buffer import Buffer
from seqeval.replay.indices import Indices
from seqeval.replay.normalization import RewardScale, action_mapping
from seqeval.replay.rows import RowParts
from seqeval.replay.samplers import make_sampler
from seqeval.types import Dataset, Discrete, Image

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def frames_of(dataset: Dataset) -> Frames:
    assert isinstance(dataset.observations, FrameStacks)
    return dataset.observations.frames


def make_buffer(datasets: list[Dataset], room: int = 0, replicas: int = 0) -> Buffer:
    mapping = action_mapping(Discrete(3, 0), CPU)
    return Buffer(datasets, [mapping] * len(datasets), CPU, room, replicas, episodes=True)


def numbered(values: list[int]) -> np.ndarray:
    """Frames of one pixel."""
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


def test_stacks_repeat_the_first_frame_and_never_reach_into_another_episode() -> None:
    # Two episodes, of frames 1 2 3 4 and 5 6; the first frame of a stack is the oldest.
    numbers = np.array([0, 1, 2, 4], np.int32)
    frames = Frames(
        (numbered([1, 2, 3, 4, 5, 6]),), numbers, numbers + 1, np.array([0, 0, 0, 4], np.int32), 3
    )
    now, following = FrameStacks(frames, of_next=False), FrameStacks(frames, of_next=True)
    assert now[:].squeeze().tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [5, 5, 5]]
    assert following[:].squeeze().tolist() == [[1, 1, 2], [1, 2, 3], [2, 3, 4], [5, 5, 6]]
    assert now.shape == (4, 3, 1, 1)
    assert now[2].squeeze().tolist() == [1, 2, 3]
    assert now[[False, True, False, True]].squeeze().tolist() == [[1, 1, 2], [5, 5, 5]]


def test_the_last_next_frame_of_an_episode_may_be_anywhere() -> None:
    numbers = np.array([0, 1, 2], np.int32)
    after = np.array([1, 2, 3], np.int32)
    parts = (numbered([1, 2, 3]), numbered([9]))
    frames = Frames(parts, numbers, after, np.zeros(3, np.int32), 3)
    assert FrameStacks(frames, of_next=True)[2].squeeze().tolist() == [2, 3, 9]


@given(LENGTHS, st.integers(1, 4), st.integers(0, 3))
def test_stacks_are_those_of_an_environment_that_stacks(lengths: list[int], stack: int, seed: int) -> None:
    stack = min(stack, max(lengths) + 1)
    dataset = image_dataset(lengths, stack, seed)
    parts, row, first = frames_of(dataset).parts[0], 0, 0
    for length in lengths:
        episode = parts[first : first + length + 1]
        for step in range(length):
            assert (dataset.observations[row] == slow_stack(episode, step, stack)).all()
            assert (dataset.next_observations[row] == slow_stack(episode, step + 1, stack)).all()
            row += 1
        first += length + 1


@given(LENGTHS, st.integers(1, 3), st.data())
def test_the_buffer_gathers_what_the_datasets_hold(lengths: list[int], stack: int, data) -> None:
    stack = min(stack, max(lengths) + 1)
    datasets = [image_dataset(lengths, stack, seed, str(seed)) for seed in range(2)]
    buffer, size = make_buffer(datasets), 2 * sum(lengths)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=6, max_size=6))).view(2, 3)
    for stored, name in (
        (buffer.observations, "observations"),
        (buffer.next_observations, "next_observations"),
    ):
        joined = np.concatenate([getattr(dataset, name)[:] for dataset in datasets])
        found = stored[rows]
        assert found.dtype == torch.uint8
        assert found.shape == (2, 3, 2 * stack, 3, 4)
        assert (found.numpy() == joined[rows.numpy()]).all()


def test_frames_of_a_dataset_are_not_copied_and_take_at_most_a_tenth_more_than_their_bytes() -> None:
    dataset = image_dataset([100] * 5, size=(3, 20, 20))
    frames = frames_of(dataset)
    assert len(frames.parts[0]) == 505
    assert frames.nbytes <= 1.1 * 505 * 3 * 20 * 20
    buffer = make_buffer([dataset, image_dataset([9], size=(3, 20, 20), name="b")], room=4, replicas=2)
    assert buffer._images is not None
    assert buffer._images.frames.parts[0].numpy().ctypes.data == frames.parts[0].ctypes.data
    assert len(buffer._images.frames.parts[2]) == 2 * 4 * 2  # at most two frames a step


class Steps:
    """Random online transitions of 2 replicas, and the stacks that an environment would show."""

    def __init__(self, count: int, stack: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.starts = rng.random((count, 2)) < 0.4
        self.starts[0] = True
        episodes: list[list[np.ndarray]] = [[], []]
        self.observations, self.next_observations = [], []
        for starts in self.starts:
            now, following = [], []
            for replica, is_first in enumerate(starts):
                if is_first:
                    episodes[replica] = [rng.integers(0, 256, (2, 3, 4), np.uint8)]
                seen = episodes[replica]
                now.append(slow_stack(seen, len(seen) - 1, stack))
                seen.append(rng.integers(0, 256, (2, 3, 4), np.uint8))
                following.append(slow_stack(seen, len(seen) - 1, stack))
            self.observations.append(np.stack(now))
            self.next_observations.append(np.stack(following))

    def add(self, buffer: Buffer, first: int, last: int) -> None:
        for place in range(first, last):
            rewards = np.full(2, float(place))
            actions, ends = torch.tensor([1, 2]), np.zeros(2, bool)
            now, following = self.observations[place], self.next_observations[place]
            buffer.add(place, now, actions, rewards, following, ends, self.starts[place])


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 9), st.integers(0, 12))
def test_online_transitions_are_stored_once_and_restored(
    count: int, stack: int, seed: int, saved: int
) -> None:
    steps, saved = Steps(count, stack, seed), min(saved, count)
    data = [image_dataset(stack=stack)]
    buffer = make_buffer(data, count, 2)
    steps.add(buffer, 0, saved)
    copies = [buffer.online_transitions(replica, saved) for replica in range(2)]
    assert all(len(copy["frames"]) == saved + steps.starts[:saved, r].sum() for r, copy in enumerate(copies))
    # In the buffer of another job the replicas are in another order, behind other data.
    other = make_buffer([image_dataset((3,), stack=min(stack, 4), name="b"), *data], count, 2)
    for replica, copy in enumerate(copies):
        other.restore(replica, copy)
    for resumed in (buffer, other):
        steps.add(resumed, saved, count)
        for replica in range(2):
            rows = torch.from_numpy(resumed.online_rows(replica))
            expected = np.stack(steps.observations)[:, replica], np.stack(steps.next_observations)[:, replica]
            assert (resumed.observations[rows].numpy() == expected[0]).all()
            assert (resumed.next_observations[rows].numpy() == expected[1]).all()


@pytest.mark.parametrize("kind", ["transitions", "n_step", "sequences"])
def test_samplers_hold_stacks(kind) -> None:
    dataset = image_dataset((4, 3), stack=2)
    buffer, order = make_buffer([dataset]), np.arange(7, dtype=np.int32)
    sampling = Sampling(kind, 3 if kind != "transitions" else 1, 0.9)
    sampler = make_sampler(buffer, sampling, [RewardScale()], None, [order], [dataset])
    rows = torch.tensor([[0, 2, 5]], dtype=torch.int32)
    batch = sampler.sample(Indices(rows, torch.tensor([6], dtype=torch.int32), {}))
    # Up to three transitions, of one episode, the first six of which have arrived.
    sequences = [[0, 1, 2], [2, 3, 3], [5, 5, 5]]
    now = sequences if kind == "sequences" else [0, 2, 5]
    after = {"transitions": [0, 2, 5], "n_step": [2, 3, 5], "sequences": sequences}[kind]
    assert (batch.observations[0].numpy() == dataset.observations[:][now]).all()
    assert (batch.next_observations[0].numpy() == dataset.next_observations[:][after]).all()


def test_rows_in_several_parts_are_gathered_by_number() -> None:
    values = torch.arange(20).view(10, 2)
    parts = RowParts([values[:3], values[3:3], values[3:4], values[4:]], CPU)
    rows = torch.tensor([9, 0, 3, 4, 2, 3])
    assert torch.equal(parts.gather(rows), values[rows])
    parts.write(3, torch.tensor([[70, 71]]))
    assert parts.gather(torch.tensor([3])).tolist() == [[70, 71]]
    assert parts.read(4, 6).tolist() == values[4:6].tolist()


def test_a_dataset_says_what_its_observations_are() -> None:
    dataset = image_dataset(stack=3)
    assert dataset.observation == Image(2, 3, 4, 3)
    assert dataset.observation.shape == (6, 3, 4)
    with pytest.raises(TypeError, match="has no size"):
        _ = dataset.observation_size
    assert np.asarray(dataset.observations).shape == (50, 6, 3, 4)
    assert dataset.digest != image_dataset(stack=3, seed=1).digest
    assert replace(dataset, name="other").observations is dataset.observations
