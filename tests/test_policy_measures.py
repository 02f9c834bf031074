"""What evaluators read from algorithms: log-likelihood, Q and TD error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_setup import BUILT_IN, SMALL, STREAM, Training, make_job, small_dataset

from seqeval import plugins
from seqeval.algorithm import Algorithm, Spec, Vector
from seqeval.check.subject import CPU, SPECS, Subject
from seqeval.config import Evaluation

STOCHASTIC = ("awac", "cql", "edac", "iql", "rlpd", "sac_n")
WITH_TD = ("awac", "cql", "iql", "td3_bc")
ENSEMBLES_WITH_TD = ("edac", "fql", "rebrac", "rlpd", "sac_n")
WITH_Q = (*WITH_TD, "edac", "fql", "rebrac", "rlpd", "sac_n", "sb3:SAC", "sb3:TD3", "sb3:DDPG")


def subject(name: str, space: str = "continuous") -> Subject:
    config = plugins.find(name).Config()
    hidden = {"net_arch": (8, 8)} if name.startswith("sb3") else {"hidden": (8, 8)}
    return Subject(plugins.find(name), replace(config, batch_size=8, **hidden), space)  # type: ignore[arg-type]


def trained(name: str, space: str = "continuous", spec: Spec | None = None) -> tuple[Subject, Algorithm]:
    found = subject(name, space)
    algorithm = found.make(spec=spec)
    found.train(algorithm)
    return found, algorithm


@pytest.mark.parametrize("name", [*STOCHASTIC, "sb3:SAC"])
def test_densities_of_actions_integrate_to_the_probability_of_the_box(name: str) -> None:
    _, algorithm = trained(name, spec=Spec(Vector(3), 1))
    actions = torch.linspace(-1, 1, 20_001)[1:-1]
    observations = torch.randn(3, 1, 3, generator=torch.Generator().manual_seed(0)).expand(3, len(actions), 3)
    with torch.no_grad():
        log_prob = algorithm.log_prob(observations, actions.expand(3, -1).unsqueeze(-1))
    assert log_prob is not None
    mass = log_prob.double().exp().sum(-1) * 1e-4
    if name not in ("awac", "iql"):  # squashed: all of it
        np.testing.assert_allclose(mass.numpy(), 1, atol=2e-3)
    else:  # normal with a tanh mean: what is within the bounds
        mean = algorithm.act(observations[:, :1])[:, 0, 0].double()
        std = algorithm.actor.log_std.double().exp()[:, 0, 0]  # type: ignore[attr-defined]
        inside = torch.special.ndtr((1 - mean) / std) - torch.special.ndtr((-1 - mean) / std)
        np.testing.assert_allclose(mass.detach().numpy(), inside.detach().numpy(), atol=2e-3)


def test_the_classifier_of_discrete_bc_has_log_probabilities() -> None:
    _, algorithm = trained("bc", "discrete")
    observations = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = [algorithm.log_prob(observations, torch.full((3, 4), action)) for action in range(3)]
        best = algorithm.act(observations)
    logs = torch.stack([value for value in values if value is not None], -1)
    np.testing.assert_allclose(logs.exp().sum(-1).numpy(), 1, atol=1e-6)
    assert torch.equal(logs.argmax(-1), best)


@pytest.mark.parametrize("name", ["bc", "td3_bc", "sb3:TD3"])
def test_deterministic_policies_have_no_likelihood(name: str) -> None:
    _, algorithm = trained(name)
    assert algorithm.log_prob(torch.zeros(3, 2, 5), torch.zeros(3, 2, 2)) is None


def test_algorithms_without_a_critic_have_no_values() -> None:
    found, algorithm = trained("bc")
    assert algorithm.q_value(torch.zeros(3, 2, 5), torch.zeros(3, 2, 2)) is None
    assert algorithm.td_error(found.batch(algorithm, 0)) is None


@pytest.mark.parametrize("name", WITH_TD)
def test_td_errors_are_those_of_the_critic_loss(name: str) -> None:
    """The critic loss that an update reports is the sum over critics of the mean squared error."""
    found, algorithm = trained(name)
    batch = found.batch(algorithm, 3)
    with torch.no_grad():
        errors = algorithm.td_error(batch)
    assert errors is not None
    assert errors.shape == (3, 2, 8)
    if name == "iql":  # its target follows the update of V, so the reported loss is that of another V
        return
    loss = algorithm.update(batch)["critic_loss"]
    torch.testing.assert_close(errors.square().mean(-1).sum(-1), loss)


@pytest.mark.parametrize("name", ENSEMBLES_WITH_TD)
def test_td_errors_of_ensembles_are_those_of_the_critic_loss(name: str) -> None:
    found, algorithm = trained(name)
    batch = found.batch(algorithm, 3)
    with torch.no_grad():
        errors = algorithm.td_error(batch)
    assert errors is not None
    mean = errors.square().mean(-1)
    update = algorithm.update(batch)
    if name == "edac":  # its loss also has the critics' diversity, with the weight 1
        update["critic_loss"] = update["critic_loss"] - update["similarity"]
    averaged = name in ("fql", "rlpd")
    torch.testing.assert_close(mean.mean(-1) if averaged else mean.sum(-1), update["critic_loss"])


def test_only_policies_whose_actions_depend_on_earlier_steps_remember() -> None:
    remembering = [name for name in BUILT_IN if small(name).remembers]
    assert remembering == ["dt", "qc_fql"]


def small(name: str) -> Algorithm:
    settings = SMALL.get(name, {"hidden": (8, 8)})
    return Subject(plugins.find(name), replace(plugins.find(name).Config(), **settings), "continuous").make()


@pytest.mark.parametrize("name", ["dt", "qc_fql"])
def test_no_metric_asks_a_policy_that_remembers_for_actions_in_single_states(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(*_: object) -> None:
        raise AssertionError("act is called in single states")

    monkeypatch.setattr(plugins.find(name), "act", act)
    # initial-value may ask for them, since it does at the start of episodes alone.
    metrics = ("prequential", "fqe:updates=2", "held-out", "soft-opc")
    job = make_job(
        name,
        [(small_dataset(), [0])],
        protocol=replace(STREAM, hold_out=0.2),
        evaluation=Evaluation(points=3, metrics=metrics),
    )
    rows, _ = Training(job, [small_dataset()]).train().outcome(job.runs[0])
    found = {key for row in rows for key, value in row["evaluations"].items() if value != "None"}
    assert found == {"prequential_transitions"}


@pytest.mark.parametrize("name", WITH_Q)
def test_values_are_minima_over_critics_and_change_nothing(name: str) -> None:
    found, algorithm = trained(name)
    before = found.learned(algorithm)
    batch = found.batch(algorithm, 5)
    with torch.no_grad():
        values = algorithm.q_value(batch.observations, batch.actions)
        again = algorithm.q_value(batch.observations, batch.actions)
        error = algorithm.td_error(batch)
    assert values is not None
    assert values.shape == (3, 8)
    assert torch.equal(values, again)  # type: ignore[arg-type]
    if error is not None:  # the target is the same for both critics
        both = algorithm.critics(batch.observations, batch.actions)  # type: ignore[attr-defined]
        torch.testing.assert_close(both[:, 0] - both[:, 1], error[:, 0] - error[:, 1], atol=1e-5, rtol=1e-4)
        assert torch.equal(values, both.amin(1))
    for one, other in zip(_leaves(before), _leaves(found.learned(algorithm)), strict=True):
        assert torch.equal(one, other)


def test_sb3_reports_its_discount_and_q_of_discrete_actions() -> None:
    dqn = plugins.find("sb3:DQN")
    algorithm = dqn(SPECS["discrete"][0], replace(dqn.Config(), net_arch=(8, 8)), (1, 2), 10, CPU)
    assert algorithm.discount == 0.99
    observations = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        greedy = algorithm.act(observations)
        best = algorithm.q_value(observations, greedy)
        others = [algorithm.q_value(observations, torch.full_like(greedy, action)) for action in range(3)]
    assert torch.equal(torch.stack(others).amax(0), best)  # type: ignore[arg-type]


def test_the_likelihood_of_a_normal_policy_by_hand() -> None:
    _, algorithm = trained("iql", spec=Spec(Vector(3), 1))
    observations, actions = torch.zeros(3, 1, 3), torch.full((3, 1, 1), 0.25)
    with torch.no_grad():
        mean, found = algorithm.act(observations)[..., 0], algorithm.log_prob(observations, actions)
        std = algorithm.actor.log_std.exp()[:, :, 0]  # type: ignore[attr-defined]
    expected = -0.5 * ((0.25 - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found, expected)


def _leaves(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [leaf for part in parts for leaf in _leaves(part)]
