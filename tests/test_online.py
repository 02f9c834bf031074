"""The online phase: what is stored, what is drawn, what rows say, and that replicas stay independent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from conftest import make_dataset
from hypothesis import given
from hypothesis import strategies as st
from test_protocol import LABELS, SHORT, start, timeless, weights

from seqeval import plugins
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.datasets import load
from seqeval.errors import UserError
from seqeval.execution.jobs import resolve
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import RewardScale
from seqeval.slicing import Interaction
from seqeval.training import trainer
from seqeval.training.agents import Agents
from seqeval.training.online import EnvironmentFailed, TrainingEnvironments
from seqeval.types import Dataset, Row

OWN = [name for name in plugins.names() if ":" not in name]
ONLINE = Online(steps=12)
TWICE = Evaluation(points=2, episodes=1)


def run(
    name: str,
    seeds: list[int],
    online: Online = ONLINE,
    dataset: Dataset | None = None,
    settings: Protocol = SHORT,
    evaluation: Evaluation = TWICE,
) -> tuple[list[Row], Agents]:
    dataset = make_dataset() if dataset is None else dataset
    agents = start(name, seeds, dataset, settings)
    return list(trainer.run(agents, dataset, settings, evaluation, LABELS, online)), agents


@contextmanager
def training(agents: Agents, dataset: Dataset, room: int) -> Iterator[tuple[TrainingEnvironments, Buffer]]:
    """Training environments and the buffer that they fill."""
    replicas = len(agents.algorithm.seeds)
    buffer = Buffer(dataset, agents.actions, RewardScale(), torch.device("cpu"), room, replicas)
    environments = TrainingEnvironments(dataset.env_id, agents, buffer)
    yield environments, buffer
    environments.close()


class Walk(gymnasium.Env):
    """One number that grows by 1 plus the action, from where its seed has it; after 3 steps an episode ends,
    in turn by termination and by truncation, and after 40 steps the environment breaks if its first seed is
    odd."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)
    episodes, steps, first = 0, 0, None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.first = seed if self.first is None else self.first
        self.at = np.array([self.np_random.integers(100), self.episodes, 0], np.float32)
        self.episodes += 1
        return self.at.copy(), {}

    def step(self, action):
        self.steps += 1
        if self.steps > 40 and self.first % 2:
            raise OSError("a wheel came off")
        self.at += [1.0 + action[0], 0, 1]
        over, odd = self.at[2] == 3, self.episodes % 2 == 1
        return self.at.copy(), float(action[0]), bool(over and odd), bool(over and not odd), {}


gymnasium.register("Walk-v0", entry_point=Walk, disable_env_checker=True)


