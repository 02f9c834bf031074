"""Policies and exploration with discrete actions, and the settings of CQL that differ between kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from seqeval.algos.networks import CategoricalActor, epsilon_greedy, of_actions
from training_setup import dataset_of, small_dataset

from seqeval import plugins
from seqeval.algorithm import Algorithm, merge_configs, structure
from seqeval.types import Spec, Vector

CPU = torch.device("cpu")
SPEC = Spec(Vector(5), 3, discrete=True)


def make(name: str, **settings) -> Algorithm:
    found = plugins.find(name)
    return found(SPEC, replace(found.Config(), hidden=(16,), **settings), [0, 1], 10, CPU)


def states(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, count, 5)).astype(np.float32))


def test_values_of_actions_by_hand() -> None:
    values = torch.arange(12.0).view(1, 2, 2, 3)  # of two critics in two states
    assert of_actions(values, torch.tensor([[[2, 0]]])).tolist() == [[[2.0, 3.0], [8.0, 9.0]]]


def test_bcq_with_threshold_0_is_greedy_and_with_1_it_imitates() -> None:
    observations = states(200)
    greedy, imitating = make("bcq", threshold=0.0), make("bcq", threshold=1.0)
    assert torch.equal(greedy.act(observations), greedy.critic(observations).argmax(-1))
    assert torch.equal(imitating.act(observations), imitating.imitation(observations).argmax(-1))


def test_bcq_never_chooses_an_action_that_is_too_unlikely() -> None:
    algorithm, observations = make("bcq", threshold=0.8), states(200)
    logits = algorithm.imitation(observations)
    ratio = logits.softmax(-1) / logits.softmax(-1).amax(-1, keepdim=True)
    allowed = ratio > 0.8
    assert 0.1 < allowed.double().mean() < 0.9
    chosen = algorithm.act(observations)
    assert of_actions(allowed, chosen).all()
    best = algorithm.critic(observations).masked_fill(~allowed, -torch.inf).amax(-1)
    assert torch.equal(algorithm.q_value(observations, chosen), best)


@pytest.mark.parametrize("name", ["cql", "bcq"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_random_actions_are_explored_with_the_given_probability(name: str, rate: float) -> None:
    algorithm, observations = make(name, exploration_rate=rate), states(1).expand(2, 20_000, 5)
    noise = torch.randn(2, 20_000, algorithm.exploration_size, generator=torch.Generator().manual_seed(0))
    actions = algorithm.explore(observations, noise)
    other = (actions != algorithm.act(observations)).double().mean().item()
    assert other == pytest.approx(rate * 2 / 3, abs=0.01 * (rate > 0))
    counts = torch.bincount(epsilon_greedy(actions, noise, 1.0).flatten(), minlength=3) / 40_000
    np.testing.assert_allclose(counts.numpy(), 1 / 3, atol=0.01)


def test_a_categorical_policy_samples_with_its_probabilities() -> None:
    actor, observations = CategoricalActor(SPEC, (16,), [0, 1], CPU), states(1)
    noise = torch.randn(2, 40_000, 3, generator=torch.Generator().manual_seed(0))
    sampled = actor.sample(observations.expand(2, 40_000, 5), noise)
    logs = [actor.log_prob(observations, torch.full((2, 1), action)) for action in range(3)]
    probabilities = torch.cat(logs, -1).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    for replica in range(2):
        shares = torch.bincount(sampled[replica], minlength=3) / 40_000
        torch.testing.assert_close(shares, probabilities[replica], rtol=0, atol=0.01)


def test_a_weight_of_cql_that_is_not_given_is_not_merged_with_one_that_is() -> None:
    given, other, default = (plugins.parse(f"cql{text}").config for text in (":weight=2", ":weight=3", ""))
    assert structure(given) == structure(other) != structure(default)
    assert merge_configs([given, other], CPU).weight.tolist() == [2.0, 3.0]
    assert merge_configs([default, default], CPU).weight is None


def test_settings_of_cql_without_effect_are_noted() -> None:
    cql = plugins.find("cql")
    config = plugins.parse("cql:sampled_actions=4,exploration_rate=0.1").config
    discrete, continuous = dataset_of("discrete"), small_dataset()
    assert cql.check_data(config, discrete, "shuffled") == [
        "sampled_actions has no effect with discrete actions"
    ]
    assert cql.check_data(config, continuous, "shuffled") == [
        "exploration_rate has no effect with continuous actions"
    ]
    assert cql.check_data(cql.Config(), discrete, "shuffled") == []
