"""Replicas of several datasets in one job: each has the numbers, to the last bit, that it has on its own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from recorded_graphs import use_recorded_graphs
from training_setup import (
    BUILT_IN,
    EXAMPLES,
    NO_ONLINE,
    SMALL,
    Training,
    make_job,
    small_dataset,
    tensors_in,
    without_predictions,
)

from seqeval import plugins
from seqeval.check.subject import SPECS, Subject
from seqeval.config import Online, Protocol
from seqeval.training.job import RunKey
from seqeval.types import Continuous, Dataset, Environment, Reference, Vector

STREAM = Protocol(start=20, grow_by=4)
ONLINE = Online(steps=5, updates_per_step=2)
NOISY = f"{EXAMPLES}:Noisy"


def dataset(name: str, episodes: int, seed: int) -> Dataset:
    """Its rewards are scaled by its own span of returns, and its actions have their own bounds."""
    bounds = Continuous(np.array([-2 - seed], np.float32), np.array([2], np.float32))
    return replace(
        small_dataset(name, episodes, seed),
        logged_in=Environment("hopper", Vector(3), bounds, None),
        reference=Reference(0.0, 100.0 + seed, "invented"),
    )


# With STREAM: 19, 11 and 26 updates, and 19 and 19.
SIZES = [dataset("middle", 9, 1), dataset("small", 6, 2), dataset("large", 12, 3)]
EQUAL = [dataset("one", 9, 1), dataset("two", 9, 2)]
SEEDS = [[3, 1], [1], [0, 3]]


def together(name: str, datasets: list[Dataset], seeds=SEEDS, **options: Any) -> Training:
    """All datasets in one job."""
    options.setdefault("protocol", STREAM)
    runs = list(zip(datasets, seeds, strict=False))
    return Training(make_job(name, runs, **options), datasets)


def solo(name: str, datasets: list[Dataset], seeds=SEEDS, **options: Any) -> dict[RunKey, Any]:
    """The outcome of each run in a job of its own."""
    found = {}
    for data, of_dataset in zip(datasets, seeds, strict=False):
        for seed in of_dataset:
            training = together(name, [data], [[seed]], **options).train()
            found[training.job.runs[0]] = training.outcome()
    return found


def outcomes(training: Training) -> dict[RunKey, Any]:
    return {run: training.outcome(run) for run in training.job.runs}


CASES: list[tuple[str, dict[str, Any], list[Dataset]]] = [
    *((name, {}, SIZES) for name in BUILT_IN),
    ("td3_bc", {"policy_delay": 3, "scale_rewards": True}, SIZES),
    ("iql", {"decay_learning_rate": True}, EQUAL),
    ("bc", {"decay_learning_rate": True}, EQUAL),
    (NOISY, {"normalize_observations": True}, EQUAL),
    ("sb3:TD3", {}, EQUAL),
]
IDS = [":".join([name.rpartition("/")[2], *settings]) for name, settings, _ in CASES]


@pytest.mark.parametrize("online", [NO_ONLINE, ONLINE], ids=["offline", "online"])
@pytest.mark.parametrize(("name", "settings", "datasets"), CASES, ids=IDS)
def test_a_run_does_not_depend_on_the_other_datasets_of_its_job(
    name: str, settings: dict[str, Any], datasets: list[Dataset], online: Online
) -> None:
    """Where sizes differ, rows and normalizers are due at different updates, and some runs end before others.
    The datasets have different seeds."""
    training = together(name, datasets, online=online, **settings).train()
    assert outcomes(training) == solo(name, datasets, online=online, **settings)
    points = {tuple(row.updates for row in rows) for rows in training.checkpoints.rows.values()}
    learns_offline = plugins.find(name).learns_offline  # otherwise the sizes do not matter
    assert len(points) == (3 if datasets is SIZES and learns_offline else 1)


@pytest.mark.parametrize("regime", ["retrain", "warm", "full"])
def test_a_run_does_not_depend_on_the_other_datasets_in_any_regime(regime: Any) -> None:
    protocol = Protocol(regime=regime, start=20, sizes=3, updates_per_size=5)
    training = together("td3_bc", SIZES, protocol=protocol).train()
    assert outcomes(training) == solo("td3_bc", SIZES, protocol=protocol)
    assert len(training.jobs) == 1
    assert len(training.jobs[0].replicas) == 5 * (3 if regime == "retrain" else 1)


def test_a_full_normalizer_is_that_of_the_replicas_own_dataset() -> None:
    protocol = replace(STREAM, normalizer="full")
    training = together("td3_bc", SIZES, protocol=protocol).train()
    assert outcomes(training) == solo("td3_bc", SIZES, protocol=protocol)
    for data in SIZES:
        for run in training.job.runs:
            if run.dataset == data.name:
                ((state),) = training.checkpoints.finished[run]
                mean = state["normalizer"]["mean"].flatten()
                np.testing.assert_allclose(mean, data.observations.mean(0), atol=1e-6)


def test_rows_of_each_run_are_in_order_and_those_of_a_point_come_together() -> None:
    training = together("bc", SIZES)
    with training.trainer() as trainer:
        rows = [(row.updates, row.dataset, row.seed) for row in trainer.train()]
    places = {data.name: place for place, data in enumerate(SIZES)}
    # `updates` of a row is the number of updates after which it was taken.
    assert [updates for updates, _, _ in rows] == sorted(updates for updates, _, _ in rows)
    for updates in {updates for updates, _, _ in rows}:
        names = [name for made, name, _ in rows if made == updates]
        assert names == sorted(names, key=places.get)
    seeds = [seed for updates, name, seed in rows if (updates, name) == (1, "middle")]
    assert seeds == [3, 1]


def test_replicas_whose_schedule_ends_earlier_leave_the_job() -> None:
    training = together("td3_bc", SIZES)
    sizes = {}
    training.checkpoints.is_due = lambda updates: bool(
        sizes.setdefault(updates, len(training.checkpoints.trainer.replicas)) and False
    )
    training.train()
    # After an update that is some replicas' last they are still there; then they are not.
    assert [sizes[updates] for updates in (11, 12, 19, 20, 26)] == [5, 4, 4, 2, 2]
    middle, small, large = (
        [run for run in training.job.runs if run.dataset == name] for name in ("middle", "small", "large")
    )
    assert training.checkpoints.history == [
        ("finish", 11, small),
        ("finish", 19, middle),
        ("finish", 26, large),
    ]
    assert len(training.jobs) == 1


def test_replicas_that_continue_online_earlier_are_handed_over_through_checkpoints() -> None:
    training = together("td3_bc", SIZES, online=ONLINE).train()
    middle, small, large = (
        [run for run in training.job.runs if run.dataset == name] for name in ("middle", "small", "large")
    )
    assert training.checkpoints.history == [
        ("save", 11, small),
        ("save", 19, middle),
        ("save", 26, large),
        ("finish", 29, middle),
        ("finish", 21, small),
        ("finish", 36, large),
    ]
    assert [(job.datasets, job.done) for job in training.jobs] == [
        (["middle", "small", "large"], 0),
        (["middle"], 19),
        (["small"], 11),
        (["large"], 26),
    ]


def test_replicas_that_do_not_learn_online_end_with_their_online_rows() -> None:
    training = together("bc", SIZES, online=ONLINE).train()
    assert [entry[:2] for entry in training.checkpoints.history] == [
        ("finish", 11),
        ("finish", 19),
        ("finish", 26),
    ]
    assert all(rows[-1].phase == "online" for rows in training.checkpoints.rows.values())


def test_replicas_of_equal_schedules_continue_online_together() -> None:
    training = together("td3_bc", EQUAL, online=ONLINE)
    with training.trainer() as trainer:
        list(trainer.train())
    assert training.checkpoints.history == [("finish", 29, training.job.runs)]


@pytest.mark.parametrize("name", ["td3_bc", "bc", NOISY])
@pytest.mark.parametrize("delay", [None, 3])
@pytest.mark.parametrize("online", [NO_ONLINE, ONLINE], ids=["offline", "online"])
def test_a_job_of_several_datasets_resumes_exactly(name: str, delay: int | None, online: Online) -> None:
    datasets = EQUAL if name == NOISY else SIZES
    expected = outcomes(together(name, datasets, online=online).train())
    training = together(name, datasets, online=online)
    if delay is not None:
        training.make_runner = partial(training.delayed, delay=delay)
    training.train({1, 3, 10, 11, 12, 18, 19, 20, 25, 26, 27})
    assert outcomes(training) == expected
    assert len(training.jobs) > 4


def test_runs_saved_in_different_jobs_resume_together() -> None:
    """Two datasets were interrupted after equal numbers of updates, one later."""
    expected = outcomes(together("td3_bc", SIZES, online=ONLINE).train())
    training = together("td3_bc", SIZES, online=ONLINE)
    for place, stop in enumerate((7, 7, 9)):
        one = together("td3_bc", SIZES[place : place + 1], SEEDS[place : place + 1], online=ONLINE)
        one.checkpoints.must_stop = lambda updates, stop=stop: updates >= stop
        with one.trainer() as trainer:
            for row in trainer.train():
                one.checkpoints.append(row)
        training.checkpoints.saved |= one.checkpoints.saved
        training.checkpoints.rows |= one.checkpoints.rows
    jobs = training.remaining_jobs()
    assert [(job.datasets, job.done) for job in jobs] == [(["middle", "small"], 7), (["large"], 9)]
    assert outcomes(training.train()) == expected


@pytest.mark.parametrize("stop", [5, 11, 15, 19, 23])
def test_a_job_that_is_asked_to_stop_saves_every_run_that_has_not_finished(stop: int) -> None:
    training = together("iql", SIZES)
    training.checkpoints.must_stop = lambda updates: updates >= stop
    with training.trainer() as trainer:
        for row in trainer.train():
            training.checkpoints.append(row)
    unfinished = [run for run in training.job.runs if run not in training.checkpoints.finished]
    assert all(training.checkpoints.saved[run].updates == stop for run in unfinished)
    assert len(unfinished) == {5: 5, 11: 4, 15: 4, 19: 2, 23: 2}[stop]
    training.checkpoints.must_stop = lambda updates: False
    assert outcomes(training.train()) == solo("iql", SIZES)


def test_a_dataset_that_is_not_finite_leaves_the_others_alone() -> None:
    rewards = np.full(60, np.nan, np.float32)
    broken = [SIZES[0], replace(SIZES[1], rewards=rewards), SIZES[2]]
    training = together("td3_bc", broken, online=ONLINE).train()
    expected = solo("td3_bc", SIZES, online=ONLINE)
    for run in training.job.runs:
        if run.dataset != "small":
            assert training.outcome(run) == expected[run]
        else:
            assert {row.status for row in training.checkpoints.rows[run]} == {"failed"}


@pytest.mark.parametrize("poison", [np.nan, 1e30])
def test_transitions_that_have_not_arrived_change_nothing(poison: float) -> None:
    """A part of one dataset is overwritten: until it arrives no row changes, and those of other datasets
    never do."""
    protocol = replace(STREAM, order="logged")
    fields = {}
    for name in ("observations", "actions", "rewards", "next_observations"):
        fields[name] = getattr(SIZES[0], name).copy()
        fields[name][50:] = poison
    spoiled = together("td3_bc", [replace(SIZES[0], **fields), *SIZES[1:]], protocol=protocol).train()
    clean = together("td3_bc", SIZES, protocol=protocol).train()
    for run in clean.job.runs:
        if run.dataset != "middle":
            assert spoiled.outcome(run) == clean.outcome(run)
            continue
        pairs = list(zip(spoiled.checkpoints.rows[run], clean.checkpoints.rows[run], strict=True))
        before = [(one, other) for one, other in pairs if other.samples <= 50]
        assert len(before) == 2
        assert all(without_predictions(one) == without_predictions(other) for one, other in before)
        assert without_predictions(pairs[-1][0]) != without_predictions(pairs[-1][1])


def test_captured_updates_of_several_datasets_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once replicas have left, the updates of the others are captured again."""
    expected = solo("td3_bc", SIZES)
    made = use_recorded_graphs(monkeypatch)
    training = together("td3_bc", SIZES).train()
    assert outcomes(training) == expected
    # 11, 8 and 7 updates of five, four and two replicas, of which 6 each are the warm-up.
    assert [graphs.captured for graphs in made] == [2, 2, 1]
    assert [graphs.replayed for graphs in made] == [5, 2, 1]


