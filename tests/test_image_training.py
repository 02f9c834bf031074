"""Training on images: resumed, with other replicas, and with data that has not arrived, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import GAME, env_id, image_dataset, slow_stack
from training_setup import NO_ONLINE, Training, equal_tensors, make_job, without_predictions

from seqeval import environments
from seqeval.config import Evaluation, Online, Protocol
from seqeval.evaluation import backends
from seqeval.frames import Frames, FrameStacks
from seqeval.seeding import stream
from seqeval.slicing import arrival_order
from seqeval.types import Dataset, Image

SB3 = "sb3:DQN"
LINEAR = f"{Path(__file__).with_name('image_algorithms.py')}:LinearQ"
STREAM = Protocol(start=20, grow_by=7)  # on 50 transitions: 6 updates
ONLINE = Online(steps=9, updates_per_step=2)  # 18 more
POINTS = Evaluation(points=3, episodes=2)


def training(
    runs: list[tuple[Dataset, tuple[int, ...]]],
    online: Online = NO_ONLINE,
    evaluation: Evaluation = POINTS,
    name: str = LINEAR,
) -> Training:
    datasets = [dataset for dataset, _ in runs]
    return Training(make_job(name, runs, STREAM, online, evaluation), datasets)


@pytest.mark.parametrize("name", [LINEAR, SB3])
@pytest.mark.parametrize("mix", [None, "uniform", 0.5])
def test_a_run_on_images_resumes_exactly(mix, name: str) -> None:
    online = NO_ONLINE if mix is None else replace(ONLINE, mix=mix)
    runs = [(image_dataset(), (3, 1))]
    whole = training(runs, online, name=name).train()
    resumed = training(runs, online, name=name).train({2, 5, *((6, 7, 12, 13, 20) if mix else ())})
    assert len(resumed.jobs) >= 3
    assert resumed.outcome() == whole.outcome()
    assert {row.phase for row in whole.rows} == {"offline"} | ({"online"} if mix else set())


@pytest.mark.parametrize("online", [NO_ONLINE, ONLINE], ids=["offline", "online"])
def test_a_replica_on_images_does_not_depend_on_others(online: Online) -> None:
    one, other = image_dataset(), image_dataset((9, 3, 20, 15, 3), seed=1, name="other")
    together = training([(one, (3, 1)), (other, (1,))], online).train()
    for dataset, seed in ((one, 3), (one, 1), (other, 1)):
        alone = training([(dataset, (seed,))], online).train()
        assert alone.outcome() == together.outcome(alone.job.runs[0])


def test_online_transitions_of_a_run_are_what_its_environment_showed() -> None:
    made = training([(image_dataset(stack=3), (3,))], ONLINE)
    with made.trainer() as trainer:
        list(trainer.train())
        buffer, game = trainer.buffer, trainer.environments
        assert game is not None
        rows = buffer.online_rows(0)
        now = buffer.observations[torch.from_numpy(rows)].numpy()
        following = buffer.next_observations[torch.from_numpy(rows)].numpy()
        actions = buffer.actions[rows].tolist()
    # The same episodes again, in an environment without stacks.
    env, episode, step = environments.make(GAME), 0, 0
    seen: list[np.ndarray] = []
    for place, action in enumerate(actions):
        if not step:
            rng = stream(3, "online", "environment", episode)
            seen, episode = [env.reset(seed=int(rng.integers(2**31)))[0]], episode + 1
        assert (now[place] == slow_stack(seen, step, 3)).all()
        observation, _, ended, cut, _ = env.step(action)
        seen.append(observation)
        step += 1
        assert (following[place] == slow_stack(seen, step, 3)).all()
        step = 0 if ended or cut else step
    assert episode == 2


def test_stacks_of_an_environment_are_those_of_the_data() -> None:
    vector, plain = backends.find("gymnasium")(env_id(3), 2), environments.make(GAME)
    observations = vector.reset([5, 6])
    seen = [plain.reset(seed=5)[0]]
    assert observations.dtype == np.uint8
    assert environments.describe(env_id(3)).observation == Image(2, 3, 4, 3)
    for step in range(5):
        assert (observations[0] == slow_stack(seen, step, 3)).all()
        observations, *_ = vector.step(np.zeros(2, np.int64))
        seen.append(plain.step(0)[0])
    assert (observations[0] == slow_stack(seen, 5, 3)).all()
    observations, *_ = vector.step(np.zeros(2, np.int64))  # the next episode
    first = observations[0][:2]
    assert (observations[0] == np.concatenate([first] * 3)).all()
    vector.close()


def overwritten(clean: Dataset, visible: np.ndarray) -> Dataset:
    """The dataset with everything overwritten that has not arrived: an observation arrives with its
    transition as a whole, so the frames of its stack do too."""
    stacks = clean.observations
    assert isinstance(stacks, FrameStacks)
    old, rows = stacks.frames, np.setdiff1d(np.arange(len(clean)), visible)
    seen = [FrameStacks(old, of_next).numbers(visible) for of_next in (False, True)]
    unseen = np.setdiff1d(np.arange(len(old.parts[0])), np.concatenate(seen))
    assert len(unseen)
    frames = old.parts[0].copy()
    frames[unseen] ^= 255
    new = Frames((frames,), old.current, old.following, old.first, old.stack)
    rewards, actions, terminated = clean.rewards.copy(), clean.actions.copy(), clean.terminated.copy()
    rewards[rows], actions[rows] = 1e30, (actions[rows] + 1) % 3
    terminated[rows] ^= True
    return replace(
        clean,
        observations=FrameStacks(new, of_next=False),
        next_observations=FrameStacks(new, of_next=True),
        rewards=rewards,
        actions=actions,
        terminated=terminated,
    )


@pytest.mark.parametrize("order", ["shuffled", "episodes"])
def test_images_that_have_not_arrived_change_nothing(order) -> None:
    clean, protocol = image_dataset(), replace(STREAM, order=order)
    arrival = arrival_order(order, stream(3, "order"), clean.episode, clean.episode_returns, clean.segments)

    def outcomes(dataset: Dataset, until: int) -> list:
        found = []
        job = make_job(LINEAR, [(dataset, (3,))], protocol, evaluation=POINTS)
        with Training(job, [dataset]).trainer() as trainer:
            for row in trainer.train():
                found.append((without_predictions(row), trainer.agents.state_of(0)))
                if row.samples >= until:
                    return found
        return found

    expected = outcomes(clean, 50)
    for place, (row, state) in enumerate(expected[:-1]):
        spoiled = outcomes(overwritten(clean, arrival[: row["samples"]]), row["samples"])
        assert len(spoiled) == place + 1
        assert spoiled[-1][0] == row
        assert equal_tensors(spoiled[-1][1], state)
    # The audit can fail: at the end everything has arrived.
    spoiled = outcomes(overwritten(clean, arrival[:30]), 50)
    assert not equal_tensors(spoiled[-1][1], expected[-1][1])


def test_evaluators_of_data_see_stacks() -> None:
    metrics = ("episodes", "initial-value", "prequential")
    made = training([(image_dataset(), (3, 1))], evaluation=replace(POINTS, metrics=metrics)).train()
    found = made.rows[0].evaluations
    assert {"initial_value", "prequential_squared_error"} <= found.keys()
    assert np.isfinite(found["initial_value"])


def test_held_out_episodes_of_images_never_arrive() -> None:
    dataset = image_dataset()
    job = make_job(LINEAR, [(dataset, (3,))], replace(STREAM, hold_out=0.3), evaluation=POINTS)
    made = Training(job, [dataset]).train()
    assert 0 < made.rows[-1].samples < len(dataset)
