"""The online phase: what is stored and sampled, what rows say, and that replicas stay independent."""

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
from training_setup import (
    BUILT_IN,
    STREAM,
    Training,
    make_job,
    small_dataset,
    tensors_in,
    train,
    without_seconds,
)

from seqeval import environments, plugins
from seqeval.config import Evaluation, Online, Protocol, Study
from seqeval.datasets import load
from seqeval.errors import UserError
from seqeval.execution.jobs import resolve
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import action_mapping
from seqeval.slicing import Interaction
from seqeval.training.agents import Agents
from seqeval.training.online import EnvironmentFailed, TrainingEnvironments
from seqeval.types import Dataset

CPU = torch.device("cpu")
ONLINE = Online(steps=12)
TWO_POINTS = Evaluation(points=2, episodes=1)


@contextmanager
def training_environments(
    name: str, seeds: list[int], dataset: Dataset, room: int
) -> Iterator[tuple[TrainingEnvironments, Buffer, Agents]]:
    """Training environments, the buffer that they fill, and the agents that act."""
    agents = make_job(name, [(dataset, seeds)]).create_agents(CPU)
    mapping = action_mapping(environments.of(dataset).actions, CPU)
    buffer = Buffer([dataset], [mapping], CPU, room, len(seeds), episodes=True)
    made = TrainingEnvironments([dataset.env_id] * len(seeds), agents, buffer)
    yield made, buffer, agents
    made.close()


class Walk(gymnasium.Env):
    """A number that grows by 1 plus the action from a start that depends on the seed.

    An episode has 3 steps; it ends by termination and by truncation in turn. After 40 steps the environment
    breaks if its first seed is odd.
    """

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
            raise OSError("a wheel broke")
        self.at += [1.0 + action[0], 0, 1]
        over, odd = self.at[2] == 3, self.episodes % 2 == 1
        return self.at.copy(), float(action[0]), bool(over and odd), bool(over and not odd), {}


gymnasium.register("Walk-v0", entry_point=Walk, disable_env_checker=True)


def walks() -> Dataset:
    return make_dataset(env_id="Walk-v0")


