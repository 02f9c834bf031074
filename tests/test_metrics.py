"""What is measured without an environment: prequential scores, initial values, held-out episodes, soft OPC,
and what all of these may see."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from training_setup import (
    STREAM,
    Training,
    equal_tensors,
    make_job,
    small_dataset,
    train,
    without_seconds,
)

from seqeval import environments
from seqeval import evaluation as evaluation_module
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.errors import UserError
from seqeval.execution.jobs import resolve
from seqeval.seeding import stream
from seqeval.slicing import arrival_order, arriving_size, held_out_episodes
from seqeval.types import Dataset, Environment, Reference, Row, Vector

FQE = "fqe:updates=3,hidden=(8,),batch_size=8"
ALL = ("prequential", "initial-value", FQE, "soft-opc")
EVERYTHING = Evaluation(points=3, episodes=1, metrics=(*ALL, "held-out"))
CHEAP = Evaluation(points=3, episodes=1, metrics=("prequential",))
HELD_OUT = replace(STREAM, hold_out=0.2)
COUNTING = """
import math
import torch
from torch import Tensor
from seqeval.algorithm import SingleAlgorithm

class Counting(SingleAlgorithm):
    "A normal policy with mean 0 and std 1; Q and TD error are numbers of updates."

    def update(self, batch):
        self.updates += 1
        return {}

    def act(self, observations):
        return torch.zeros(len(observations), self.spec.action_size)

    def log_prob(self, observations, actions):
        return -(0.5 * actions.square() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def q_value(self, observations, actions):
        return observations[:, 0] + self.updates

    def td_error(self, batch):
        return torch.stack([batch.rewards, torch.full_like(batch.rewards, self.updates)])
"""


@pytest.fixture
def counting(tmp_path: Path) -> str:
    path = tmp_path / "counting.py"
    path.write_text(COUNTING)
    return f"{path}:Counting"


def order_of(dataset: Dataset, protocol: Protocol, seed: int) -> np.ndarray:
    """The arriving rows of a seed, in order."""
    rng = stream(seed, "order")
    order = arrival_order(protocol.order, rng, dataset.episode, dataset.episode_returns, dataset.segments)
    held_out = held_out_rows(dataset, protocol, seed)
    kept = order[~np.isin(order, held_out)]
    return kept[: arriving_size(protocol.hold_out, dataset.episode_lengths)]


def held_out_rows(dataset: Dataset, protocol: Protocol, seed: int) -> np.ndarray:
    chosen = held_out_episodes(protocol.hold_out, stream(seed, "hold_out"), dataset.episode_lengths)
    return np.flatnonzero(chosen[dataset.episode])


def test_prequential_scores_by_hand(counting: str) -> None:
    """On the transitions that arrive between two points, with the agent before any update on them."""
    dataset = small_dataset()
    rows = train(counting, [4], dataset, evaluation=CHEAP).rows
    order = order_of(dataset, STREAM, 4)
    assert [row.samples for row in rows] == [30, 60, 90, 120]
    for row, after in pairwise(rows):
        chunk = order[row.samples : after.samples]
        actions, rewards = dataset.actions[chunk, 0] / 2, dataset.rewards[chunk]  # of Pendulum: [-2, 2]
        nll = 0.5 * (actions**2).mean() + 0.5 * math.log(2 * math.pi)
        expected = {
            "prequential_nll": nll,
            "prequential_squared_error": (actions**2).mean(),
            # One critic's error is the reward, that of the other the number of updates at this row.
            "prequential_td_error": ((rewards**2).mean() + row.updates**2) / 2,
            "prequential_transitions": 30,
        }
        assert row.evaluations == pytest.approx(expected, rel=1e-5)
    assert rows[-1].evaluations == {}


@pytest.mark.parametrize("regime", ["retrain", "warm", "full"])
def test_what_arrives_next_in_other_regimes(counting: str, regime: Any) -> None:
    dataset = small_dataset()
    protocol = Protocol(regime, start=20, sizes=3, updates_per_size=4)
    rows = train(counting, [4], dataset, protocol, evaluation=CHEAP).rows
    if regime == "full":
        assert [(row.samples, row.evaluations) for row in rows] == [(120, {})]
        return
    order = order_of(dataset, protocol, 4)
    rows = sorted(rows, key=lambda row: row.samples)
    assert [row.samples for row in rows] == [20, 70, 120]
    for row, after in pairwise(rows):
        actions = dataset.actions[order[row.samples : after.samples], 0] / 2
        assert row.evaluations["prequential_squared_error"] == pytest.approx((actions**2).mean(), rel=1e-5)
        assert row.evaluations["prequential_transitions"] == 50
        updates = 4 if regime == "retrain" else row.updates
        rewards = dataset.rewards[order[row.samples : after.samples]]
        td_error = ((rewards**2).mean() + updates**2) / 2
        assert row.evaluations["prequential_td_error"] == pytest.approx(td_error, rel=1e-5)


def test_initial_values_are_those_of_visible_first_observations(counting: str) -> None:
    dataset = small_dataset()
    evaluation = replace(CHEAP, metrics=("initial-value", "soft-opc:success_return=0.5"))
    rows = train(counting, [4], dataset, replace(STREAM, order="episodes"), evaluation=evaluation).rows
    order = order_of(dataset, replace(STREAM, order="episodes"), 4)
    for row in rows:
        seen = order[: row.samples]
        starts = seen[seen % 10 == 0]  # episodes of 10 transitions
        q = dataset.observations[:, 0] + row.updates
        assert row.evaluations["initial_value"] == pytest.approx(q[starts].mean(), rel=1e-5)
        successful = seen[dataset.episode_returns[dataset.episode[seen]] > 0.5]
        if len(successful):
            expected = q[successful].mean() - q[seen].mean()
            assert row.evaluations["soft_opc"] == pytest.approx(expected, abs=1e-4)
        else:
            assert "soft_opc" not in row.evaluations


def test_values_are_in_the_units_of_the_environment(tmp_path: Path) -> None:
    """Values and errors are divided by what the algorithm's rewards are multiplied by."""
    file = tmp_path / "scaled.py"
    file.write_text(COUNTING)
    dataset = small_dataset()
    hopper = Environment("Hopper-v5", Vector(3), environments.of(dataset).actions, None)
    dataset = replace(dataset, env_id=None, logged_in=hopper, reference=Reference(0.0, 4000.0, "invented"))
    evaluation = replace(CHEAP, metrics=("prequential", "initial-value"))
    plain, scaled = (
        train(f"{file}:Counting", [0], dataset, evaluation=evaluation, scale_rewards=scale).rows
        for scale in (False, True)
    )
    order = order_of(dataset, STREAM, 0)
    for one, other in zip(plain[:-1], scaled[:-1], strict=True):
        assert other.evaluations["initial_value"] == pytest.approx(one.evaluations["initial_value"] * 4)
        rewards = dataset.rewards[order[one.samples : one.samples + 30]]
        expected = ((rewards**2).mean() + (4 * one.updates) ** 2) / 2  # rewards are multiplied by 1/4
        assert other.evaluations["prequential_td_error"] == pytest.approx(expected, rel=1e-5)


def rows_and_states(name: str, dataset: Dataset, protocol: Protocol, count: int | None = None) -> list[Any]:
    found: list[tuple[Row, Any]] = []
    job = make_job(name, [(dataset, [3])], protocol, evaluation=EVERYTHING)
    with Training(job, [dataset]).trainer() as trainer:
        for row in trainer.train():
            found.append((row, trainer.agents.state_of(0)))
            if len(found) == count:
                break
    return found


def poisoned(dataset: Dataset, rows: np.ndarray) -> Dataset:
    fields = {}
    for name in ("observations", "actions", "rewards", "next_observations"):
        fields[name] = getattr(dataset, name).copy()
        fields[name][rows] = np.nan
    fields["terminated"] = dataset.terminated.copy()
    fields["terminated"][rows] ^= True
    return replace(dataset, **fields)


def without(row: Row, prefix: str) -> dict[str, Any]:
    values = without_seconds(row)
    kept = {name: value for name, value in values["evaluations"].items() if not name.startswith(prefix)}
    return values | {"evaluations": kept}


@pytest.mark.parametrize("order", ["shuffled", "episodes"])
@pytest.mark.parametrize("name", ["bc", "iql", "td3_bc"])
def test_no_metric_depends_on_more_than_the_next_chunk(name: str, order: Any) -> None:
    """The leak audit of all metrics: at each row, what arrives after the next point is overwritten."""
    protocol, dataset = replace(HELD_OUT, order=order), small_dataset()
    expected, arrival = rows_and_states(name, dataset, protocol), order_of(dataset, protocol, 3)
    assert len(arrival) == 90  # 24 of 120 transitions are held out, in episodes of 10
    assert len(expected) == 4
    for index, (row, state) in enumerate(expected[:-2]):
        after = expected[index + 1][0].samples
        found = rows_and_states(name, poisoned(dataset, arrival[after:]), protocol, index + 1)
        assert without_seconds(found[index][0]) == without_seconds(row)
        assert equal_tensors(found[index][1], state)
        # Of what arrives up to the next point, only the prediction of it depends.
        found = rows_and_states(name, poisoned(dataset, arrival[row.samples :]), protocol, index + 1)
        assert without(found[index][0], "prequential") == without(row, "prequential")
        assert without_seconds(found[index][0]) != without_seconds(row)


@pytest.mark.parametrize("name", ["iql", "td3_bc"])
def test_held_out_episodes_change_nothing_but_the_metrics_on_them(name: str) -> None:
    dataset = small_dataset()
    rows = held_out_rows(dataset, HELD_OUT, 3)
    expected = rows_and_states(name, dataset, HELD_OUT)
    found = rows_and_states(name, poisoned(dataset, rows), HELD_OUT)
    for (row, state), (other, other_state) in zip(expected, found, strict=True):
        assert without(row, "held_out") == without(other, "held_out")
        assert equal_tensors(state, other_state)
        names = {"held_out_squared_error", "held_out_td_error", "held_out_fqe"}
        assert names <= row.evaluations.keys()
        assert all(math.isnan(other.evaluations[metric]) for metric in names)


def test_metrics_change_nothing_in_training() -> None:
    weights = [
        train("iql", [1], protocol=HELD_OUT, evaluation=replace(EVERYTHING, metrics=metrics)).outcome()[1]
        for metrics in (("episodes",), ("episodes", *EVERYTHING.metrics))
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", ["iql", "sb3:SAC"])
def test_a_killed_job_has_the_same_metrics(name: str) -> None:
    dataset = small_dataset()
    job = make_job(name, [(dataset, [0, 1])], HELD_OUT, evaluation=EVERYTHING)
    expected = Training(job, [dataset]).train()
    killed = Training(job, [dataset]).train(kills=(5, 17, 30, 41))
    assert killed.outcome() == expected.outcome()
    assert len(killed.jobs) > 1


def test_metrics_of_a_run_do_not_depend_on_the_others() -> None:
    data, more = small_dataset(), small_dataset("more", episodes=14, seed=1)
    alone = make_job("iql", [(more, [1])], HELD_OUT, evaluation=EVERYTHING)
    joined = make_job("iql", [(data, [0, 1]), (more, [0, 1])], HELD_OUT, evaluation=EVERYTHING)
    expected = Training(alone, [more]).train()
    found = Training(joined, [data, more]).train()
    (run,) = alone.runs
    assert found.outcome(run) == expected.outcome(run)


def test_a_replica_without_a_value_has_no_metric_whatever_the_others_have(counting: str) -> None:
    """Of the first transitions that arrive for seed 1, none starts an episode."""
    evaluation = replace(CHEAP, metrics=("initial-value", "prequential"))
    protocol = Protocol(start=6, grow_by=57)
    alone, together = (
        train(counting, seeds, protocol=protocol, evaluation=evaluation).rows for seeds in ([1], [0, 1])
    )
    found = [row.evaluations for row in together if row.seed == 1]
    assert found == [row.evaluations for row in alone]
    starts = [order_of(small_dataset(), protocol, seed)[:6] % 10 == 0 for seed in (0, 1)]
    first = [row.evaluations for row in together if row.samples == 6]
    assert ["initial_value" in of for of in first] == [of.any() for of in starts]


def test_metrics_continue_online_without_predictions() -> None:
    evaluation = Evaluation(points=2, episodes=1, metrics=ALL)
    training = train("td3_bc", [0], online=Online(steps=20), evaluation=evaluation)
    rows = [row for row in training.rows if row.phase == "online"]
    assert [row.samples for row in rows] == [130, 140]
    for row in rows:
        assert {"initial_value", "fqe", "behaviour_return"} <= row.evaluations.keys()
        assert not any(name.startswith("prequential") for name in row.evaluations)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.floats(0.01, 0.9), st.integers(0, 1000))
def test_held_out_episodes_leave_what_is_promised(lengths: list[int], fraction: float, seed: int) -> None:
    sizes = np.array(lengths)
    try:
        arriving = arriving_size(fraction, sizes)
    except UserError:
        return
    held_out = held_out_episodes(fraction, np.random.default_rng(seed), sizes)
    total, left = sizes.sum(), sizes[~held_out].sum()
    if total:
        assert round(fraction * total) <= total - left
        assert arriving <= left < arriving + 2 * sizes.max()


def test_episodes_of_equal_length_leave_exactly_the_rest() -> None:
    lengths = np.full(10, 7)
    assert arriving_size(0.2, lengths) == 56
    assert arriving_size(0.25, lengths) == 49
    assert arriving_size(0.0, lengths) == 70
    chosen = [held_out_episodes(0.2, stream(seed, "hold_out"), lengths) for seed in range(4)]
    assert [mask.sum() for mask in chosen] == [2] * 4
    assert len({mask.tobytes() for mask in chosen}) > 1
    assert not held_out_episodes(0.0, stream(0, "hold_out"), lengths).any()


def test_held_out_transitions_are_never_drawn_and_not_in_the_normalizer() -> None:
    dataset = small_dataset()
    held_out = {seed: set(held_out_rows(dataset, HELD_OUT, seed).tolist()) for seed in (0, 1)}
    job = make_job("td3_bc", [(dataset, [0, 1])], replace(HELD_OUT, normalizer="full"), evaluation=EVERYTHING)
    with Training(job, [dataset]).trainer() as trainer:
        for place, seed in enumerate((0, 1)):
            order = order_of(dataset, HELD_OUT, seed)
            mean = dataset.observations[order].mean(0)
            np.testing.assert_allclose(trainer.agents.normalizer.mean[place, 0].numpy(), mean, atol=1e-6)
        for _ in range(40):
            rows = trainer.indices.draw().rows
            for place, seed in enumerate((0, 1)):
                assert not held_out[seed] & set(rows[place].tolist())


@pytest.mark.parametrize(
    ("metrics", "hold_out", "why"),
    [
        (("held-out",), 0.0, r"held-out needs held-out episodes; set --protocol\.hold-out 0\.1"),
        (("episodes",), 0.995, r"protocol\.hold_out: without 0\.995 of 20000 transitions, in whole episodes"),
        (("fqe:update=5",), 0.0, r"fqe has no setting 'update'; did you mean 'updates'\?"),
        (("fqe:updates=0",), 0.0, r"evaluation\.metrics: fqe: updates must be at least 1, not 0"),
        (("fqe:updates=much",), 0.0, r"evaluation\.metrics: fqe: updates must be a whole number, not 'much'"),
        (("fqe", "fqe:updates=5"), 0.0, r"evaluation\.metrics: fqe and fqe:updates=5 are the same evaluator"),
    ],
)
def test_metrics_that_cannot_be_computed_are_refused(metrics: Any, hold_out: float, why: str) -> None:
    study = Study(
        ("pendulum-replay",),
        ("bc",),
        protocol=Protocol(start=20, hold_out=hold_out),
        evaluation=Evaluation(metrics=metrics),
    )
    with pytest.raises(UserError, match=why) as error:
        resolve(study)
    assert "\n" not in str(error.value)


def test_settings_of_the_protocol_that_do_not_fit_held_out_episodes_are_refused() -> None:
    with pytest.raises(UserError, match=r"hold_out: must be at least 0 and below 1, not 1\.0"):
        Protocol(hold_out=1.0)
    with pytest.raises(UserError, match=r"hold_out: .*; use --protocol\.reward-scale reference"):
        Protocol(hold_out=0.1, reward_scale="full")


def test_fitted_q_evaluation_needs_ends_of_episodes() -> None:
    dataset = replace(small_dataset(), episode_complete=np.zeros(12, bool))
    study = Study(("tiny",), ("bc",), evaluation=Evaluation(metrics=("fqe",)))
    with pytest.raises(UserError, match="tiny: fqe needs to know where episodes end and start, but the data"):
        evaluation_module.check(dataset, study)


@pytest.mark.parametrize(("threshold", "told"), [(2, False), (3, True)])
def test_soft_opc_notes_that_no_episode_is_successful(threshold: int, told: bool) -> None:
    dataset = replace(small_dataset(), episode_complete=np.array([True, False]))
    dataset = replace(dataset, episode_returns=np.array([3.0, 9.0]))
    text = f"soft-opc:success_return={threshold}"
    notes = evaluation_module.check(
        dataset, Study(("tiny",), ("bc",), evaluation=Evaluation(metrics=(text,)))
    )
    expected = (
        f"{text}: no episode of tiny has a return above 3 (the best: 3), so there is no eval/soft_opc; "
        "give a lower soft-opc:success_return=NUMBER in --evaluation.metrics"
    )
    assert notes == ([expected] if told else [])


def test_units_and_directions_are_declared_by_column() -> None:
    declared = evaluation_module.declared(Evaluation(metrics=("prequential", "fqe")))
    assert declared["eval/prequential_nll"] == {
        "unit": "nats per transition, actions in [-1, 1]",
        "better": "lower",
    }
    assert declared["eval/fqe"]["better"] == "higher"
    assert "eval/prequential_code_length" in declared


def test_n_is_that_of_the_transitions_that_arrive() -> None:
    study = Study(("pendulum-replay",), ("bc",), protocol=Protocol(start=20, hold_out=0.2))
    (entry,) = resolve(study).describe()["datasets"].values()
    assert (entry["transitions"], entry["held_out"]) == (16_000, 4_000)
