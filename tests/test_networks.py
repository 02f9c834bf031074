"""Networks for algorithms: layer normalisation, GELU, ensembles; solo and batched replicas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from seqeval.algos.networks import MLP, Critics
from torch import Tensor, nn

CPU = torch.device("cpu")
KINDS = [
    {"layer_norm": "before"},
    {"layer_norm": "after"},
    {"activation": "gelu"},
    {"activation": "gelu", "layer_norm": "after"},
    {"activation": "gelu", "layer_norm": "before"},
]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        torch.get_default_dtype()
    )


def of_torch(network: MLP, *index: int) -> nn.Sequential:
    """One of the networks built from torch's own modules."""
    parts: list[nn.Module] = []
    last = len(network.weights) - 1
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        linear = nn.Linear(*weight.shape[-2:])
        linear.weight.data, linear.bias.data = weight[index].detach().T.clone(), bias[index].detach().clone()
        parts.append(linear)
        if layer == last:
            return nn.Sequential(*parts)
        steps: list[nn.Module] = [nn.ReLU() if network.activation == "relu" else nn.GELU("tanh")]
        if network.layer_norm:
            norm = nn.LayerNorm(weight.shape[-1], eps=1e-6)
            norm.weight.data = network.scales[layer][index].detach().clone()
            norm.bias.data = network.shifts[layer][index].detach().clone()
            steps.insert(0 if network.layer_norm == "before" else 1, norm)
        parts += steps
    raise AssertionError("a network has a last layer")


def moved_from_start(network: MLP, seeds: list[int]) -> MLP:
    """The network with scales, shifts and biases that are not 1 and 0; each replica's depend on its seed."""
    for index, parameter in enumerate((*network.scales, *network.shifts, *network.biases)):
        moves = [0.3 * randn(*parameter.shape[1:], seed=100 * seed + index) for seed in seeds]
        parameter.data += torch.stack(moves)
    return network


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_networks_are_those_of_torchs_modules(kind: dict, float64: None) -> None:
    network = moved_from_start(MLP("test", [5, 24, 20, 3], [0, 1], CPU, "uniform", copies=3, **kind), [0, 1])
    x = randn(2, 3, 7, 5).requires_grad_()
    out = network(x)
    assert out.shape == (2, 3, 7, 3)
    out.square().sum().backward()
    for index in np.ndindex(2, 3):
        expected, inputs = of_torch(network, *index), x.detach()[index].requires_grad_()
        result = expected(inputs)
        torch.testing.assert_close(out[index], result, rtol=0, atol=1e-12)
        result.square().sum().backward()
        torch.testing.assert_close(x.grad[index], inputs.grad, rtol=0, atol=1e-11)
        first = expected[0]
        torch.testing.assert_close(network.weights[0].grad[index].T, first.weight.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_second_derivatives_are_those_of_torchs_modules(kind: dict, float64: None) -> None:
    network = moved_from_start(MLP("test", [5, 24, 20, 1], [3], CPU, "uniform", **kind), [3])

    def penalty(network: nn.Module, x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        return slope.pow(4).sum()

    penalty(network, randn(1, 7, 5).requires_grad_()).backward()
    expected = of_torch(network, 0)
    penalty(expected, randn(1, 7, 5)[0].requires_grad_()).backward()
    assert expected[0].weight.grad.norm() > 0
    torch.testing.assert_close(network.weights[0].grad[0].T, expected[0].weight.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("batch", "hidden"), [(16, (24, 20)), (5, (20, 12)), (256, (256,))])
def test_a_replica_does_not_depend_on_its_neighbours_to_the_last_bit(
    kind: dict, batch: int, hidden: tuple[int, ...]
) -> None:
    def results(rows: slice) -> list[Tensor]:
        seeds = [4, 0, 9, 2, 7][rows]
        critics = moved_from_start(Critics((3, 2), hidden, seeds, CPU, "xavier", 3, **kind), seeds)
        actions = inputs[rows, ..., 3:].clone().requires_grad_()
        q = critics(inputs[rows, ..., :3], actions)
        q.square().mean((1, 2)).sum().backward()
        return [q.detach(), actions.grad, *(p.grad for p in critics.parameters())]

    inputs = randn(5, batch, 5)
    batched = results(slice(None))
    for rows in (slice(0, 1), slice(3, 4), slice(1, 4)):
        solo = results(rows)
        assert all(torch.equal(a[rows], b) for a, b in zip(batched, solo, strict=True))


def test_hidden_biases_and_last_layers_start_as_asked() -> None:
    critics = Critics((3, 2), (64, 64), [0, 1], CPU, "uniform", 10, hidden_bias=0.1, last_bound=3e-3)
    assert [w.shape for w in critics.weights] == [(2, 10, 5, 64), (2, 10, 64, 64), (2, 10, 64, 1)]
    assert all((bias == 0.1).all() for bias in critics.biases[:-1])
    for last in (critics.weights[-1], critics.biases[-1]):
        assert 1e-3 < last.abs().max() <= 3e-3
    assert not torch.equal(critics.weights[0][0, 0], critics.weights[0][0, 1])


def test_xavier_weights_have_their_bounds_and_zero_biases() -> None:
    network = MLP("test", [30, 70, 2], [0], CPU, "xavier")
    bound = (6 / 100) ** 0.5
    assert 0.95 * bound < network.weights[0].abs().max() <= bound
    assert all((bias == 0).all() for bias in network.biases)


def test_the_number_of_copies_does_not_change_the_first_ones() -> None:
    two, ten = (Critics((3, 2), (8,), [5], CPU, "uniform", copies) for copies in (2, 10))
    assert all(torch.equal(a, b[:, :2]) for a, b in zip(two.parameters(), ten.parameters(), strict=True))
