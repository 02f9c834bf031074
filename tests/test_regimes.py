"""The regimes other than `stream`, and the presets: what each sees, and that only `paper` leaks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_dataset
from hypothesis import given
from hypothesis import strategies as st
from training_setup import (
    BUILT_IN,
    ONE_POINT,
    Training,
    equal_tensors,
    make_job,
    poisoned,
    small_dataset,
    train,
    without_predictions,
    without_seconds,
)

from seqeval.config import PRESETS, Protocol
from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.slicing import Steps, Stream, arrival_order, size_grid
from seqeval.training import trainer
from seqeval.types import Dataset

RETRAIN = Protocol(regime="retrain", start=30, sizes=4, updates_per_size=12)
WARM = replace(RETRAIN, regime="warm")


def shuffled(dataset: Dataset) -> np.ndarray:
    """Seed 3's order of arrival."""
    rng = stream(3, "order")
    return arrival_order("shuffled", rng, dataset.episode, dataset.episode_returns, dataset.segments)


def test_size_grids_by_hand() -> None:
    assert size_grid(10, 100, 4, "linear") == (10, 40, 70, 100)
    assert size_grid(1, 1000, 4, "geometric") == (1, 10, 100, 1000)
    assert size_grid(10, 100, 1, "linear") == (100,)
    assert size_grid(1, 5, 5, "geometric") == (1, 2, 3, 4, 5)
    with pytest.raises(UserError, match=r"protocol\.sizes: no 7 different sizes lie between start = 5"):
        size_grid(5, 10, 7, "linear")


@given(st.integers(1, 50), st.integers(0, 300), st.integers(2, 20), st.sampled_from(["linear", "geometric"]))
def test_size_grids_increase_from_the_start_to_all_data(first: int, more: int, count: int, spacing) -> None:
    if count > more + 1:
        return
    sizes = size_grid(first, first + more, count, spacing)
    assert (sizes[0], sizes[-1], len(sizes)) == (first, first + more, count)
    assert all(a < b for a, b in pairwise(sizes))


def test_steps_by_hand() -> None:
    schedule = Steps((3, 8), updates_per_size=2, window=4)
    assert (schedule.updates, schedule.points(20), schedule.refreshes(20)) == (
        4,
        [(2, 3), (4, 8)],
        [(0, 3), (2, 8)],
    )
    drawn = schedule.positions(0, 4, np.random.default_rng(0), 500)
    assert [sorted(set(row.tolist())) for row in drawn] == [[0, 1, 2]] * 2 + [[4, 5, 6, 7]] * 2


def test_counted_from_zero_by_hand() -> None:
    # N = 20, T0 = 10, γ = 3: A = 4 and 5 rounds, but ⌈20/3⌉ = 7 counted from zero; two more at N.
    schedule = Stream(20, 10, 3, 2, None, counted_from_zero=True)
    assert schedule.updates == 14
    assert schedule.points(2) == [(2, 10), (6, 16), (14, 20)]
    assert schedule.points(20, every=4) == [(2, 10), (6, 16), (8, 19), (14, 20)]
    assert schedule.positions(10, 14, np.random.default_rng(0), 400).max() == 19


def test_retrain_trains_fresh_agents_at_each_size() -> None:
    training = train("td3_bc", [5, 2], protocol=RETRAIN, evaluation=ONE_POINT)
    assert [(r.seed, r.samples, r.updates, r.regime) for r in training.rows] == [
        (seed, n, 12, "retrain") for seed in (5, 2) for n in (30, 60, 90, 120)
    ]
    # With all of the data it trains what `full` trains.
    full = train("td3_bc", [2], protocol=replace(RETRAIN, regime="full"), evaluation=ONE_POINT)
    assert [without_seconds(row) | {"regime": "retrain"} for row in full.rows] == [
        without_seconds(training.rows[-1])
    ]
    run = training.job.runs[1]
    assert equal_tensors(training.checkpoints.finished[run][-1], full.checkpoints.finished[run][0])


def test_each_size_of_retrain_has_first_weights_of_its_own() -> None:
    job = make_job("td3_bc", [(small_dataset(), [5, 2])], protocol=RETRAIN)
    weights = job.create_agents(torch.device("cpu")).algorithm.actor.weights[0]
    assert len(weights) == 8
    assert all(not torch.equal(weights[i], weights[j]) for i in range(8) for j in range(i))
    (replica,) = make_job("td3_bc", [(small_dataset(), [5])]).replicas  # stream
    assert replica.agent_seed == 5


