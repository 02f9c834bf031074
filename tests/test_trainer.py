"""The training loop in the regime `stream`: what is visible when, what rows say, and what has no effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_dataset
from training_setup import (
    BUILT_IN,
    ONE_POINT,
    POINTS,
    STREAM,
    Training,
    equal_tensors,
    make_job,
    small_dataset,
    train,
    without_seconds,
)

from seqeval import environments
from seqeval.config import Evaluation, Protocol
from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.training import trainer as trainer_module
from seqeval.training.agents import AgentGroup, Agents
from seqeval.training.trainer import Trainer
from seqeval.training.updater import Updater
from seqeval.types import Dataset

TWO_EPISODES = Evaluation(points=3, episodes=2)


def training(name: str, seeds: list[int], dataset: Dataset, protocol: Protocol = STREAM) -> Training:
    return Training(make_job(name, [(dataset, seeds)], protocol), [dataset])


def test_there_is_a_row_for_each_seed_and_point() -> None:
    dataset = make_dataset()
    job = make_job("td3_bc", [(dataset, [5, 2])], evaluation=TWO_EPISODES)
    with Training(job, [dataset]).trainer() as trainer:
        rows = list(trainer.train())
    # N = 120, T0 = 30, γ = 3, K = 2: 30 arrivals, 62 updates.
    assert [(r.seed, r.samples, r.updates) for r in rows] == [
        (seed, n, updates) for n, updates in [(30, 2), (60, 22), (90, 42), (120, 62)] for seed in (5, 2)
    ]
    for row in rows:
        assert (row.phase, row.regime, row.env_steps, row.status) == ("offline", "stream", 0, "ok")
        assert (row.study, row.algorithm, row.variant, row.dataset) == ("study", "td3_bc", "variant", "tiny")
        assert len(row.episode_returns) == 2
        assert row.episode_lengths == [200, 200]
        assert row.return_mean == pytest.approx(np.mean(row.episode_returns))
        assert row.score == pytest.approx(100 * (row.return_mean + 1000) / 900)
        assert row.train_seconds > 0
        assert row.eval_seconds > 0
        assert row.metrics.keys() == {"critic_loss", "q", "actor_loss", "imitation"}
        expected = {"initial_value"}
        if row.samples < 120:
            expected |= {f"prequential_{name}" for name in ("squared_error", "td_error", "transitions")}
        assert row.evaluations.keys() == expected


def test_without_reference_returns_there_is_no_score() -> None:
    rows = train("bc", [0], replace(small_dataset(), reference=None)).rows
    assert all(row.score is None and row.return_mean is not None for row in rows)


def test_without_an_environment_rows_have_metrics_only() -> None:
    dataset = replace(small_dataset(), env_id=None, logged_in=environments.describe("Pendulum-v1"))
    rows = train("td3_bc", [0], dataset).rows
    assert [row.samples for row in rows] == [30, 60, 90, 120]
    for row in rows:
        assert (row.status, row.return_mean, row.score, row.episode_returns) == ("ok", None, None, [])
        assert row.metrics
    assert equal_tensors(*(
        list(training.checkpoints.finished.values())
        for training in (train("td3_bc", [0], dataset), train("td3_bc", [0]))
    ))  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_rows_and_weights_of_a_seed_do_not_depend_on_the_other_seeds(name: str) -> None:
    together = train(name, [4, 0, 11])
    for run in together.job.runs:
        assert together.outcome(run) == train(name, [run.seed]).outcome()


@pytest.mark.parametrize("name", BUILT_IN)
def test_evaluation_never_changes_training(name: str) -> None:
    often = train(name, [1], evaluation=Evaluation(points=7, episodes=3))
    seldom = train(name, [1], evaluation=ONE_POINT)
    assert often.outcome()[1] == seldom.outcome()[1]


def test_the_normalizer_is_refreshed_from_the_visible_window() -> None:
    dataset = small_dataset()
    protocol = Protocol(start=30, grow_by=10, window=20, order="logged")
    job = make_job("td3_bc", [(dataset, [0])], protocol, evaluation=Evaluation(9, 1))
    means = {}
    with Training(job, [dataset]).trainer() as trainer:
        for row in trainer.train():
            means[row.samples] = trainer.agents.normalizer.mean[0, 0].numpy().copy()
    # A row comes before a refresh at the same n, so at n the normalizer is that of n - 10.
    for n in range(40, 121, 10):
        np.testing.assert_allclose(means[n], dataset.observations[n - 30 : n - 10].mean(0), atol=1e-6)
    np.testing.assert_allclose(means[30], dataset.observations[10:30].mean(0), atol=1e-6)


def test_refreshes_do_not_depend_on_the_evaluation_points() -> None:
    protocol = Protocol(start=40, grow_by=1)
    means = []
    for points in (1, 13):
        training = train("td3_bc", [0], protocol=protocol, evaluation=Evaluation(points, 1))
        ((final,),) = training.checkpoints.finished.values()
        means.append(final["normalizer"]["mean"].flatten())
    # 20 refreshes of 4 transitions each: the last before N is at 116.
    order = stream(0, "order").permutation(120)
    np.testing.assert_allclose(means[0], small_dataset().observations[order[:116]].mean(0), atol=1e-6)
    assert torch.equal(*means)


def test_the_full_normalizer_is_that_of_all_data_from_the_start() -> None:
    dataset = small_dataset()
    job = make_job("td3_bc", [(dataset, [0, 4])], replace(STREAM, normalizer="full", window=20))
    with Training(job, [dataset]).trainer() as trainer:
        for _ in trainer.train():
            for replica in range(2):
                mean = trainer.agents.normalizer.mean[replica, 0]
                np.testing.assert_allclose(mean, dataset.observations.mean(0), atol=1e-6)


def test_a_replica_that_fails_says_so_and_leaves_the_others_alone() -> None:
    good, dataset = train("td3_bc", [0, 1]), small_dataset()
    broken = training("td3_bc", [0, 1], dataset)
    with broken.trainer() as trainer:
        with torch.no_grad():
            trainer.agents.algorithm.critics.biases[2][1] = float("nan")
        rows = list(trainer.train())
    assert [without_seconds(row) for row in rows if row.seed == 0] == [
        without_seconds(row) for row in good.rows if row.seed == 0
    ]
    failed = [row for row in rows if row.seed == 1]
    assert len(failed) == 4
    for row in failed:
        assert (row.status, row.return_mean, row.score, row.episode_returns) == ("failed", None, None, [])
    assert broken.checkpoints.finished.keys() == good.checkpoints.finished.keys()


def test_a_saved_state_acts_the_same_in_other_agents() -> None:
    training, dataset = train("td3_bc", [0, 9]), small_dataset()
    config, (first, second) = training.job.config, training.checkpoints.finished.values()

    def agents(seeds: list[int], states: list) -> Agents:
        environment = environments.of(dataset)
        count, device = len(seeds), torch.device("cpu")
        created = Agents(training.job.algorithm, [config] * count, [environment] * count, seeds, 62, device)
        created.load_states(states)
        return created

    both, one = agents([0, 9], [first[0], second[0]]), agents([9], second)
    observations = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
    actions = both.act(np.concatenate([observations, observations]))
    np.testing.assert_array_equal(one.act(observations)[0], actions[1])
    group = AgentGroup(both, slice(1, 2))
    assert group.seeds == (9,)
    np.testing.assert_array_equal(group.act(observations)[0], actions[1])
    assert equal_tensors(group.states(), second)


def test_the_time_of_an_update_is_shared_by_the_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))

    class Slow(Updater):
        def update(self, indices) -> None:
            super().update(indices)
            for _ in range(9):
                next(clock)

    monkeypatch.setattr(trainer_module, "make_updater", Slow)
    monkeypatch.setattr(trainer_module.time, "perf_counter", lambda: next(clock))
    one, two = (small_dataset(name, seed=seed) for seed, name in enumerate(("one", "two")))
    training = Training(make_job("bc", [(one, [3, 1]), (two, [4])]), [one, two]).train()
    for run in training.job.runs:
        rows = training.checkpoints.rows[run]
        assert rows[-1].updates == 62
        # An update takes 10 ticks, of which each of the three replicas has a third.
        assert sum(row.train_seconds for row in rows) >= 62 * 10 / 3
    assert sum(row.train_seconds + row.eval_seconds for row in training.rows) < next(clock)


def test_the_evaluators_see_what_is_visible() -> None:
    """In the order of arrival, in the rows of a buffer of several datasets."""
    one, two = (small_dataset(name, seed=seed) for seed, name in enumerate(("one", "two")))
    training = Training(make_job("bc", [(one, [3]), (two, [1, 3])]), [one, two])
    seen = []
    with training.trainer() as trainer:
        submit = trainer.runner.submit

        def watched(dataset, agents, visible) -> None:
            seen.append((dataset, agents.seeds, visible.samples))
            for replica, (seed, samples) in enumerate(zip(agents.seeds, visible.samples, strict=True)):
                rows = visible.rows(replica)
                expected = stream(seed, "order").permutation(120)[:samples] + (dataset == "two") * 120
                np.testing.assert_array_equal(rows, expected)
                data = {"one": one, "two": two}[dataset]
                logged = data.observations[rows - (dataset == "two") * 120]
                np.testing.assert_array_equal(visible.buffer.observations[rows], logged)
            submit(dataset, agents, visible)

        trainer.runner.submit = watched
        list(trainer.train())
    assert seen == [
        entry for n in (30, 60, 90, 120) for entry in (("one", (3,), (n,)), ("two", (1, 3), (n, n)))
    ]


@pytest.mark.parametrize("block", [1, 7])
def test_the_size_of_a_block_of_indices_changes_no_number(monkeypatch: pytest.MonkeyPatch, block) -> None:
    expected = train("td3_bc", [3, 1]).outcome()
    monkeypatch.setattr("seqeval.replay.indices.BLOCK", block)
    assert train("td3_bc", [3, 1]).outcome() == expected


def test_a_trainer_that_is_asked_to_stop_saves_and_ends() -> None:
    dataset = small_dataset()
    training = Training(make_job("bc", [(dataset, [0, 1])], evaluation=POINTS), [dataset])
    training.checkpoints.must_stop = lambda updates: updates >= 23
    with training.trainer() as trainer:
        assert isinstance(trainer, Trainer)
        for row in trainer.train():
            training.checkpoints.append(row)
    assert training.checkpoints.history == [("save", 23, training.job.runs)]
    training.checkpoints.must_stop = lambda updates: False
    assert training.train().outcome() == train("bc", [0, 1]).outcome()


def test_invalid_protocols_are_refused() -> None:
    for name, value in {"start": 0, "grow_by": 0, "updates_per_growth": 0, "window": -3}.items():
        with pytest.raises(UserError, match=rf"protocol\.{name}: must be at least 1, not {value}"):
            Protocol(**{name: value})
    with pytest.raises(UserError, match=r"evaluation\.points"):
        Evaluation(points=0)
    with pytest.raises(UserError, match=r"protocol\.start: "):
        train("bc", [0], protocol=Protocol(start=121))
    assert "may never be used" in Protocol(grow_by=9).warnings(8)[0]
    assert Protocol(grow_by=9, updates_per_growth=2).warnings(8) == []
