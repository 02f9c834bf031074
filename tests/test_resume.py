"""A run that is interrupted and resumed is the uninterrupted run, to the last bit."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_setup import (
    BUILT_IN,
    LEARN_OFFLINE,
    NO_ONLINE,
    POINTS,
    SHORT_EPISODES,
    Training,
    make_job,
    small_dataset,
    through_file,
    without_seconds,
)

from seqeval import plugins
from seqeval.config import Evaluation, Online, Protocol
from seqeval.datasets import load
from seqeval.training.job import Job
from seqeval.training.online import EnvironmentFailed
from seqeval.types import Dataset

STREAM = Protocol(start=20, grow_by=7)  # on 120 transitions: 16 updates
ONLINE = Online(steps=9, updates_per_step=2)  # 18 more
REGIMES = {
    "stream": STREAM,
    "stream, full normalizer": replace(STREAM, normalizer="full"),
    "retrain": Protocol(regime="retrain", start=20, sizes=3, updates_per_size=5),
    "warm": Protocol(regime="warm", start=20, sizes=3, updates_per_size=5),
    "full": Protocol(regime="full", updates_per_size=9),
}


def training(
    name: str,
    protocol: Protocol = STREAM,
    online: Online = NO_ONLINE,
    dataset: Dataset | None = None,
    seeds: tuple[int, ...] = (3, 1),
    delay: int | None = None,
    evaluation: Evaluation = POINTS,
) -> Training:
    """With `delay` evaluations run in parallel with training, for so many updates."""
    dataset = small_dataset() if dataset is None else dataset
    made = Training(make_job(name, [(dataset, seeds)], protocol, online, evaluation), [dataset])
    if delay is not None:
        made.make_runner = partial(made.delayed, delay=delay)
    return made


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", LEARN_OFFLINE)
def test_an_offline_run_resumes_exactly(name: str, regime: str) -> None:
    whole = training(name, REGIMES[regime]).train()
    assert len(whole.rows) >= 2
    resumed = training(name, REGIMES[regime]).train({2, 5, 6, 9, 14})
    assert len(resumed.jobs) >= 3
    assert resumed.outcome() == whole.outcome()


@pytest.mark.parametrize("name", [*BUILT_IN, "sb3:TD3"])
@pytest.mark.parametrize("mix", ["uniform", 0.5])
def test_an_online_run_resumes_exactly(name: str, mix: Any) -> None:
    online = replace(ONLINE, mix=mix)
    whole = training(name, online=online).train()
    phases = {"offline", "online"} if plugins.find(name).learns_offline else {"online"}
    assert {row.phase for row in whole.rows} == phases
    resumed = training(name, online=online).train({16, 17, 22, 23, 30, 34})
    assert resumed.outcome() == whole.outcome()


def test_a_run_without_data_and_with_discrete_actions_resumes_exactly() -> None:
    dataset, online = load("none", "CartPole-v1?max_episode_steps=9"), Online(steps=60)
    whole = training("sb3:DQN", Protocol(), online, dataset).train()
    resumed = training("sb3:DQN", Protocol(), online, dataset).train({1, 20, 41, 60})
    assert resumed.outcome() == whole.outcome()
    assert [(row.phase, row.samples) for row in whole.rows[:4]] == [("online", n) for n in (0, 20, 40, 60)]


UNINTERRUPTED: dict[int | None, Any] = {}


@settings(max_examples=25)
@given(st.sets(st.integers(1, 34), min_size=1, max_size=6), st.sampled_from([None, 0, 4, 50]))
def test_a_run_resumes_exactly_wherever_and_however_often_it_is_killed(kills: set[int], delay) -> None:
    if not UNINTERRUPTED:
        UNINTERRUPTED[None] = training("td3_bc", online=ONLINE).train().outcome()
    resumed = training("td3_bc", online=ONLINE, delay=delay).train(kills)
    assert resumed.outcome() == UNINTERRUPTED[None]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("delay", [0, 4, 50])
def test_rows_that_are_pending_at_an_interruption_are_stored_once(regime: str, delay: int) -> None:
    whole = training("td3_bc", REGIMES[regime]).train().outcome()
    assert training("td3_bc", REGIMES[regime], delay=delay).train().outcome() == whole
    resumed = training("td3_bc", REGIMES[regime], delay=delay).train({2, 5, 6, 9, 14, 15})
    assert resumed.outcome() == whole


@pytest.mark.parametrize("name", ["td3_bc", "bc"])
@pytest.mark.parametrize("delay", [0, 4, 50])
def test_online_rows_that_are_pending_are_stored_once(name: str, delay: int) -> None:
    whole = training(name, online=ONLINE).train().outcome()
    kills = {6, 15, 16, 17, 18, 22, 23, 30, 34}
    assert training(name, online=ONLINE, delay=delay).train().outcome() == whole
    assert training(name, online=ONLINE, delay=delay).train(kills).outcome() == whole


@pytest.mark.parametrize("delay", [0, 4, 50])
def test_pending_rows_of_a_run_without_data_are_stored_once(delay: int) -> None:
    nothing = load("none", SHORT_EPISODES)
    whole = training("td3_bc", Protocol(), ONLINE, nothing).train().outcome()
    resumed = training("td3_bc", Protocol(), ONLINE, nothing, delay=delay)
    assert resumed.train({1, 3, 9, 16}).outcome() == whole


@pytest.mark.parametrize("delay", [None, 0, 4, 50])
@pytest.mark.parametrize("online", [NO_ONLINE, ONLINE], ids=["offline", "online"])
def test_a_run_that_is_asked_to_stop_saves_itself_after_that_update(online: Online, delay) -> None:
    """Also while it waits for an evaluation, and at the end of a phase."""
    whole = training("iql", online=online).train().outcome()
    stopped = training("iql", online=online, delay=delay)
    store, stops = stopped.checkpoints, list(range(1, 34, 3))
    while (jobs := stopped.remaining_jobs()) and stops:
        stop = stops.pop(0)
        store.must_stop = lambda updates, stop=stop: updates >= stop
        stopped._train(jobs[0])
        if store.finished:
            break
        assert {saved.updates for saved in store.saved.values()} == {stop}
    store.must_stop = lambda updates: False
    assert stopped.train().outcome() == whole


@pytest.mark.parametrize("request_number", range(2, 110, 9))
def test_nothing_is_lost_whenever_a_run_is_asked_to_stop(request_number: int) -> None:
    """The request may come at any time, also between a checkpoint and the end of the loop."""
    stopped = training("bc", online=ONLINE, delay=4)
    store, asked = stopped.checkpoints, iter(range(1, 10**6))
    store.must_stop = lambda updates: next(asked) >= request_number
    with stopped.trainer() as trainer:
        for row in trainer.train():
            store.append(row)
    if not store.finished:
        assert {saved.updates for saved in store.saved.values()} == {trainer.updates}
        assert all(saved.rows == len(store.rows[run]) for run, saved in store.saved.items())
    store.must_stop = lambda updates: False
    assert stopped.train().outcome() == training("bc", online=ONLINE).train().outcome()


def test_an_evaluation_is_at_most_one_point_behind_and_costs_no_training_time() -> None:
    # Metrics of the data are measured in the training process, and count as evaluation too.
    episodes = Evaluation(points=3, episodes=1, metrics=("episodes",))
    delayed = training("td3_bc", delay=10**3, seeds=(0, 4), evaluation=episodes)
    seen = []
    with delayed.trainer() as trainer:
        collect = trainer.runner.collect

        def slow(seconds: float) -> Any:
            time.sleep(0.0002 if seconds else 0)
            return collect(seconds)

        trainer.runner.collect = slow
        for row in trainer.train():
            seen.append((row.samples, trainer.updates))
            assert 1.0 <= row.eval_seconds < 1.5  # its share of two seconds, and of measuring nothing else
            assert 0 < row.train_seconds < 0.5
    points = sorted({samples for samples, _ in seen})
    assert [samples for samples, _ in seen] == [n for n in points for _ in range(2)]
    # The rows of a point are there when the next one is due, and those of the last at the end.
    due = {row.samples: row.updates for row in training("td3_bc").train().rows}
    following = dict(zip(points, [due[n] for n in points[1:]] + [16], strict=True))
    assert all(updates <= following[samples] for samples, updates in seen)
    assert seen[-1][1] == 16


def saved_after(name: str, seeds: tuple[int, ...], updates: int) -> Training:
    """A training that has saved itself after so many updates and has ended."""
    stopped = training(name, online=ONLINE, seeds=seeds)
    stopped.checkpoints.must_stop = lambda made: made >= updates
    with stopped.trainer() as trainer:
        for row in trainer.train():
            stopped.checkpoints.append(row)
    stopped.checkpoints.must_stop = lambda made: False
    return stopped


@pytest.mark.parametrize("updates", [9, 16, 20])
def test_seeds_saved_together_resume_solo_and_the_other_way_round(updates: int) -> None:
    whole = training("iql", online=ONLINE, seeds=(4, 5)).train()
    together = saved_after("iql", (4, 5), updates)
    solo = [saved_after("iql", (seed,), updates) for seed in (4, 5)]
    for one in solo:
        (run,) = one.job.runs
        one.checkpoints.saved = {run: together.checkpoints.saved[run]}
    joined = training("iql", online=ONLINE, seeds=(4, 5))
    for one in solo:
        fresh = saved_after("iql", (one.job.runs[0].seed,), updates)
        joined.checkpoints.saved |= fresh.checkpoints.saved
        joined.checkpoints.rows |= fresh.checkpoints.rows
    assert joined.train().outcome() == whole.outcome()
    assert [job.done for job in joined.jobs] == [updates]
    for one in solo:
        assert one.train().outcome() == whole.outcome(one.job.runs[0])


def test_an_environment_that_does_not_repeat_itself_is_reported() -> None:
    stopped = saved_after("iql", (0,), 20)
    (run,) = stopped.job.runs
    checkpoint = through_file(stopped.checkpoints.saved[run].states)
    checkpoint[0]["environment"]["observation"] += 1
    stopped.checkpoints.saved[run] = stopped.checkpoints.saved[run]._replace(states=checkpoint)
    with pytest.raises(EnvironmentFailed, match="does not repeat itself from the same seed and actions"):
        stopped.train()


def test_a_checkpoint_follows_the_rows_of_its_update() -> None:
    """Checkpoints are due after every update; by then the rows up to that update are stored."""
    made = training("iql")
    made.checkpoints.is_due = lambda updates: True
    stored = []
    with made.trainer() as trainer:
        for row in trainer.train():
            stored.append((row.updates, [entry[1] for entry in made.checkpoints.history]))
            made.checkpoints.append(row)
    assert [entry[:2] for entry in made.checkpoints.history] == [
        *(("save", updates) for updates in range(1, 17)),
        ("finish", 16),
    ]
    for updates, history in stored:
        assert history == list(range(1, updates))


def test_jobs_of_different_progress_resume_apart() -> None:
    """One seed has not started, one was interrupted offline, one online, and one has finished."""
    whole = training("td3_bc", online=ONLINE, seeds=(0, 1, 2, 3)).train()
    made = training("td3_bc", online=ONLINE, seeds=(0, 1, 2, 3))
    for seed, updates in ((1, 7), (2, 20)):
        stopped = saved_after("td3_bc", (seed,), updates)
        made.checkpoints.saved |= stopped.checkpoints.saved
        made.checkpoints.rows |= stopped.checkpoints.rows
    done = training("td3_bc", online=ONLINE, seeds=(3,)).train()
    made.checkpoints.rows |= done.checkpoints.rows
    made.checkpoints.finished |= done.checkpoints.finished
    jobs: list[Job] = made.remaining_jobs()
    assert [([r.seed for r in job.replicas], job.done) for job in jobs] == [([0], 0), ([1], 7), ([2], 20)]
    assert made.train().outcome() == whole.outcome()
    assert without_seconds(made.rows[0]) == without_seconds(whole.rows[0])
