"""Sampling of minibatches: rows in each seed's order, units of what a batch holds, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_dataset

import seqeval.replay.indices
from seqeval import environments
from seqeval.algorithm import Noise, Sampling
from seqeval.errors import UserError
from seqeval.replay.buffer import Buffer
from seqeval.replay.indices import IndexSampler, Indices, draw_noise
from seqeval.replay.normalization import ObservationNormalizer, RewardScale, action_mapping
from seqeval.replay.samplers import make_sampler
from seqeval.seeding import stream
from seqeval.slicing import Stream
from seqeval.types import Dataset, Discrete

CPU = torch.device("cpu")
NOISE = {"a": Noise("normal", (4, 1)), "b": Noise("bernoulli", (5,), 0.9), "c": Noise("uniform", (2, 3))}
PENDULUM = environments.describe("Pendulum-v1").actions


def make_buffer(datasets: Sequence[Dataset], room: int = 0) -> Buffer:
    return Buffer(datasets, [action_mapping(PENDULUM, CPU)] * len(datasets), CPU, room, 1)


def make_index_sampler(seeds: list[int]) -> IndexSampler:
    orders = [stream(seed, "order").permutation(120).astype(np.int32) for seed in seeds]
    schedules = [Stream(120, 20, 3, 2, None)] * len(seeds)
    return IndexSampler(CPU, schedules, orders, seeds, 4, NOISE)


def draw_all(sampler: IndexSampler) -> list[Indices]:
    return [sampler.draw() for _ in range(68)]


def test_a_batch_holds_the_sampled_rows_in_the_units_of_the_algorithm() -> None:
    data = make_dataset()
    rows = torch.tensor([[3, 119, 9], [0, 0, 60]], dtype=torch.int32)
    normalizer = ObservationNormalizer(2, 3, CPU)
    for replica, (mean, std) in enumerate(((0.5, 2.0), (-1.0, 4.0))):
        normalizer.set(replica, torch.full((3,), mean), torch.full((3,), std))
    scales = [RewardScale(factor=10.0, offset=-1.0), RewardScale()]
    sampler = make_sampler(make_buffer([data]), Sampling(), scales, normalizer, [], [data])
    batch = sampler.sample(Indices(rows, torch.tensor([120, 120]), {"a": torch.ones(2, 1)}))
    mean, std = np.array([0.5, -1.0])[:, None, None], np.array([2.0, 4.0])[:, None, None]
    np.testing.assert_allclose(batch.observations, (data.observations[rows] - mean) / std, rtol=1e-5)
    np.testing.assert_allclose(
        batch.next_observations, (data.next_observations[rows] - mean) / std, rtol=1e-5
    )
    np.testing.assert_allclose(batch.actions, data.actions[rows] / 2, rtol=1e-6)  # Pendulum: ±2
    np.testing.assert_allclose(batch.rewards[0], data.rewards[rows[0]] * 10 - 1, rtol=1e-5)
    np.testing.assert_array_equal(batch.rewards[1], data.rewards[rows[1]])
    assert batch.terminated.tolist() == data.terminated[rows].astype(float).tolist()
    assert batch.terminated.sum() == 1  # row 9 terminates; row 119 is cut and bootstraps
    assert batch.noise["a"].tolist() == [[1], [1]]


def test_a_single_dataset_is_neither_copied_nor_changed() -> None:
    data = make_dataset()
    before = data.observations.copy()
    buffer = make_buffer([data])
    assert buffer.observations.data_ptr() == data.observations.ctypes.data
    sampler = make_sampler(buffer, Sampling(), [RewardScale(3.0)], None, [], [data])
    sampler.sample(Indices(torch.zeros((1, 4), dtype=torch.int32), torch.tensor([120]), {}))
    np.testing.assert_array_equal(data.observations, before)


def test_datasets_lie_in_a_buffer_one_after_the_other_in_units_of_their_own() -> None:
    one, two = make_dataset(episodes=2), make_dataset(episodes=3, seed=1)
    wide = replace_bounds(4.0)
    mappings = [action_mapping(PENDULUM, CPU), action_mapping(wide, CPU)]
    buffer = Buffer([one, two], mappings, CPU, room=5, replicas=2)
    assert (buffer.offsets, buffer.size, len(buffer.rewards)) == ([0, 20], 50, 60)
    np.testing.assert_array_equal(buffer.observations[20:50], two.observations)
    np.testing.assert_allclose(buffer.actions[:20], one.actions / 2, rtol=1e-6)
    np.testing.assert_allclose(buffer.actions[20:50], two.actions / 4, rtol=1e-6)
    assert [buffer.online_rows(replica).tolist() for replica in range(2)] == [
        [50, 51, 52, 53, 54],
        [55, 56, 57, 58, 59],
    ]


def replace_bounds(bound: float):
    return replace(PENDULUM, low=np.array([-bound], np.float32), high=np.array([bound], np.float32))


def test_actions_are_clipped_just_inside_the_bounds_and_mapped_back() -> None:
    mapping = action_mapping(PENDULUM, CPU)
    unit = mapping.to_algorithm(torch.tensor([[-2.0], [2.0], [5.0], [1.0]]))
    assert unit.squeeze(1).tolist() == pytest.approx([-1 + 1e-5, 1 - 1e-5, 1 - 1e-5, 0.5], abs=1e-7)
    mapped = mapping.to_environment(torch.tensor([[-1.5], [1.0], [0.25]]))
    assert mapped.squeeze(1).tolist() == [-2.0, 2.0, 0.5]


def test_discrete_actions_are_counted_from_zero_and_mapped_back() -> None:
    mapping = action_mapping(Discrete(3, first=5), CPU)
    assert mapping.to_algorithm(torch.tensor([5, 7])).tolist() == [0, 2]
    assert mapping.to_environment(torch.tensor([0, 2])).tolist() == [5, 7]


def test_statistics_are_those_of_the_given_rows_only() -> None:
    data = make_dataset()
    buffer = make_buffer([make_dataset(episodes=3, seed=5), data])
    for rows in (np.arange(50, dtype=np.int32), np.arange(40, 90, dtype=np.int32)):
        mean, std = buffer.observation_statistics(rows + np.int32(30))
        visible = data.observations[rows].astype(np.float64)
        np.testing.assert_allclose(mean, visible.mean(0), rtol=1e-6)
        np.testing.assert_allclose(std, visible.std(0) + 1e-3, rtol=1e-6)


def test_statistics_are_accurate_for_large_means_and_many_chunks(float64: None) -> None:
    data = make_dataset(episodes=14_000)  # 140 000 rows, in many chunks
    buffer = make_buffer([data])
    buffer.observations = buffer.observations + 1e6
    _, std = buffer.observation_statistics(np.arange(len(data), dtype=np.int32))
    np.testing.assert_allclose(std - 1e-3, data.observations.astype(np.float64).std(0), rtol=1e-9)


def test_rewards_are_scaled_by_reference_returns_that_are_known_before_any_data() -> None:
    hopper = replace(make_dataset(), env_id="Hopper-v4")  # reference -1000 … -100
    assert RewardScale.known_before_data(hopper) == RewardScale(factor=1000 / 900)
    assert RewardScale.known_before_data(make_dataset()) == RewardScale()
    assert RewardScale.known_before_data(replace(hopper, env_id="AntMaze_UMaze-v4")) == RewardScale(offset=-1)
    with pytest.raises(UserError, match="scale_rewards=False"):
        RewardScale.known_before_data(replace(hopper, reference=None))


def test_indices_of_a_seed_do_not_depend_on_other_seeds_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    together = draw_all(make_index_sampler([4, 9, 2]))
    monkeypatch.setattr(seqeval.replay.indices, "BLOCK", 7)
    alone = draw_all(make_index_sampler([9]))
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many.rows[1], one.rows[0])
        assert torch.equal(many.visible[1], one.visible[0])
        for name in NOISE:
            assert torch.equal(many.noise[name][1], one.noise[name][0])
    assert not torch.equal(together[0].rows[0], together[0].rows[1])


def test_visible_is_the_number_of_transitions_that_have_arrived() -> None:
    visible = [indices.visible.tolist() for indices in draw_all(make_index_sampler([4, 9]))]
    # N = 120, T0 = 20, γ = 3, K = 2.
    assert visible == [[min(120, 20 + 3 * (update // 2))] * 2 for update in range(68)]


def test_an_online_phase_has_streams_of_its_own() -> None:
    orders, schedules = [np.arange(120, dtype=np.int32)], [Stream(120, 20, 3, 2, None)]
    offline, online = (
        IndexSampler(CPU, schedules, orders, [3], 4, NOISE, phase).draw() for phase in ((), ("online",))
    )
    assert not torch.equal(offline.rows, online.rows)
    assert not torch.equal(offline.noise["a"], online.noise["a"])


@pytest.mark.parametrize("drawn", [0, 1, 6, 7, 8, 67])
def test_a_sampler_resumes_in_the_middle_of_a_block(drawn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seqeval.replay.indices, "BLOCK", 7)
    whole, sampler = draw_all(make_index_sampler([4, 9])), make_index_sampler([4, 9])
    for _ in range(drawn):
        sampler.draw()
    resumed = make_index_sampler([9, 4])  # replicas may be in another order
    resumed.load_states([sampler.state_of(1), sampler.state_of(0)])
    assert resumed.drawn == drawn
    for expected in whole[drawn:]:
        found = resumed.draw()
        assert torch.equal(found.rows, expected.rows.flip(0))
        assert all(torch.equal(found.noise[name], expected.noise[name].flip(0)) for name in NOISE)


def test_threads_change_no_number() -> None:
    alone, threaded = make_index_sampler([4, 0, 9]), make_index_sampler([4, 0, 9])
    threaded._map = ThreadPoolExecutor(3).map
    for one, other in zip(draw_all(alone), draw_all(threaded), strict=True):
        assert torch.equal(one.rows, other.rows)
        assert all(torch.equal(noise, other.noise[name]) for name, noise in one.noise.items())


def test_noise_is_distributed_as_declared() -> None:
    rng = np.random.default_rng(0)
    normal = draw_noise(Noise("normal", (100, 7)), 50, rng)
    assert normal.shape == (50, 100, 7)
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03
    keep = draw_noise(Noise("bernoulli", (33, 9), 0.9), 100, rng)
    assert set(np.unique(keep)) == {0.0, 1.0}
    assert abs(keep.mean() - 0.9) < 0.01
    assert abs(np.corrcoef(keep.reshape(100, -1)[:, 0], keep.reshape(100, -1)[:, 1])[0, 1]) < 0.4
    uniform = draw_noise(Noise("uniform", (1000,)), 10, rng)
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