def test_the_data_of_several_datasets_is_stored_once() -> None:
    training = together("td3_bc", EQUAL, [[0, 1, 2], [0, 1, 2]])
    with training.trainer() as trainer:
        assert len(trainer.buffer.rewards) == 90 + 90
        assert trainer.buffer.offsets == [0, 90]
        expected = np.concatenate([data.observations for data in EQUAL])
        np.testing.assert_array_equal(trainer.buffer.observations, expected)


@pytest.mark.parametrize("name", BUILT_IN)
def test_algorithms_say_whether_they_depend_on_the_total_number_of_updates(name: str) -> None:
    found = plugins.find(name)
    decays = hasattr(found.Config(), "decay_learning_rate")
    for settings in ({}, {"decay_learning_rate": True}) if decays else ({},):
        config = replace(found.Config(), batch_size=8, **SMALL.get(name, {"hidden": (16, 16)}), **settings)
        subject, states = Subject(found, config, "continuous"), []
        for total in (5, 500):
            algorithm = found(SPECS["continuous"][0], config, [0, 1], total, torch.device("cpu"))
            for update in range(5):
                if name == "rebrac" and update == 2:
                    algorithm.start_online()  # its penalty decays until the last online update
                algorithm.update(subject.batch(algorithm, update))
            states.append([tensor.numpy().tobytes() for tensor in tensors_in(algorithm.state_dict())])
        expected = bool(settings) or name == "rebrac"
        assert (states[0] != states[1]) == expected == found.depends_on_total_updates(config)
    noisy = plugins.find(NOISY)
    assert noisy.depends_on_total_updates(noisy.Config())
