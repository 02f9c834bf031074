"""What evaluators read from algorithms: log-likelihood, Q and TD error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_setup import BUILT_IN, SMALL, STREAM, Training, make_job, small_dataset

from seqeval import plugins
from seqeval.algorithm import Algorithm, Batch, Spec, Vector
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
    # In held-out episodes no chunk is known to its end.
    with_td = {"prequential_td_error"} if name == "qc_fql" else set()
    assert found == {"prequential_transitions"} | with_td


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
    if not name.startswith("sb3"):  # the target is the same for both critics
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


class Mean:
    """In place of torch's noise: what is drawn is the mean."""

    @staticmethod
    def of(distribution: torch.distributions.Normal, *_: object) -> torch.Tensor:
        return distribution.mean


@pytest.mark.parametrize(
    "name", ["sb3:SAC", "sb3:SAC:ent_coef=0.3", "sb3:TD3:target_policy_noise=0.0", "sb3:DDPG", "sb3:DQN"]
)
def test_td_errors_of_sb3_give_the_loss_that_its_own_training_reports(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAC's policy draws its mean here, since an update draws other noise than `td_error`."""
    monkeypatch.setattr(torch.distributions.Normal, "rsample", Mean.of)
    found, config = plugins.find(plugins.split(name)[0]), plugins.parse(name).config
    setup = Subject(found, replace(config, batch_size=8, net_arch=(8, 8)), found.action_spaces[0])  # type: ignore[arg-type]
    algorithm = setup.make()
    setup.train(algorithm)
    batch = setup.batch(algorithm, 10)
    assert 0 < batch.terminated.mean() < 1
    with torch.no_grad():
        errors = algorithm.td_error(batch)
    assert errors is not None
    assert errors.shape == (3, {"DDPG": 1, "DQN": 1}.get(found.__name__, 2), 8)
    reported = algorithm.update(batch)
    if found.__name__ == "DQN":
        loss, expected = torch.nn.functional.smooth_l1_loss(errors, 0 * errors, reduction="none"), "loss"
    else:
        loss, expected = errors.square() * (0.5 if found.__name__ == "SAC" else 1), "critic_loss"
    torch.testing.assert_close(
        loss.mean(-1).sum(-1).double(), reported[expected].double(), rtol=1e-5, atol=1e-6
    )


def test_td3_of_sb3_smooths_its_target_with_clipped_noise_of_each_seed() -> None:
    _, algorithm = trained("sb3:TD3")
    batch = Subject(type(algorithm), algorithm.config, "continuous").batch(algorithm, 3)
    agent = algorithm._agents[0]  # type: ignore[attr-defined]
    with torch.no_grad():
        torch.manual_seed(5)
        errors = agent.td_error(_first(batch))
        torch.manual_seed(5)
        following, noise = _first(batch).next_observations, 0.2 * torch.randn(8, 2)
        actions = (agent.model.actor_target(following) + noise.clamp(-0.5, 0.5)).clamp(-1, 1)
        value = torch.cat(agent.model.critic_target(following, actions), -1).amin(-1)
        q = torch.cat(agent.model.critic(batch.observations[0], batch.actions[0]), -1).T
        torch.testing.assert_close(errors, q - batch.rewards[0] - 0.99 * (1 - batch.terminated[0]) * value)
        assert torch.equal(algorithm.td_error(batch), algorithm.td_error(batch))  # type: ignore[arg-type]


def test_td_errors_of_chunks_by_hand() -> None:
    """r₁ + γ r₂ + γ² Q'(s₂, π(s₂)) for chunks of two actions; none where the chunk is cut short."""
    qc_fql = plugins.find("qc_fql")
    config = replace(qc_fql.Config(), batch_size=16, hidden=(8, 8), chunk_length=2, discount=0.9)
    setup = Subject(qc_fql, config, "continuous")
    algorithm = setup.make()
    setup.train(algorithm)
    batch = setup.batch(algorithm, 3)
    with torch.no_grad():
        errors = algorithm.td_error(batch)
        last = batch.next_observations[:, :, 1]
        actions = algorithm.sample(last, batch.noise["next_policy"])  # type: ignore[attr-defined]
        value = algorithm.target_critics(last, actions).mean(1)  # type: ignore[attr-defined]
        q = algorithm.critics(batch.observations[:, :, 0], batch.actions.flatten(2))  # type: ignore[attr-defined]
    rewards = batch.rewards[:, :, 0] + 0.9 * batch.rewards[:, :, 1]
    expected = q - (rewards + 0.81 * (1 - batch.terminated[:, :, 1]) * value).unsqueeze(1)
    complete = (batch.mask[:, :, 1] > 0).unsqueeze(1).expand_as(expected)  # type: ignore[index]
    assert errors is not None
    assert 0 < complete.float().mean() < 1
    torch.testing.assert_close(errors[complete], expected[complete])
    assert errors[~complete].isnan().all()


def _first(batch: Batch) -> Batch:
    """The part of the first replica."""
    names = ("observations", "actions", "rewards", "next_observations", "terminated")
    return Batch(**{name: getattr(batch, name)[0] for name in names})