def test_transitions_of_the_environments_are_stored_in_the_buffer() -> None:
    dataset = walks()
    with training_environments("td3_bc", [4, 9], dataset, room=8) as (made, buffer, _):
        for _ in range(8):
            made.step()
    assert made.steps == 8
    assert torch.equal(buffer.observations[:120], torch.from_numpy(dataset.observations))
    assert torch.equal(buffer.rewards[:120], torch.from_numpy(dataset.rewards))
    for replica in range(2):
        rows = buffer.online_rows(replica)
        assert rows.tolist() == list(range(120 + 8 * replica, 128 + 8 * replica))
        before, after = buffer.observations[rows], buffer.next_observations[rows]
        actions, rewards = buffer.actions[rows, 0], buffer.rewards[rows]
        assert actions.abs().max() <= 1 - 1e-5
        np.testing.assert_allclose(rewards, 2 * actions, atol=1e-4)  # the environment's units are ±2
        np.testing.assert_allclose(after[:, 0] - before[:, 0], 1 + rewards, atol=1e-4)
        # The last transition of an episode leads to its own last observation, and the next one starts anew.
        assert before[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
        assert after[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
        assert after[:, 2].tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
        # The first episode terminates; the second is cut, and its value continues.
        assert buffer.terminated[rows].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
        assert buffer.continues[rows].tolist() == [1, 1, 0, 1, 1, 0, 1, 0]


def test_a_stored_transition_continues_once_the_next_one_of_its_episode_is_stored() -> None:
    with training_environments("td3_bc", [4, 9], walks(), room=5) as (made, buffer, _):
        known = []
        for _ in range(5):
            made.step()
            known.append([buffer.continues[buffer.online_rows(replica)].tolist() for replica in range(2)])
    expected = [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 1, 0]]
    assert known == [[row, row] for row in expected]
    assert not buffer.continues[119]


def test_restored_transitions_are_those_that_were_saved() -> None:
    dataset = make_dataset(env_id="Pendulum-v1?max_episode_steps=3")
    with training_environments("td3_bc", [4, 9], dataset, room=7) as (made, buffer, _):
        for _ in range(5):
            made.step()
        saved = [made.state_of(replica) for replica in range(2)]
        tensors = (buffer.observations, buffer.actions, buffer.rewards, buffer.terminated, buffer.continues)
        expected = [tensor.clone() for tensor in tensors]
        for tensor in tensors:
            tensor[120:] = 0
        made.load_states(saved)
        assert all(map(torch.equal, tensors, expected))
        made.step()
        assert made.steps == 6


class Luck(gymnasium.Env):
    """Episodes of three steps; the seed decides about success, which only the second step reports."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self) -> None:
        self.finished: list[bool] = []  # whether each finished episode was successful

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.lucky, self.taken = bool(self.np_random.integers(2)), 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.taken += 1
        over = self.taken == 3
        self.finished += [self.lucky] * over
        info = {"success": self.taken == 2 and self.lucky}
        return np.full(3, self.taken, np.float32), 0.0, False, over, info


gymnasium.register("Luck-v0", entry_point=Luck, disable_env_checker=True)


def test_regret_is_the_share_of_finished_episodes_without_success() -> None:
    with training_environments("td3_bc", [4, 9], make_dataset(env_id="Luck-v0"), room=24) as (made, *_):
        assert made.regrets(slice(2)) == [{}, {}]  # no episode has finished
        for step in range(1, 25):
            made.step()
            if step == 20:  # after the step that reports success
                saved = [made.state_of(replica) for replica in range(2)]
        finished = [env.unwrapped.finished.copy() for env in made._envs]
        expected = [{"regret": 1 - sum(outcomes) / 8} for outcomes in finished]
        assert made.regrets(slice(2)) == expected
        assert made.regrets(slice(1, 2)) == expected[1:]
        assert finished[0][6] or finished[1][6]  # otherwise the resumed episode would prove nothing
        made.load_states(saved)
        for _ in range(4):
            made.step()
        assert made.regrets(slice(2)) == expected


def test_without_reported_success_there_is_no_regret() -> None:
    with training_environments("td3_bc", [4], walks(), room=6) as (made, *_):
        for _ in range(6):
            made.step()
        assert made.regrets(slice(1)) == [{}]


def test_agents_explore_in_training_only() -> None:
    with training_environments("td3_bc", [4], walks(), room=30) as (made, buffer, agents):
        for _ in range(30):
            made.step()
        rows = buffer.online_rows(0)
        with torch.no_grad():
            noise = buffer.actions[rows] - agents.algorithm.act(buffer.observations[rows][None])[0]
    assert 0.05 < noise.std() < 0.2
    assert noise.abs().max() > 0.1


def test_memory_is_allocated_once_and_the_dataset_is_not_written_to() -> None:
    dataset = walks()
    before = dataset.observations.copy()
    with training_environments("iql", [4, 9], dataset, room=5) as (made, buffer, _):
        tensors = [buffer.observations, buffer.actions, buffer.rewards, buffer.terminated]
        places = [tensor.data_ptr() for tensor in tensors]
        for _ in range(5):
            made.step()
        assert [tensor.data_ptr() for tensor in tensors] == places
        assert {len(tensor) for tensor in tensors} == {120 + 2 * 5}
        with pytest.raises(IndexError):
            made.step()
    assert not np.shares_memory(buffer.observations.numpy(), dataset.observations)
    np.testing.assert_array_equal(dataset.observations, before)


def test_an_action_that_is_not_finite_stops_no_environment() -> None:
    dataset = walks()
    job = make_job("td3_bc", [(dataset, [0, 1])], STREAM, ONLINE, TWO_POINTS)
    with Training(job, [dataset]).trainer() as trainer:
        with torch.no_grad():
            trainer.agents.algorithm.actor.biases[-1][1] = float("nan")
        rows = list(trainer.train())
    alone = train("td3_bc", [0], dataset, online=ONLINE, evaluation=TWO_POINTS).rows
    assert [without_seconds(row) for row in rows if row.seed == 0] == [without_seconds(row) for row in alone]
    failed = [row for row in rows if row.seed == 1]
    assert len(failed) == len(alone)
    assert all(row.status == "failed" for row in failed)


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
def test_a_share_of_each_minibatch_is_online_data(
    size: int, steps: int, each: int, window: int | None, data: st.DataObject
) -> None:
    batch, share = 16, data.draw(st.floats(0.01, 0.99))
    schedule = Interaction(size, steps, each, window, share)
    drawn = schedule.positions(0, schedule.updates, np.random.default_rng(1), batch)
    visible = size + 1 + np.arange(schedule.updates)[:, None] // each
    some_data = visible[:, 0] - (window or visible[:, 0]) < size  # of the dataset is in the window
    online = (drawn >= size).sum(1)
    assert (online[some_data] == min(max(1, round(share * batch)), batch - 1)).all()
    assert (online[~some_data] == batch).all()
    assert (drawn < visible).all()
    assert (drawn >= visible - (window or visible)).all()


def test_a_share_and_a_window_by_hand() -> None:
    # N = 10, window 3: positions 8 to 10 at the first update, 9 to 11, then 10 to 12 and so on.
    schedule = Interaction(10, 5, 1, window=3, share=0.25)
    drawn = schedule.positions(0, 5, np.random.default_rng(0), 400)
    assert [(row.min(), row.max()) for row in drawn] == [(8, 10), (9, 11), (10, 12), (11, 13), (12, 14)]
    assert (drawn >= 10).sum(1).tolist() == [100, 100, 400, 400, 400]


@given(st.integers(0, 20), st.integers(1, 30), st.integers(1, 9), st.integers(0, 200))
def test_the_division_of_updates_into_calls_changes_no_position(
    size: int, steps: int, batch: int, cut: int
) -> None:
    schedule = Interaction(size, steps, 2, None, None)
    cut = min(cut, schedule.updates)
    whole = schedule.positions(0, schedule.updates, np.random.default_rng(1), batch)
    rng = np.random.default_rng(1)
    parts = [schedule.positions(0, cut, rng, batch), schedule.positions(cut, schedule.updates, rng, batch)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_online_rows_continue_the_offline_rows() -> None:
    online = Online(steps=12, updates_per_step=3)
    training = train("iql", [5, 2], online=online, evaluation=TWO_POINTS)
    offline = train("iql", [5, 2], evaluation=TWO_POINTS)
    for run in training.job.runs:
        rows = training.checkpoints.rows[run]
        before = offline.checkpoints.rows[run]
        assert [without_seconds(row) for row in rows[:3]] == [without_seconds(row) for row in before]
        assert [
            (r.seed, r.phase, r.samples, r.env_steps, r.updates, r.status) for r in rows[len(before) :]
        ] == [(run.seed, "online", 120 + e, e, 62 + 3 * e, "ok") for e in (6, 12)]
        assert training.checkpoints.finished[run][0]["algorithm"]["updates"] == 62 + 36
        assert sum(row.samples == 120 for row in rows) == 1  # it serves both phases
    assert {training.job.total_updates(replica) for replica in training.job.replicas} == {62 + 36}


@pytest.mark.parametrize("mix", ["uniform", 0.5])
@pytest.mark.parametrize("name", BUILT_IN)
def test_rows_and_weights_of_a_seed_do_not_depend_on_the_other_seeds(name: str, mix) -> None:
    online = Online(steps=12, mix=mix)
    together = train(name, [4, 0, 11], online=online)
    for run in together.job.runs:
        assert together.outcome(run) == train(name, [run.seed], online=online).outcome()


def always_right() -> Dataset:
    """A dataset of CartPole that always pushes right."""
    plain = make_dataset(env_id="CartPole-v1")
    observations = np.random.default_rng(0).uniform(-0.2, 0.2, (120, 4)).astype(np.float32)
    actions = np.ones(120, np.int64)
    return replace(plain, observations=observations, next_observations=observations, actions=actions)


def test_discrete_actions_are_stored_sampled_and_chosen_as_integers() -> None:
    """CartPole's are 0 and 1; a policy that always pushes right falls in about ten steps."""
    dataset, online, evaluation = always_right(), Online(steps=4), Evaluation(2, 8)
    job = make_job("bc", [(dataset, [4, 0])], online=online, evaluation=evaluation)
    training = Training(job, [dataset])
    with training.trainer() as trainer:
        rows = list(trainer.train())
        assert trainer.agents.act(np.zeros((2, 3, 4))).tolist() == [[1, 1, 1], [1, 1, 1]]
        assert trainer.buffer.actions.dtype == torch.int64
    alone = train("bc", [0], dataset, online=online, evaluation=evaluation)
    assert [without_seconds(row) for row in rows if row.seed == 0] == alone.outcome()[0]
    assert {row.status for row in rows} == {"ok"}
    assert all(7 < length < 13 for length in rows[-1].episode_lengths)
    last = training.checkpoints.finished[job.runs[1]]
    assert [tensor.numpy().tobytes() for tensor in tensors_in(last)] == alone.outcome()[1]


@pytest.mark.parametrize("name", BUILT_IN)
def test_evaluation_never_changes_training(name: str) -> None:
    often = train(name, [1], online=ONLINE, evaluation=Evaluation(points=6, episodes=3))
    seldom = train(name, [1], online=ONLINE, evaluation=Evaluation(points=1, episodes=1))
    assert often.outcome()[1] == seldom.outcome()[1]


@pytest.mark.parametrize("name", [name for name in BUILT_IN if plugins.find(name).learns_online])
def test_agents_learn_from_online_steps(name: str) -> None:
    half = train(name, [1], online=Online(steps=20, mix=0.5), evaluation=TWO_POINTS).rows
    most = train(name, [1], online=Online(steps=20, mix=0.9), evaluation=TWO_POINTS).rows
    at_end = [next(row for row in rows if row.samples == 120) for rows in (half, most)]
    assert without_seconds(at_end[0]) == without_seconds(at_end[1])
    assert half[-1].metrics != most[-1].metrics
    assert all(row.metrics for row in half if row.updates)


def test_bc_does_not_change_online_and_its_rows_are_new_evaluations() -> None:
    evaluation = Evaluation(points=2, episodes=3)
    training = train("bc", [3], online=ONLINE, evaluation=evaluation)
    before = train("bc", [3], evaluation=evaluation)
    assert training.outcome()[1] == before.outcome()[1]
    online = [row for row in training.rows if row.phase == "online"]
    assert [(row.samples, row.env_steps, row.updates, row.metrics) for row in online] == [
        (126, 0, 62, {}),
        (132, 0, 62, {}),
    ]
    assert online[0].episode_returns != online[1].episode_returns


def test_the_normalizer_is_that_of_all_data_and_does_not_change_online() -> None:
    dataset = small_dataset()
    job = make_job("td3_bc", [(dataset, [0])], STREAM, ONLINE, TWO_POINTS)
    means = {}
    with Training(job, [dataset]).trainer() as trainer:
        for row in trainer.train():
            means[row.samples] = trainer.agents.normalizer.mean[0, 0].numpy().copy()
    all_data = dataset.observations.astype(np.float64).mean(0)
    assert np.abs(means[120] - all_data).max() > 1e-4  # the row at N comes before
    np.testing.assert_allclose(means[126], all_data, atol=1e-6)
    np.testing.assert_array_equal(means[126], means[132])


@pytest.mark.parametrize("normalizer", ["visible", "full"])
def test_learning_without_data_starts_at_zero(normalizer) -> None:
    nothing = load("none", "Walk-v0")
    assert (len(nothing), nothing.name, nothing.behaviour_return) == (0, "none (Walk-v0)", None)
    protocol, online = Protocol(normalizer=normalizer), Online(steps=10)
    training = train("td3_bc", [7, 1], nothing, protocol, online, TWO_POINTS)
    assert [(r.seed, r.phase, r.samples, r.env_steps, r.updates) for r in training.rows] == [
        (seed, "online", e, e, e) for seed in (7, 1) for e in (0, 5, 10)
    ]
    alone = train("td3_bc", [1], nothing, protocol, online, TWO_POINTS)
    assert training.outcome(training.job.runs[1]) == alone.outcome()
    with pytest.raises(UserError, match="none: "):
        load("none")


def test_an_environment_that_raises_ends_the_job_and_is_named() -> None:
    dataset = walks()
    with training_environments("td3_bc", [0, 1, 2], dataset, room=50) as (made, _, _):
        odd = [seed for seed, env in zip((0, 1, 2), made._envs, strict=True) if env.unwrapped.first % 2]
        assert odd, "no environment breaks: choose other seeds"
    job = make_job("td3_bc", [(dataset, [0, 1, 2])], STREAM, Online(steps=50), Evaluation(5, 1))
    training = Training(job, [dataset])
    with pytest.raises(EnvironmentFailed) as failed:
        training.train()
    assert f"Walk-v0 of seed {odd[0]} raised OSError at online step 41: a wheel broke" in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)
    assert [rows[-1].samples for rows in training.checkpoints.rows.values()] == [160] * 3


