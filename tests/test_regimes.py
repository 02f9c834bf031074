"""Regimes beside `stream`, and presets: what each sees, and that only `paper` leaks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_dataset
from hypothesis import given
from hypothesis import strategies as st
from test_protocol import LABELS, NAMES, run, start, timeless, weights

from seqeval.config import PRESETS, Evaluation, Protocol
from seqeval.errors import UserError
from seqeval.seeding import stream
from seqeval.slicing import Steps, Stream, arrival_order, size_grid
from seqeval.training import trainer
from seqeval.types import Dataset

ONCE = Evaluation(points=1, episodes=1)
RETRAIN = Protocol(regime="retrain", start=30, sizes=4, updates_per_size=12)
WARM = replace(RETRAIN, regime="warm")


def shuffled(dataset: Dataset) -> np.ndarray:
    """Seed 3's order of arrival."""
    rng = stream(3, "order")
    return arrival_order("shuffled", rng, dataset.episode, dataset.episode_returns, dataset.segments)


def poisoned(clean: Dataset, rows: np.ndarray, value: float) -> Dataset:
    """The dataset with some transitions overwritten."""
    fields = {}
    for field in ("observations", "actions", "rewards", "next_observations"):
        fields[field] = getattr(clean, field).copy()
        fields[field][rows] = value
    return replace(clean, **fields)


def test_size_grids_by_hand() -> None:
    assert size_grid(10, 100, 4, "linear") == (10, 40, 70, 100)
    assert size_grid(1, 1000, 4, "geometric") == (1, 10, 100, 1000)
    assert size_grid(10, 100, 1, "linear") == (100,)
    assert size_grid(1, 5, 5, "geometric") == (1, 2, 3, 4, 5)
    with pytest.raises(UserError, match=r"protocol\.sizes: no 7 different sizes lie between start = 5"):
        size_grid(5, 10, 7, "linear")


@given(st.integers(1, 50), st.integers(0, 300), st.integers(2, 20), st.sampled_from(["linear", "geometric"]))
def test_size_grids_increase_from_start_to_all(first: int, more: int, count: int, spacing) -> None:
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


def test_retrain_is_a_fresh_agent_at_each_size_and_nothing_else() -> None:
    rows, agents = run("td3_bc", [5, 2], settings=RETRAIN, evaluation=ONCE)
    assert [(r.seed, r.samples, r.updates, r.regime) for r in rows] == [
        (seed, n, 12, "retrain") for seed in (5, 2) for n in (30, 60, 90, 120)
    ]
    # At all of the data it is what `full` trains.
    full, agent = run("td3_bc", [2], settings=replace(RETRAIN, regime="full"), evaluation=ONCE)
    assert [timeless(row) | {"regime": "retrain"} for row in full] == [timeless(rows[-1])]
    assert all(map(torch.equal, weights(agents, 7), weights(agent, 0)))


def test_warm_goes_on_from_the_size_before() -> None:
    rows, _ = run("iql", [5], settings=WARM, evaluation=ONCE)
    assert [(r.samples, r.updates) for r in rows] == [(30, 12), (60, 24), (90, 36), (120, 48)]
    first, _ = run("iql", [5], settings=RETRAIN, evaluation=ONCE)
    assert timeless(rows[0]) | {"regime": "retrain"} == timeless(first[0])
    assert timeless(rows[1])["metrics"] != timeless(first[1])["metrics"]


def test_warm_refreshes_the_normaliser_at_each_size() -> None:
    dataset, settings = make_dataset(), replace(WARM, order="logged", window=25)
    agents = start("td3_bc", [0], dataset, settings)
    for row in trainer.run(agents, dataset, settings, ONCE, LABELS):
        seen = dataset.observations[row.samples - 25 : row.samples]
        np.testing.assert_allclose(agents.observations.mean[0, 0], seen.mean(0), atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, 1e30])
@pytest.mark.parametrize("settings", [RETRAIN, WARM], ids=["retrain", "warm"])
@pytest.mark.parametrize("name", NAMES)
def test_what_has_not_arrived_changes_nothing(name: str, settings: Protocol, poison: float) -> None:
    clean = make_dataset()
    order = shuffled(clean)
    rows, _ = run(name, [3], clean, settings, ONCE)
    spoilt, _ = run(name, [3], poisoned(clean, order[90:], poison), settings, ONCE)
    assert [timeless(row) for row in spoilt[:3]] == [timeless(row) for row in rows[:3]]
    assert rows[2].samples == 90
    assert timeless(spoilt[3]) != timeless(rows[3])


def test_the_paper_preset_leaks_what_it_declares_and_strict_does_not() -> None:
    clean = make_dataset()
    order = shuffled(clean)
    spoilt = poisoned(clean, order[60:], 50.0)
    for preset, same in (("strict", True), ("paper", False)):
        settings = replace(PRESETS[preset][0], start=30, grow_by=3)
        first = []
        for dataset in (clean, spoilt):
            agents = start("td3_bc", [3], dataset, settings)
            first.append(timeless(next(trainer.run(agents, dataset, settings, ONCE, LABELS))))
        assert (first[0] == first[1]) == same


def test_the_papers_reward_scale_is_of_the_full_dataset() -> None:
    hopper = replace(make_dataset(), env_id="Hopper-v4")
    span = hopper.episode_returns.max() - hopper.episode_returns.min()
    config = type("Config", (), {"scale_rewards": True})()
    assert trainer.reward_scale(config, hopper, PRESETS["paper"][0]).factor == pytest.approx(1000 / span)
    assert trainer.reward_scale(config, hopper, PRESETS["strict"][0]).factor == pytest.approx(1000 / 900)


def test_a_decaying_adam_is_torchs_with_a_schedule(float64: None) -> None:
    from seqeval.algos._optim import Adam, cosine_decay

    mine, its = (torch.nn.ParameterList([torch.linspace(-1, 1, 6).view(2, 3)]) for _ in range(2))
    ours = Adam(mine, 0.1, decay_over=5)
    theirs = torch.optim.Adam(its.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(theirs, lambda made: cosine_decay(made + 1, 5))
    for step in range(5):
        ours.minimize((mine[0] - step).square().sum(1))
        theirs.zero_grad()
        (its[0] - step).square().sum().backward()
        theirs.step()
        schedule.step()
        torch.testing.assert_close(mine[0], its[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bc", "iql"])
def test_learning_rates_decay_by_a_cosine_to_nothing(name: str) -> None:
    from seqeval.algos._optim import cosine_decay

    assert [cosine_decay(u, 4) for u in (1, 3)] == [1.0, pytest.approx(0.5)]
    assert cosine_decay(1000, 1000) < 1e-5
    settings = Protocol(regime="full", updates_per_size=30)
    moved = {}
    for decay in (False, True):
        dataset = make_dataset()
        agents = start(name, [0], dataset, settings)
        fixed = agents.algorithm
        config = replace(fixed.config, decay_learning_rate=decay)
        algorithm = type(fixed)(fixed.spec, config, fixed.seeds, fixed.total_updates, fixed.device)
        agents.algorithm = algorithm
        before = [p.clone() for p in algorithm.actor.parameters()]
        list(trainer.run(agents, dataset, settings, ONCE, LABELS))
        after = algorithm.actor.parameters()
        moved[decay] = sum(float((a - b).detach().abs().sum()) for a, b in zip(after, before, strict=True))
    assert 0 < moved[True] < 0.9 * moved[False]
