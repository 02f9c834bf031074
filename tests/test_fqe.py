"""Fitted Q evaluation on small Markov decision processes whose values are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqeval.config import Evaluation
from seqeval.evaluation import VisibleData
from seqeval.evaluation.evaluators.fqe import FQE, Config
from seqeval.replay.buffer import Buffer
from seqeval.replay.normalization import action_mapping
from seqeval.types import Continuous, Dataset, Discrete, Spec, Vector

CPU = torch.device("cpu")
STATES = 4
GAMMA = 0.8
SETTINGS = Config(updates=1500, learning_rate=2e-3, batch_size=64, target_rate=0.02, hidden=(32,))


@dataclass(frozen=True)
class FixedPolicies:
    """Every replica takes the same action in each state; observations are one-hot."""

    seeds: tuple[int, ...]
    actions: Tensor  # (STATES,), or (STATES, 1)
    discrete: bool

    @property
    def discounts(self) -> tuple[float, ...]:
        return (GAMMA,) * len(self.seeds)

    @property
    def algorithm(self) -> Any:
        spec = Spec(Vector(STATES), 2 if self.discrete else 1, self.discrete)
        config = SimpleNamespace(batch_size=16)
        sampling = SimpleNamespace(kind="transitions")
        return SimpleNamespace(
            device=CPU, spec=spec, config=config, noise={}, sampling=sampling, remembers=False
        )

    def policy_actions(self, observations: Tensor) -> Tensor:
        return self.actions[observations.argmax(-1)]


def tabular(rng: np.random.Generator, discrete: bool) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """A dataset of a random deterministic process with two actions, the next state of each state and action
    (-1: the end) and the reward. Episodes of at most 12 steps of uniformly random actions."""
    following = rng.integers(0, STATES, (STATES, 2))
    following[2, 1] = -1
    reward = rng.uniform(0.5, 2.0, (STATES, 2))
    steps: list[tuple[int, int, float, int, bool, bool, int]] = []
    for episode in range(60):
        state = int(rng.integers(0, 2))
        for step in range(12):
            action = int(rng.integers(0, 2))
            after = int(following[state, action])
            ends = after < 0
            cut = step == 11 and not ends
            steps.append((state, action, reward[state, action], max(after, 0), ends, cut, episode))
            if ends:
                break
            state = after
    states, actions, rewards, after, ends, cut, episodes = (np.array(x) for x in zip(*steps, strict=True))
    eye = np.eye(STATES, dtype=np.float32)
    return (
        Dataset(
            name="tabular",
            env_id=None,
            observations=eye[states],
            actions=actions.astype(np.int64) if discrete else (actions[:, None] - 0.5).astype(np.float32),
            rewards=rewards.astype(np.float32),
            next_observations=np.where(ends[:, None], np.nan, eye[after]).astype(np.float32),
            terminated=ends,
            truncated=cut,
            episode=episodes.astype(np.int32),
            episode_returns=np.bincount(episodes, rewards),
            episode_complete=np.ones(60, bool),
            segments=(len(steps),),
            reference=None,
            digest="none",
        ),
        following,
        reward,
    )


def exact_values(following: np.ndarray, reward: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """V of a deterministic policy in each state."""
    states = np.arange(STATES)
    after, matrix = following[states, policy], np.eye(STATES)
    for state in states[after >= 0]:
        matrix[state, after[state]] -= GAMMA
    return np.linalg.solve(matrix, reward[states, policy])


def visible(dataset: Dataset, replicas: int, samples: int, discrete: bool) -> VisibleData:
    space: Any = Discrete(2, 0) if discrete else Continuous(-np.ones(1, np.float32), np.ones(1, np.float32))
    buffer = Buffer([dataset], [action_mapping(space, CPU)], CPU)
    return VisibleData(
        (samples,) * replicas,
        buffer,
        rows=lambda place: np.arange(samples, dtype=np.int32),
        arriving=lambda place: np.arange(0, dtype=np.int32),
        held_out=lambda place: np.arange(0, dtype=np.int32),
        dataset=dataset,
        reward_factors=(1.0,) * replicas,
    )


@pytest.mark.parametrize("discrete", [True, False])
def test_values_are_within_two_percent_of_the_exact_ones(discrete: bool) -> None:
    rng = np.random.default_rng(5)
    dataset, following, reward = tabular(rng, discrete)
    policy = np.array([1, 0, 0, 1])
    actions = torch.from_numpy(policy) if discrete else torch.from_numpy(policy[:, None] - 0.5).float()
    evaluator = FQE(None, (0, 1), Evaluation(), SETTINGS)
    found = evaluator.evaluate(
        FixedPolicies((0, 1), actions, discrete), visible(dataset, 2, len(dataset), discrete)
    )
    starts = dataset.observations[np.unique(dataset.episode, return_index=True)[1]].argmax(1)
    expected = exact_values(following, reward, policy)[starts].mean()
    np.testing.assert_allclose(found["fqe"], expected, rtol=0.02)
    assert found["fqe"][0] != found["fqe"][1]  # weights and minibatches are of the replica's own seed
    assert found["held_out_fqe"] == [None, None]  # there are no held-out episodes


def test_the_return_of_the_behaviour_by_hand() -> None:
    dataset, _, _ = tabular(np.random.default_rng(0), True)
    samples = len(dataset) - 1  # the last episode is not complete
    evaluator = FQE(None, (0,), Evaluation(), replace(SETTINGS, updates=1))
    policies = FixedPolicies((0,), torch.zeros(STATES, dtype=torch.int64), True)
    found = evaluator.evaluate(policies, visible(dataset, 1, samples, True))
    returns = []
    for episode in range(59):
        rewards = dataset.rewards[dataset.episode == episode]
        returns.append((rewards * GAMMA ** np.arange(len(rewards))).sum())
    np.testing.assert_allclose(found["behaviour_return"], [np.mean(returns)], rtol=1e-6)


def test_it_continues_from_the_previous_point_and_from_a_saved_state() -> None:
    dataset, _, _ = tabular(np.random.default_rng(1), True)
    policies = FixedPolicies((3, 4), torch.zeros(STATES, dtype=torch.int64), True)
    settings = replace(SETTINGS, updates=5)

    def points(evaluator: FQE, *samples: int) -> list[Any]:
        return [evaluator.evaluate(policies, visible(dataset, 2, n, True))["fqe"] for n in samples]

    whole = FQE(None, (3, 4), Evaluation(), settings)
    expected = points(whole, 50, 100, 150)
    first = FQE(None, (3, 4), Evaluation(), settings)
    points(first, 50)
    second = FQE(None, (3, 4), Evaluation(), settings)
    second.load_states([first.state_of(0), first.state_of(1)])
    assert points(second, 100, 150) == expected[1:]
    cold = points(FQE(None, (3, 4), Evaluation(), settings), 100, 150)
    assert all(one != other for one, other in zip(cold, expected[1:], strict=True))


def test_a_replica_has_the_numbers_that_it_has_alone() -> None:
    dataset, _, _ = tabular(np.random.default_rng(2), False)
    actions, settings = torch.full((STATES, 1), 0.5), replace(SETTINGS, updates=20)
    found = {}
    for seeds in ((7,), (1, 7), (7, 1, 2)):
        evaluator = FQE(None, seeds, Evaluation(), settings)
        values = evaluator.evaluate(
            FixedPolicies(seeds, actions, False), visible(dataset, len(seeds), 200, False)
        )
        found[seeds] = values["fqe"][seeds.index(7)]
    assert len(set(found.values())) == 1


def test_one_critic_of_many_replicas_computes_what_many_of_one_do(float64: None) -> None:
    """The way of a GPU, on the CPU and in float64."""
    from seqeval.evaluation.evaluators.fqe import Critic

    settings = replace(SETTINGS, hidden=(8, 8))
    together = Critic(settings, 3, 2, False, (0, 1), CPU)
    alone = [Critic(settings, 3, 2, False, (seed,), CPU) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        shapes = ((2, 6, 3), (2, 6, 2), (2, 6), (2, 6, 3), (2, 6, 2), (2, 6))
        batch = [torch.rand(shape, generator=generator) for shape in shapes]
        together.update(*batch)
        for place, critic in enumerate(alone):
            critic.update(*(value[place : place + 1] for value in batch))
    for place, critic in enumerate(alone):
        for mine, theirs in zip(together.parameters, critic.parameters, strict=True):
            torch.testing.assert_close(mine[place : place + 1], theirs)
