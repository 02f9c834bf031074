"""Sampling from the best of the complete episodes that are visible, against a slow reference; refusals of
orders and data without complete episodes; and algorithms that learn online only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_dataset
from hypothesis import given
from hypothesis import strategies as st
from test_samplers import episodes
from training_setup import STREAM, Training, make_job, small_dataset, train

from seqeval.config import Online, Protocol, Study
from seqeval.errors import UserError
from seqeval.execution.jobs import resolve
from seqeval.replay.episodes import BestEpisodes
from seqeval.seeding import stream
from seqeval.slicing import Stream, arrival_order
from seqeval.types import Dataset


def best_rows(dataset: Dataset, seen: list[int], share: float) -> set[int]:
    """The rows that may be sampled when `seen` have arrived, in plain Python."""
    complete = []
    for episode in range(int(dataset.episode[-1]) + 1):
        rows = [row for row in range(len(dataset)) if dataset.episode[row] == episode]
        ends = rows and (dataset.terminated[rows[-1]] or dataset.truncated[rows[-1]])
        if ends and set(rows) <= set(seen):
            complete.append((-float(dataset.episode_returns[episode]), episode, rows))
    best = sorted(complete)[: max(1, int(share * len(complete)))]
    return {row for _, _, rows in best for row in rows}


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["terminated", "truncated", "open"])), min_size=2),
    st.sampled_from(["shuffled", "episodes", "logged", "return"]),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([None, 8, 12]),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_sampled_rows_are_those_of_the_best_visible_episodes(
    ends, order, share: float, window: int | None, grow_by: int, seed: int
) -> None:
    data = episodes([length for length, _ in ends], [end for _, end in ends])
    returns = np.random.default_rng(seed).integers(0, 3, len(ends)).astype(np.float64)  # many ties
    data = replace(data, episode_returns=returns)
    rng = np.random.default_rng(seed)
    arrival = arrival_order(order, rng, data.episode, returns, (len(data),))
    schedule = Stream(len(data), max(1, len(data) // 2), grow_by, 2, window)
    expected = []
    for update in range(schedule.updates):
        visible = int(schedule.visible_at(np.array([update]))[0])
        seen = arrival[max(0, visible - (window or visible)) : visible].tolist()
        expected.append(best_rows(data, seen, share))
    offset = np.int32(7)  # in a buffer behind another dataset
    if not all(expected):
        with pytest.raises(UserError, match="no complete episode is visible"):
            BestEpisodes(share, schedule, arrival + offset, data, 7)
        return
    source = BestEpisodes(share, schedule, arrival + offset, data, 7)
    positions = source.positions(0, schedule.updates, np.random.default_rng(1), 60)
    for rows, allowed in zip(arrival[positions], expected, strict=True):
        assert set(rows.tolist()) <= allowed
        if len(allowed) <= 5:
            assert set(rows.tolist()) == allowed
    # How updates are divided into calls does not matter.
    rng, parts = np.random.default_rng(1), []
    for first in range(0, schedule.updates, 3):
        parts.append(source.positions(first, min(first + 3, schedule.updates), rng, 60))
    np.testing.assert_array_equal(np.concatenate(parts), positions)


def test_the_best_tenth_by_hand() -> None:
    """Twenty episodes of three steps that arrive as logged, each better than the one before."""
    data = replace(episodes([3] * 20, ["terminated"] * 20), episode_returns=np.arange(20.0))
    schedule = Stream(60, 3, 1, 1, None)
    source = BestEpisodes(0.1, schedule, np.arange(60, dtype=np.int32), data)
    rows = source.positions(0, schedule.updates, stream(0, "test"), 200)
    seen = [sorted(set(row.tolist())) for row in rows]
    assert seen[0] == [0, 1, 2]
    assert seen[1] == seen[2] == [0, 1, 2]  # the second episode is not complete
    assert seen[3] == [3, 4, 5]
    assert seen[-1] == [54, 55, 56, 57, 58, 59]  # two of twenty


def test_bc10_imitates_the_episodes_that_it_samples() -> None:
    """With a share of 1, nothing but the best of the visible episodes enters the loss."""
    clean = small_dataset()
    protocol = replace(STREAM, order="logged")
    worst = int(np.argmin(clean.episode_returns[:3]))
    spoiled = clean.actions.copy()
    spoiled[clean.episode == worst] = 0.123
    for share, same in ((0.4, True), (1.0, False)):
        losses = [
            train("bc10", [0], data, protocol, share=share).rows[0].metrics["loss"]
            for data in (clean, replace(clean, actions=spoiled))
        ]
        assert (losses[0] == losses[1]) == same


@pytest.mark.parametrize("kills", [{5}, {11, 40}, {61}])
def test_a_killed_run_samples_what_an_uninterrupted_one_does(kills: set[int]) -> None:
    job = make_job("bc10", [(small_dataset(), [3, 1])], replace(STREAM, order="episodes", window=60))
    data = [small_dataset()]
    assert Training(job, data).train(kills).outcome() == Training(job, data).train().outcome()


@pytest.mark.parametrize("name", ["bc10", "dt:target_returns=(1,)", "qc_fql"])
@pytest.mark.parametrize(("order", "other"), [("shuffled", "episodes"), ("segments", "segments-by-episode")])
def test_orders_in_which_episodes_arrive_piecemeal_are_refused(name: str, order, other: str) -> None:
    study = Study(("pendulum-replay",), (name,), protocol=Protocol(order=order))
    with pytest.raises(UserError, match=f"the order {order}; use --protocol.order {other}$"):
        resolve(study)


def test_a_start_without_a_complete_episode_is_refused_before_training() -> None:
    study = Study(("pendulum-replay",), ("bc10",), protocol=Protocol(order="episodes", start=50))
    with pytest.raises(UserError, match=r"visible at 199 transitions; raise protocol\.start above 199"):
        resolve(study)
    resolve(replace(study, protocol=Protocol(order="episodes", start=1000)))


def test_data_without_the_end_of_an_episode_is_refused() -> None:
    data = episodes([9], ["open"])
    with pytest.raises(UserError, match="the file has no next_observations, or"):
        BestEpisodes(0.1, Stream(9, 5, 1, 1, None), np.arange(9, dtype=np.int32), data)


# --- learning online only, and the settings of an algorithm's authors ---


def test_an_algorithm_that_learns_online_only_starts_at_the_end_of_the_data() -> None:
    online = Online(steps=6)
    rows = train("rlpd", [3], online=online).rows
    assert [(row.phase, row.samples, row.env_steps, row.updates) for row in rows] == [
        ("online", 120, 0, 0),
        ("online", 122, 2, 40),
        ("online", 124, 4, 80),
        ("online", 126, 6, 120),
    ]
    assert rows[0].metrics == {}
    fewer = train("rlpd", [3], online=Online(steps=6, updates_per_step=2, mix=0.25)).rows
    assert [row.updates for row in fewer] == [0, 4, 8, 12]
    assert fewer[0].episode_returns == rows[0].episode_returns


def test_settings_given_by_the_user_win_over_those_of_the_authors() -> None:
    def online(name: str, given: Online) -> tuple:
        schedule = make_job(name, [(small_dataset(), [0])], online=given).online_schedule
        found = schedule(make_job(name, [(small_dataset(), [0])], online=given).replicas[0])
        return found.updates_per_step, found.share

    assert online("rlpd", Online(steps=5)) == (20, 0.5)
    assert online("cal_ql", Online(steps=5)) == (1, 0.5)
    assert online("iql", Online(steps=5)) == (1, None)
    assert online("rlpd", Online(steps=5, updates_per_step=3, mix="uniform")) == (3, None)
    assert online("rlpd", Online()) == (1, None)


def test_resolved_online_settings_are_recorded_and_noted() -> None:
    study = Study(("pendulum-replay",), ("rlpd", "iql", "bc"), online=Online(steps=100))
    resolved = resolve(study)
    recorded = resolved.describe()["algorithms"]
    assert recorded["rlpd"]["online"] == {"steps": 100, "updates_per_step": 20, "mix": 0.5}
    assert recorded["iql"]["online"] == {"steps": 100, "updates_per_step": 1, "mix": "uniform"}
    assert "online" not in recorded["bc"]
    assert [note for note in resolved.notes if note.startswith("rlpd: online")] == [
        "rlpd: online, 20 updates after each step; minibatches are 50 % online data"
    ]


def test_an_algorithm_that_learns_online_only_is_refused_without_an_online_phase() -> None:
    with pytest.raises(UserError, match=r"rlpd: learns online only, .* set online\.steps"):
        resolve(Study(("pendulum-replay",), ("rlpd",)))


def test_without_data_nothing_is_mixed() -> None:
    job = make_job("rlpd", [(make_dataset(), [0])], online=Online(steps=5))
    assert job.study.online.with_defaults(20, 0.5).schedule(0, None).share is None