@pytest.mark.parametrize("protocol", [RETRAIN, WARM], ids=["retrain", "warm"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_rows_and_weights_of_a_seed_do_not_depend_on_the_other_seeds(name: str, protocol: Protocol) -> None:
    together = train(name, [4, 0, 11], protocol=protocol)
    for run in together.job.runs:
        assert together.outcome(run) == train(name, [run.seed], protocol=protocol).outcome()


def test_in_retrain_a_size_does_not_depend_on_the_other_sizes() -> None:
    """A replica of one size has the same row and weights as in a job of its own."""
    together = train("iql", [4], protocol=RETRAIN)
    dataset = small_dataset()
    for place, replica in enumerate(together.job.replicas):
        alone = Training(together.job.with_replicas([replica]), [dataset]).train()
        (run,) = together.job.runs
        assert without_seconds(alone.rows[0]) == without_seconds(together.rows[place])
        assert equal_tensors(alone.checkpoints.finished[run], together.checkpoints.finished[run][place])


def test_warm_continues_from_the_previous_size() -> None:
    rows = train("iql", [5], protocol=WARM, evaluation=ONE_POINT).rows
    assert [(r.samples, r.updates) for r in rows] == [(30, 12), (60, 24), (90, 36), (120, 48)]
    first = train("iql", [5], protocol=RETRAIN, evaluation=ONE_POINT).rows
    assert without_seconds(rows[0]) | {"regime": "retrain"} == without_seconds(first[0])
    assert rows[1].metrics != first[1].metrics


def test_warm_refreshes_the_normalizer_at_each_size() -> None:
    dataset, protocol = small_dataset(), replace(WARM, order="logged", window=25)
    with Training(make_job("td3_bc", [(dataset, [0])], protocol), [dataset]).trainer() as trainer:
        for row in trainer.train():
            visible = dataset.observations[row.samples - 25 : row.samples]
            np.testing.assert_allclose(trainer.agents.normalizer.mean[0, 0], visible.mean(0), atol=1e-6)


def test_each_replica_of_retrain_has_a_normalizer_of_its_own() -> None:
    dataset, protocol = small_dataset(), replace(RETRAIN, order="logged")
    with Training(make_job("td3_bc", [(dataset, [0])], protocol), [dataset]).trainer() as trainer:
        list(trainer.train())
        for place, size in enumerate((30, 60, 90, 120)):
            mean = trainer.agents.normalizer.mean[place, 0]
            np.testing.assert_allclose(mean, dataset.observations[:size].mean(0), atol=1e-6)


def test_the_paper_preset_leaks_what_it_declares_and_strict_does_not() -> None:
    clean = small_dataset()
    spoiled = poisoned("td3_bc", clean, shuffled(clean), 60, 50.0)
    for preset, same in (("strict", True), ("paper", False)):
        protocol = replace(PRESETS[preset][0], start=30, grow_by=3)
        first = [
            without_predictions(train("td3_bc", [3], dataset, protocol, evaluation=ONE_POINT).rows[0])
            for dataset in (clean, spoiled)
        ]
        assert (first[0] == first[1]) == same


def test_the_reward_scale_of_paper_is_that_of_the_full_dataset() -> None:
    hopper = replace(make_dataset(), env_id="Hopper-v4")
    span = hopper.episode_returns.max() - hopper.episode_returns.min()
    config = type("Config", (), {"scale_rewards": True})()
    assert trainer.reward_scale(config, hopper, PRESETS["paper"][0]).factor == pytest.approx(1000 / span)
    assert trainer.reward_scale(config, hopper, PRESETS["strict"][0]).factor == pytest.approx(1000 / 900)


def test_adam_with_decay_equals_that_of_torch_with_a_schedule(float64: None) -> None:
    from seqeval.algos._optim import Adam, cosine_decay

    ours_parameters, theirs_parameters = (
        torch.nn.ParameterList([torch.linspace(-1, 1, 6).view(2, 3)]) for _ in range(2)
    )
    ours = Adam(ours_parameters, 0.1, decay_over=5)
    theirs = torch.optim.Adam(theirs_parameters.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(theirs, lambda made: cosine_decay(made + 1, 5))
    for step in range(5):
        ours.minimize((ours_parameters[0] - step).square().sum(1))
        theirs.zero_grad()
        (theirs_parameters[0] - step).square().sum().backward()
        theirs.step()
        schedule.step()
        torch.testing.assert_close(ours_parameters[0], theirs_parameters[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bc", "iql"])
def test_learning_rates_decay_to_zero_by_a_cosine(name: str) -> None:
    from seqeval.algos._optim import cosine_decay

    assert [cosine_decay(u, 4) for u in (1, 3)] == [1.0, pytest.approx(0.5)]
    assert cosine_decay(1000, 1000) < 1e-5
    protocol, dataset = Protocol(regime="full", updates_per_size=30), small_dataset()
    moved = {}
    for decay in (False, True):
        job = make_job(name, [(dataset, [0])], protocol, decay_learning_rate=decay)
        with Training(job, [dataset]).trainer() as trainer:
            actor = trainer.agents.algorithm.actor
            before = [p.clone() for p in actor.parameters()]
            list(trainer.train())
            pairs = zip(actor.parameters(), before, strict=True)
            moved[decay] = sum(float((a - b).detach().abs().sum()) for a, b in pairs)
    assert 0 < moved[True] < 0.9 * moved[False]