def test_invalid_settings_are_refused() -> None:
    for values, message in (
        ({"mix": 0.5}, r"online\.mix: has no effect without an online phase"),
        ({"updates_per_step": 2}, r"online\.updates_per_step: has no effect without"),
        ({"steps": -1}, r"online\.steps: must be at least 0"),
        ({"steps": 9, "updates_per_step": 0}, r"online\.updates_per_step: must be at least 1"),
        ({"steps": 9, "mix": 0.0}, r"online\.mix: must be uniform or a number between 0 and 1, not 0\.0"),
        ({"steps": 9, "mix": 1.0}, r"online\.mix"),
        ({"steps": 9, "mix": "half"}, r"online\.mix"),
    ):
        with pytest.raises(UserError, match=message):
            Online(**values)
    with pytest.raises(UserError, match=r"online\.steps: protocol\.regime retrain trains a separate agent"):
        Study(("pendulum-replay",), ("bc",), protocol=Protocol(regime="retrain"), online=ONLINE)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (Study(("none",), ("iql",), online=ONLINE), "none: name the environment"),
        (Study(("none",), ("iql",), env="Pendulum-v1"), "there is no online phase"),
        (
            Study(("none",), ("bc",), env="Pendulum-v1", online=ONLINE),
            "bc: cannot learn anything",
        ),
        (Study(("none",), ("iql",), env="Pendulum-v1", online=Online(9, mix=0.5)), r"online\.mix: without"),
        (
            Study(("none",), ("td3_bc",), env="CartPole-v1", online=ONLINE),
            "td3_bc: supports continuous actions",
        ),
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
