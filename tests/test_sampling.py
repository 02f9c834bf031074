"""Minibatches: rows through each seed's own order, scaled as they are drawn, noise from its streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import make_dataset

import seqeval.replay.samplers
from seqeval import environments
from seqeval.algorithm import Noise
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import ActionScale, ObservationScale, RewardScale
from seqeval.replay.samplers import Minibatches, draw_noise
from seqeval.seeding import stream
from seqeval.slicing import Stream

CPU = torch.device("cpu")
NOISE = {"a": Noise("normal", (4, 1)), "b": Noise("bernoulli", (5,), 0.9), "c": Noise("uniform", (2, 3))}


def make_buffer(rewards: RewardScale | None = None) -> Buffer:
    environment = environments.describe("Pendulum-v1")
    return Buffer(make_dataset(), ActionScale.of(environment.actions, CPU), rewards or RewardScale(), CPU)


def make_minibatches(seeds: list[int]) -> Minibatches:
    orders = np.stack([stream(seed, "order").permutation(120).astype(np.int32) for seed in seeds])
    schedules = [Stream(120, 20, 3, 2, None)] * len(seeds)
    return Minibatches(CPU, schedules, orders, seeds, 4, NOISE)


def test_a_batch_holds_the_rows_asked_for_in_the_units_promised() -> None:
    data = make_dataset()
    rows = torch.tensor([[3, 119, 9], [0, 0, 60]], dtype=torch.int32)
    scale = ObservationScale(torch.full((2, 1, 3), 0.5), torch.full((2, 1, 3), 2.0))
    batch = make_buffer(RewardScale(factor=10.0, offset=-1.0)).batch(rows, scale, {})
    np.testing.assert_allclose(batch.observations, (data.observations[rows] - 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(batch.next_observations, (data.next_observations[rows] - 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(batch.actions, data.actions[rows] / 2, rtol=1e-6)  # Pendulum: ±2
    np.testing.assert_allclose(batch.rewards, data.rewards[rows] * 10 - 1, rtol=1e-5)
    assert batch.terminated.tolist() == data.terminated[rows].astype(float).tolist()
    assert batch.terminated.sum() == 1  # row 9 terminates; row 119 is cut and bootstraps


def test_the_dataset_itself_is_neither_copied_nor_changed() -> None:
    data = make_dataset()
    before = data.observations.copy()
    buffer = Buffer(
        data, ActionScale.of(environments.describe("Pendulum-v1").actions, CPU), RewardScale(3.0), CPU
    )
    assert buffer.observations.data_ptr() == data.observations.ctypes.data
    buffer.batch(torch.zeros((1, 4), dtype=torch.int32), None, {})
    np.testing.assert_array_equal(data.observations, before)


def test_actions_are_clipped_just_inside_and_mapped_back() -> None:
    scale = ActionScale.of(environments.describe("Pendulum-v1").actions, CPU)
    unit = scale.to_algorithm(torch.tensor([[-2.0], [2.0], [5.0], [1.0]]))
    assert unit.squeeze(1).tolist() == pytest.approx([-1 + 1e-5, 1 - 1e-5, 1 - 1e-5, 0.5], abs=1e-7)
    assert scale.to_environment(torch.tensor([[-1.5], [1.0], [0.25]])).squeeze(1).tolist() == [-2.0, 2.0, 0.5]


def test_the_normaliser_is_mean_and_std_of_the_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset()
    rows = [np.arange(50, dtype=np.int32), np.arange(40, 90, dtype=np.int32)]
    scale = make_buffer().observation_scale(rows)
    for replica, mine in enumerate(rows):
        seen = data.observations[mine].astype(np.float64)
        np.testing.assert_allclose(scale.mean[replica, 0], seen.mean(0), rtol=1e-6)
        np.testing.assert_allclose(scale.std[replica, 0], seen.std(0) + 1e-3, rtol=1e-6)


def test_the_normaliser_holds_for_large_means_and_many_chunks(float64: None) -> None:
    data = make_dataset(episodes=14_000)  # 140 000 rows, in three chunks
    shifted = Buffer(
        data, ActionScale.of(environments.describe("Pendulum-v1").actions, CPU), RewardScale(), CPU
    )
    shifted.observations = shifted.observations + 1e6
    scale = shifted.observation_scale([np.arange(len(data), dtype=np.int32)])
    np.testing.assert_allclose(scale.std[0, 0] - 1e-3, data.observations.astype(np.float64).std(0), rtol=1e-9)


def test_rewards_scale_by_reference_returns_known_before_any_data() -> None:
    from dataclasses import replace

    from seqeval.errors import UserError

    hopper = replace(make_dataset(), env_id="Hopper-v4")  # reference -1000 … -100
    assert RewardScale.known_before_data(hopper) == RewardScale(factor=1000 / 900)
    assert RewardScale.known_before_data(make_dataset()) == RewardScale()
    assert RewardScale.known_before_data(replace(hopper, env_id="AntMaze_UMaze-v4")) == RewardScale(offset=-1)
    with pytest.raises(UserError, match="scale_rewards=False"):
        RewardScale.known_before_data(replace(hopper, reference=None))


def test_a_seed_draws_the_same_whoever_runs_beside_it_and_however_it_is_blocked(monkeypatch) -> None:
    together = list(make_minibatches([4, 9, 2]).until(68))
    monkeypatch.setattr(seqeval.replay.samplers, "BLOCK", 7)
    parts = make_minibatches([9])
    alone = [*parts.until(3), *parts.until(20), *parts.until(68)]
    assert len(together) == len(alone) == 68
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many.rows[1], one.rows[0])
        for name in NOISE:
            assert torch.equal(many.noise[name][1], one.noise[name][0])
    assert not torch.equal(together[0].rows[0], together[0].rows[1])


def test_threads_draw_what_one_draws() -> None:
    alone, threaded = make_minibatches([4, 0, 9]), make_minibatches([4, 0, 9])
    threaded._map = ThreadPoolExecutor(3).map
    for one, other in zip(alone.until(68), threaded.until(68), strict=True):
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