def test_what_happens_in_the_environments_is_in_the_buffer() -> None:
    dataset = make_dataset(env_id="Walk-v0")
    agents = start("td3_bc", [4, 9], dataset)
    with training(agents, dataset, room=8) as (environments, buffer):
        for _ in range(8):
            environments.step()
    assert environments.steps == 8
    assert torch.equal(buffer.observations[:120], torch.from_numpy(dataset.observations))
    assert torch.equal(buffer.rewards[:120], torch.from_numpy(dataset.rewards))
    for replica in range(2):
        rows = buffer.own_rows(replica)
        assert rows.tolist() == list(range(120 + 8 * replica, 128 + 8 * replica))
        before, after = buffer.observations[rows], buffer.next_observations[rows]
        actions, rewards = buffer.actions[rows, 0], buffer.rewards[rows]
        assert actions.abs().max() <= 1 - 1e-5
        np.testing.assert_allclose(rewards, 2 * actions, atol=1e-4)  # the environment's units are ±2
        np.testing.assert_allclose(after[:, 0] - before[:, 0], 1 + rewards, atol=1e-4)
        # An episode's last transition ends where the episode did, and the next begins in another.
        assert before[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
        assert after[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
        assert after[:, 2].tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
        # The first episode terminates; the second is cut, and its value goes on.
        assert buffer.terminated[rows].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_agents_explore_in_training_and_not_in_evaluation() -> None:
    dataset = make_dataset(env_id="Walk-v0")
    agents = start("td3_bc", [4], dataset)
    with training(agents, dataset, room=30) as (environments, buffer):
        for _ in range(30):
            environments.step()
    acted = buffer.actions[buffer.own_rows(0)]
    with torch.no_grad():
        noise = acted - agents.algorithm.act(buffer.observations[buffer.own_rows(0)][None])[0]
    assert 0.05 < noise.std() < 0.2
    assert noise.abs().max() > 0.1


def test_memory_is_allocated_once_and_the_dataset_is_not_written_to() -> None:
    dataset = make_dataset(env_id="Walk-v0")
    agents = start("iql", [4, 9], dataset)
    with training(agents, dataset, room=5) as (environments, buffer):
        tensors = [buffer.observations, buffer.actions, buffer.rewards, buffer.terminated]
        places = [tensor.data_ptr() for tensor in tensors]
        for _ in range(5):
            environments.step()
        assert [tensor.data_ptr() for tensor in tensors] == places
        assert {len(tensor) for tensor in tensors} == {120 + 2 * 5}
        with pytest.raises(IndexError):
            environments.step()
    assert not np.shares_memory(buffer.observations.numpy(), dataset.observations)


def test_an_action_that_is_not_finite_stops_no_environment() -> None:
    dataset = make_dataset(env_id="Walk-v0")
    agents = start("td3_bc", [0, 1], dataset)
    with torch.no_grad():
        agents.algorithm.actor.biases[-1][1] = float("nan")
    rows = list(trainer.run(agents, dataset, SHORT, TWICE, LABELS, ONLINE))
    alone, _ = run("td3_bc", [0], dataset=dataset)
    assert [timeless(row) for row in rows if row.seed == 0] == [timeless(row) for row in alone]
    assert all(row.status == "failed" for row in rows if row.seed == 1)


def test_positions_by_hand() -> None:
    # N = 10, two updates after each of 3 steps: 11, 11, 12, 12, 13, 13 are visible.
    schedule = Interaction(10, 3, 2, window=None, share=None)
    drawn = schedule.positions(0, 6, np.random.default_rng(0), 400)
    assert [row.max() for row in drawn] == [10, 10, 11, 11, 12, 12]
    assert (drawn.min(1) == 0).all()
    assert (schedule.updates, schedule.points(2), schedule.points(2, every=1)) == (
        6,
        [(4, 12), (6, 13)],
        [(2, 11), (4, 12), (6, 13)],
    )
    windowed = replace(schedule, window=4).positions(0, 6, np.random.default_rng(0), 400)
    assert [(row.min(), row.max()) for row in windowed[::2]] == [(7, 10), (8, 11), (9, 12)]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.none() | st.integers(1, 60), st.data())
def test_a_share_of_each_minibatch_is_the_agents_own(
    size: int, steps: int, each: int, window: int | None, data: st.DataObject
) -> None:
    batch, share = 16, data.draw(st.floats(0.01, 0.99))
    schedule = Interaction(size, steps, each, window, share)
    drawn = schedule.positions(0, schedule.updates, np.random.default_rng(1), batch)
    own = drawn >= size
    assert (own.sum(1) == min(max(1, round(share * batch)), batch - 1)).all()
    visible = size + 1 + np.arange(schedule.updates)[:, None] // each
    assert (drawn < visible).all()
    if window is not None:
        assert (drawn[own] >= np.broadcast_to(visible - window, drawn.shape)[own]).all()
        assert (drawn[~own] >= size - window).all()


@given(st.integers(0, 20), st.integers(1, 30), st.integers(1, 9), st.integers(0, 200))
def test_how_updates_are_cut_into_calls_changes_no_draw(size: int, steps: int, batch: int, cut: int) -> None:
    schedule = Interaction(size, steps, 2, None, None)
    cut = min(cut, schedule.updates)
    whole = schedule.positions(0, schedule.updates, np.random.default_rng(1), batch)
    rng = np.random.default_rng(1)
    parts = [schedule.positions(0, cut, rng, batch), schedule.positions(cut, schedule.updates, rng, batch)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_rows_go_on_where_the_data_ends() -> None:
    rows, agents = run("iql", [5, 2], Online(steps=12, updates_per_step=3))
    offline, _ = run("iql", [5, 2], Online())
    assert [timeless(row) for row in rows[: len(offline)]] == [timeless(row) for row in offline]
    assert [(r.seed, r.phase, r.samples, r.env_steps, r.updates, r.status) for r in rows[len(offline) :]] == [
        (seed, "online", 120 + e, e, 62 + 3 * e, "ok") for e in (6, 12) for seed in (5, 2)
    ]
    assert agents.algorithm.updates == trainer.updates(SHORT, Online(12, 3), 120, type(agents.algorithm))
    assert sum(row.samples == 120 for row in rows) == 2  # one a seed: it serves both phases


@pytest.mark.parametrize("mix", ["uniform", 0.5])
@pytest.mark.parametrize("name", OWN)
def test_a_seed_has_the_same_rows_and_weights_in_any_company(name: str, mix) -> None:
    online = Online(steps=12, mix=mix)
    rows, agents = run(name, [4, 0, 11], online)
    for replica, seed in enumerate([4, 0, 11]):
        alone, agent = run(name, [seed], online)
        assert [timeless(row) for row in rows if row.seed == seed] == [timeless(row) for row in alone]
        assert all(map(torch.equal, weights(agents, replica), weights(agent, 0)))


def test_discrete_actions_are_stored_drawn_and_acted_as_numbers() -> None:
    """CartPole's are 0 and 1; a policy that pushes right for ever falls in about ten steps."""
    dataset = made_of_numbers()
    rows, agents = run("bc", [4, 0], Online(steps=4), dataset, evaluation=Evaluation(2, 8))
    alone, agent = run("bc", [0], Online(steps=4), dataset, evaluation=Evaluation(2, 8))
    assert [timeless(row) for row in rows if row.seed == 0] == [timeless(row) for row in alone]
    assert all(map(torch.equal, weights(agents, 1), weights(agent, 0)))
    assert {row.status for row in rows} == {"ok"}
    assert all(7 < length < 13 for length in rows[-1].episode_lengths)
    assert agents.act(np.zeros((2, 3, 4))).tolist() == [[1, 1, 1], [1, 1, 1]]


def made_of_numbers() -> Dataset:
    """A dataset of CartPole that always pushes right."""
    plain = make_dataset(env_id="CartPole-v1")
    wide = np.random.default_rng(0).uniform(-0.2, 0.2, (120, 4)).astype(np.float32)
    return replace(plain, observations=wide, next_observations=wide, actions=np.ones(120, np.int64))


@pytest.mark.parametrize("name", OWN)
def test_evaluation_never_changes_training(name: str) -> None:
    _, often = run(name, [1], evaluation=Evaluation(points=6, episodes=3))
    _, seldom = run(name, [1], evaluation=Evaluation(points=1, episodes=1))
    assert all(map(torch.equal, weights(often, 0), weights(seldom, 0)))


@pytest.mark.parametrize("name", sorted(set(OWN) - {"bc"}))
def test_online_steps_are_learnt_from(name: str) -> None:
    rows, _ = run(name, [1], Online(steps=20, mix=0.5))
    others, _ = run(name, [1], Online(steps=20, mix=0.9))
    assert timeless(rows[2]) == timeless(others[2])  # at N
    assert rows[-1].metrics != others[-1].metrics
    assert all(row.metrics for row in rows)


def test_bc_stays_as_it_is_and_its_rows_are_new_evaluations() -> None:
    rows, agents = run("bc", [3], evaluation=Evaluation(points=2, episodes=3))
    _, before = run("bc", [3], Online())
    assert all(map(torch.equal, weights(agents, 0), weights(before, 0)))
    online = [row for row in rows if row.phase == "online"]
    assert [(row.samples, row.env_steps, row.updates, row.metrics) for row in online] == [
        (126, 0, 62, {}),
        (132, 0, 62, {}),
    ]
    assert online[0].episode_returns != online[1].episode_returns


def test_the_normaliser_is_taken_of_all_the_data_and_then_stays() -> None:
    dataset = make_dataset()
    agents = start("td3_bc", [0], dataset)
    seen = {}
    for row in trainer.run(agents, dataset, SHORT, TWICE, LABELS, ONLINE):
        seen[row.samples] = agents.observations.mean[0, 0].numpy().copy()
    all_of_it = dataset.observations.astype(np.float64).mean(0)
    assert np.abs(seen[120] - all_of_it).max() > 1e-4  # the row at N comes before
    np.testing.assert_allclose(seen[126], all_of_it, atol=1e-6)
    np.testing.assert_array_equal(seen[126], seen[132])


def test_learning_from_scratch_begins_at_nothing() -> None:
    nothing = load("none", "Walk-v0")
    assert (len(nothing), nothing.name, nothing.behaviour_return) == (0, "none (Walk-v0)", None)
    rows, agents = run("td3_bc", [7, 1], Online(steps=10), nothing)
    assert [(r.seed, r.phase, r.samples, r.env_steps, r.updates) for r in rows] == [
        (seed, "online", e, e, e) for e in (0, 5, 10) for seed in (7, 1)
    ]
    assert agents.algorithm.updates == 10
    alone, _ = run("td3_bc", [1], Online(steps=10), nothing)
    assert [timeless(row) for row in rows if row.seed == 1] == [timeless(row) for row in alone]
    with pytest.raises(UserError, match="none: name the environment"):
        load("none")


def test_an_environment_that_raises_stops_the_run_and_says_whose_and_when() -> None:
    dataset = make_dataset(env_id="Walk-v0")
    agents = start("td3_bc", [0, 1, 2], dataset)
    with training(agents, dataset, room=50) as (environments, _):
        odd = [
            seed for seed, env in zip((0, 1, 2), environments._envs, strict=True) if env.unwrapped.first % 2
        ]
        assert odd, "no environment breaks: choose other seeds"
    rows: list[Row] = []
    with pytest.raises(EnvironmentFailed) as failed:
        rows.extend(trainer.run(agents, dataset, SHORT, Evaluation(5, 1), LABELS, Online(steps=50)))
    assert f"Walk-v0 of seed {odd[0]} raised OSError at online step 41: a wheel came off" in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)
    assert rows[-1].samples == 160  # what there is of rows is whole


def test_what_means_nothing_is_refused() -> None:
    for values, message in (
        ({"mix": 0.5}, r"online\.mix: means nothing without an online phase"),
        ({"updates_per_step": 2}, r"online\.updates_per_step: means nothing without"),
        ({"steps": -1}, r"online\.steps: must be at least 0"),
        ({"steps": 9, "updates_per_step": 0}, r"online\.updates_per_step: must be at least 1"),
        ({"steps": 9, "mix": 0.0}, r"online\.mix: must be uniform, or lie between 0 and 1, and is 0\.0"),
        ({"steps": 9, "mix": 1.0}, r"online\.mix"),
        ({"steps": 9, "mix": "half"}, r"online\.mix"),
    ):
        with pytest.raises(UserError, match=message):
            Online(**values)
    with pytest.raises(UserError, match=r"online\.steps: under protocol\.regime retrain"):
        Study(("pendulum-replay",), ("bc",), protocol=Protocol(regime="retrain"), online=ONLINE)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (Study(("none",), ("iql",), online=ONLINE), "none: name the environment"),
        (Study(("none",), ("iql",), env="Pendulum-v1"), "there is no online phase"),
        (Study(("none",), ("bc",), env="Pendulum-v1", online=ONLINE), "bc: without a dataset"),
        (Study(("none",), ("iql",), env="Pendulum-v1", online=Online(9, mix=0.5)), r"online\.mix: without"),
        (Study(("none",), ("iql",), env="CartPole-v1", online=ONLINE), "iql: learns continuous actions"),
    ],
)
def test_studies_that_cannot_learn_are_refused(study: Study, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(study)


def test_learning_rates_do_not_decay_where_an_online_phase_follows() -> None:
    study = Study(("pendulum-replay",), ("bc",), protocol=Protocol(learning_rate_decay=True))
    assert resolve(study).variants[0].config.decay_learning_rate
    assert not resolve(replace(study, online=ONLINE)).variants[0].config.decay_learning_rate
    with_online = resolve(replace(study, online=ONLINE))
    assert any("does not learn online" in note for note in with_online.notes)
