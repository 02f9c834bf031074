"""ReBRAC, SAC-N, EDAC and IQL's dropout against plain torch in float64, and what is particular to each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import reference_torch
import torch
from seqeval.algos import _action_gradients
from seqeval.algos._action_gradients import values_and_action_gradients
from seqeval.algos.edac import mean_similarity
from seqeval.algos.networks import Critics
from test_algos import batches, make
from torch import Tensor

from seqeval import plugins
from seqeval.algorithm import Algorithm
from seqeval.errors import UserError
from seqeval.training import matmul
from seqeval.training.matmul import MatmulBackend
from seqeval.types import Batch

CPU = torch.device("cpu")


def of_replica(batch: Batch, replica: int) -> reference_torch.Batch:
    named = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "noise"} | batch.noise
    return {name: value[replica].clone() for name, value in named.items() if value is not None}


def parameters(algorithm: Algorithm, name: str, replica: int) -> list[Tensor]:
    """Those of one network; a digit at the end of its path selects one of the critics."""
    path, _, copy = name.partition(".") if name[-1].isdigit() else (name, "", "")
    network = algorithm
    for part in path.split("."):
        network = getattr(network, part)
    position = (replica, int(copy)) if copy else (replica,)
    kinds = (network.weights, network.biases, network.scales, network.shifts)
    return [p[position].detach() for kind in kinds for p in kind]


def assert_same(algorithm: Algorithm, agents: list, tolerance: float) -> None:
    for replica, agent in enumerate(agents):
        for name, expected in agent.networks().items():
            for actual, desired in zip(parameters(algorithm, name, replica), expected, strict=True):
                torch.testing.assert_close(actual, desired, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    ("name", "reference", "settings"),
    [
        ("rebrac", reference_torch.ReBRAC, {}),
        ("rebrac", reference_torch.ReBRAC, {"actor_layer_norm": True, "critic_layer_norm": False}),
        ("rebrac", reference_torch.ReBRAC, {"normalize_q": False, "reward_scale": 100.0, "policy_delay": 3}),
        ("sac_n", reference_torch.EDAC, {"critics": 1}),
        ("sac_n", reference_torch.EDAC, {"critics": 5}),
        ("edac", reference_torch.EDAC, {"critics": 2, "eta": 5.0}),
        ("edac", reference_torch.EDAC, {"critics": 4, "hidden": (24, 20, 12)}),
        ("edac", reference_torch.EDAC, {"critics": 3, "hidden": (24,)}),
        ("iql", reference_torch.IQL, {"actor_dropout": 0.1, "temperature": 0.5}),
    ],
    ids=str,
)
def test_twenty_updates_equal_those_in_plain_torch(
    name: str, reference: type, settings: dict, float64: None
) -> None:
    algorithm = make(name, [0, 7], **settings)
    agents = [reference(algorithm, replica) for replica in range(2)]
    for update, batch in enumerate(batches(algorithm, 20)):
        metrics = algorithm.update(batch)
        for replica, agent in enumerate(agents):
            expected = agent.update(of_replica(batch, replica))
            assert metrics.keys() == expected.keys()
            for key, value in expected.items():
                assert metrics[key][replica].item() == pytest.approx(value, rel=1e-7, abs=1e-8), key
        if update == 0:
            assert_same(algorithm, agents, 1e-9)
    assert_same(algorithm, agents, 1e-6)


def test_rebracs_online_updates_equal_those_in_plain_torch(float64: None) -> None:
    algorithm = make("rebrac", [0, 7], lowest_decay=0.85)
    agents = [reference_torch.ReBRAC(algorithm, replica) for replica in range(2)]
    for update, batch in enumerate(batches(algorithm, 30)):
        if update == 10:
            algorithm.start_online()
            for agent in agents:
                agent.online_from = 10
        metrics = algorithm.update(batch)
        for replica, agent in enumerate(agents):
            for key, value in agent.update(of_replica(batch, replica)).items():
                assert metrics[key][replica].item() == pytest.approx(value, rel=1e-7), key
    assert_same(algorithm, agents, 1e-6)


def test_rebracs_penalties_decay_over_the_online_phase_and_resume() -> None:
    algorithm = make("rebrac", actor_penalty=2.0)  # 100 updates in all
    steps = batches(algorithm, 40)
    for batch in steps[:20]:
        algorithm.update(batch)
    assert algorithm.penalties() == (2.0, 1.0)
    algorithm.start_online()
    for batch in steps[20:]:
        algorithm.update(batch)
    actor_penalty, critic_penalty = algorithm.penalties()
    assert float(actor_penalty) == pytest.approx(2 * (1 - 20 / 80))
    assert critic_penalty == 0
    resumed = make("rebrac", actor_penalty=2.0)
    resumed.load_state_dict(algorithm.state_dict())
    resumed.start_online()
    assert torch.equal(resumed.penalties()[0], actor_penalty)


def test_rebrac_has_no_penalty_where_no_action_follows() -> None:
    changed, algorithm = make("rebrac", [3]), make("rebrac", [3])
    (batch,), (other,) = batches(algorithm, 1), batches(changed, 1)
    masked = other.next_actions_mask == 0
    other.next_actions[masked] = 1e6
    assert masked.any()
    algorithm.update(batch)
    changed.update(other)
    assert all(map(torch.equal, algorithm.critics.parameters(), changed.critics.parameters()))


@contextmanager
def batched_products(monkeypatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(_action_gradients, "takes_fast_path", lambda x, weight: False)
        yield


def critics_and_inputs(hidden: tuple[int, ...]) -> tuple[Critics, Tensor, Tensor]:
    critics = Critics((4, 3), hidden, [0, 1], CPU, "uniform", 3, hidden_bias=0.1)
    generator = torch.Generator().manual_seed(0)
    return critics, torch.randn(2, 40, 4, generator=generator), torch.randn(2, 40, 3, generator=generator)


def results(critics: Critics, observations: Tensor, actions: Tensor) -> list[Tensor]:
    """Values, slopes and the gradients of a loss of both."""
    values, slopes = values_and_action_gradients(
        observations, actions, list(critics.weights), list(critics.biases)
    )
    loss = values.sin().sum() + slopes.pow(3).sum()
    grads = torch.autograd.grad(loss, [*critics.weights, *critics.biases])
    return [values.detach(), slopes.detach(), *grads]


def autograd_results(critics: Critics, observations: Tensor, actions: Tensor) -> list[Tensor]:
    actions = actions.clone().requires_grad_()
    values, slopes = critics(observations, actions), []
    for copy in range(values.shape[1]):
        (slope,) = torch.autograd.grad(values[:, copy].sum(), actions, create_graph=True)
        slopes.append(slope)
    joined = torch.stack(slopes, 1)
    loss = values.sin().sum() + joined.pow(3).sum()
    grads = torch.autograd.grad(loss, [*critics.weights, *critics.biases], materialize_grads=True)
    return [values.detach(), joined.detach(), *grads]


@pytest.mark.parametrize("hidden", [(48,), (48, 40), (36, 48, 40)])
def test_action_gradients_are_those_of_autograd(hidden: tuple[int, ...], float64: None) -> None:
    inputs = critics_and_inputs(hidden)
    for actual, expected in zip(results(*inputs), autograd_results(*inputs), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernels", ["blas", *(["onednn"] if matmul.HAS_ONEDNN else [])])
def test_action_gradients_of_one_network_at_a_time_are_those_of_all(kernels: str, monkeypatch) -> None:
    inputs = critics_and_inputs((48, 40))
    with batched_products(monkeypatch):
        batched = results(*inputs)
    with matmul.using(MatmulBackend(kernels)):
        for actual, expected in zip(results(*inputs), batched, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not matmul.has_bfloat16(), reason="this processor has no bfloat16 products")
def test_action_gradients_in_bfloat16_have_the_errors_of_its_eight_bits() -> None:
    inputs = critics_and_inputs((64, 64))
    full = results(*inputs)
    with matmul.using(MatmulBackend("blas", "bfloat16")):
        rounded = results(*inputs)
    for value, expected in zip(rounded, full, strict=True):
        assert value.dtype == torch.float32
        assert 0 < (value - expected).norm() < 2**-4 * expected.norm()


def test_similarity_of_parallel_opposite_and_orthogonal_gradients() -> None:
    gradients = torch.tensor([[1.0, 0], [3, 0], [0, -2]])[None, :, None]  # (1, 3, 1, 2)
    # Ordered pairs: two of cosine 1, four of cosine 0.
    assert mean_similarity(gradients).item() == pytest.approx(2 / 2)
    opposite = torch.tensor([[1.0, 0], [-3, 0]])[None, :, None]
    assert mean_similarity(opposite).item() == pytest.approx(-2)
    assert mean_similarity(torch.zeros(1, 2, 1, 2)).item() == 0


def test_a_gradient_of_zero_gives_finite_derivatives() -> None:
    gradients = torch.zeros(1, 3, 2, 2, requires_grad=True)
    mean_similarity(gradients).sum().backward()
    assert gradients.grad.isfinite().all()


@pytest.mark.parametrize("name", ["rebrac", "sac_n", "edac"])
def test_initial_weights_are_the_authors(name: str) -> None:
    algorithm = make(name, hidden=(64, 64, 64))
    actor = algorithm.actor if name == "rebrac" else algorithm.actor.net
    for network, bound in ((actor, 1e-3), (algorithm.critics, 3e-3)):
        assert all((bias == np.float32(0.1)).all() for bias in network.biases[:-1])
        for last in (network.weights[-1], network.biases[-1]):
            assert 0.5 * bound < last.abs().max() <= bound


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edac:critics=1", "critics must be at least 2, not 1"),
        ("edac:eta=-1", "eta must be at least 0"),
        ("sac_n:critics=0", "critics must be at least 1"),
        ("rebrac:actor_penalty=-0.1", "actor_penalty must be at least 0"),
        ("rebrac:lowest_decay=1.5", "lowest_decay must be between 0 and 1"),
        ("iql:actor_dropout=1", "actor_dropout must be between 0 and 0.99"),
    ],
)
def test_bad_settings_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plugins.parse(text)
    assert "\n" not in str(caught.value)
