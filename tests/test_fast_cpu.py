"""The fast CPU path agrees with plain torch, in values and in first and second derivatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from seqeval.algos import _fast_cpu
from seqeval.algos._fast_cpu import mlp, mlp_on_pairs
from torch import Tensor

from seqeval.training import matmul
from seqeval.training.matmul import MatmulBackend

KERNELS = ["blas", *(["narrow-onednn", "onednn"] if matmul.HAS_ONEDNN else [])]


@contextmanager
def plain_torch(monkeypatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(_fast_cpu, "takes_fast_path", lambda x, weight: False)
        yield


@pytest.fixture(params=["private operators", "public fallbacks"])
def operators(request, monkeypatch) -> None:
    """With torch's private operators, and with their public fallbacks."""
    monkeypatch.setattr(_fast_cpu, "PRIVATE_OPERATORS", request.param == "private operators")


def make_inputs(lead: tuple[int, ...], x_lead: tuple[int, ...], masked: bool) -> tuple:
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    sizes = [6, 48, 40, 3]  # wide layers and narrow ones
    weights = [randn(*lead, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [randn(*lead, b) for b in sizes[1:]]
    masks = (
        [(torch.rand(*lead, 40, n, generator=generator) < 0.8).float() for n in sizes[1:-1]] if masked else []
    )
    return randn(*x_lead, 40, 6), weights, biases, masks


def outputs_and_gradients(x, weights, biases, masks, gain=1.0) -> tuple[str, list[Tensor]]:
    """The node that computed the network, its outputs, and the gradients of all inputs."""
    leaves = [t.clone().requires_grad_() for t in (x, *weights, *biases)]
    out = mlp(leaves[0], leaves[1:4], leaves[4:], masks, gain)
    out.square().sum().backward()
    return type(out.grad_fn).__name__, [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("lead", "x_lead"), [((3,), (3,)), ((1,), (1,)), ((3, 2), (3, 1)), ((1, 2), (1, 1))])
def test_every_kernel_agrees_with_plain_torch(
    lead: tuple, x_lead: tuple, masked: bool, kernels: str, monkeypatch
) -> None:
    inputs = make_inputs(lead, x_lead, masked)
    with plain_torch(monkeypatch):
        node, plain = outputs_and_gradients(*inputs)
        assert "FusedMLP" not in node
    with matmul.using(MatmulBackend(kernels)):
        node, fast = outputs_and_gradients(*inputs)
        assert "FusedMLP" in node
    for actual, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.skipif(not matmul.has_bfloat16(), reason="this processor has no bfloat16 products")
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kernels", KERNELS)
def test_bfloat16_errors_are_those_of_its_eight_bits(kernels: str, masked: bool) -> None:
    inputs = make_inputs((2,), (2,), masked)
    results = {}
    for operands in ("float32", "bfloat16"):
        with matmul.using(MatmulBackend(kernels, operands)):
            results[operands] = outputs_and_gradients(*inputs)[1]
    for rounded, full in zip(results["bfloat16"], results["float32"], strict=True):
        assert rounded.dtype == torch.float32
        error = (rounded - full).norm() / full.norm()
        # A few roundings of at most 2**-9, and ReLUs whose inputs are so close to 0 that rounding decides.
        assert error < 2**-5
    assert all(not torch.equal(a, b) for a, b in zip(*results.values(), strict=True))


@pytest.mark.parametrize("kernels", ["plain torch", *KERNELS])
def test_gain_multiplies_the_output_of_every_hidden_layer(kernels: str, monkeypatch) -> None:
    x, weights, biases, masks = make_inputs((2,), (2,), True)
    with plain_torch(monkeypatch):
        _, scaled_masks = outputs_and_gradients(x, weights, biases, [1.25 * mask for mask in masks])
    with matmul.using(MatmulBackend(kernels)) if kernels in KERNELS else plain_torch(monkeypatch):
        _, with_gain = outputs_and_gradients(x, weights, biases, masks, 1.25)
    for actual, expected in zip(with_gain, scaled_masks, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-4)


def test_float64_takes_the_plain_path(float64: None) -> None:
    x, weights, biases, _ = make_inputs((2,), (2,), False)
    out = mlp(x.requires_grad_(), weights, biases)
    assert out.dtype == torch.float64
    assert "FusedMLP" not in type(out.grad_fn).__name__


def test_plain_path_passes_gradcheck(float64: None) -> None:
    x, weights, biases, masks = make_inputs((2,), (2,), True)
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    assert torch.autograd.gradcheck(lambda *t: mlp(t[0], t[1:4], t[4:], masks), leaves)


def test_detached_weights_give_gradients_to_the_input_only() -> None:
    x, weights, biases, _ = make_inputs((2,), (2,), False)
    x.requires_grad_()
    mlp(x, weights, biases).sum().backward()
    assert x.grad is not None
    assert all(w.grad is None for w in weights)


def make_pairs(lead: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Inputs (·, 9, 4) and five candidates of each (·, 9, 5, 2), for a network that takes 6."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*lead, 9, 4, generator=generator), torch.randn(*lead, 9, 5, 2, generator=generator)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("kernels", ["plain torch", *KERNELS])
@pytest.mark.parametrize("lead", [(3,), (2, 2), (1, 1)])
def test_pairs_equal_the_network_on_each_joined_pair(lead: tuple, kernels: str, monkeypatch) -> None:
    monkeypatch.setattr(_fast_cpu, "CHUNK", 17)  # three rows at a time
    _, weights, biases, _ = make_inputs(lead, lead, False)
    x_lead = (*lead[:1], *(1 for _ in lead[1:]))
    x, candidates = make_pairs(x_lead)

    def results(compute: Callable[[list[Tensor]], Tensor]) -> list[Tensor]:
        leaves = [t.clone().requires_grad_() for t in (*weights, *biases)]
        out = compute(leaves)
        assert out.shape == (*lead, 9, 5, 3)
        (out.square() * torch.arange(1.0, 6.0)[:, None]).sum().backward()
        return [out.detach(), *(leaf.grad for leaf in leaves)]

    joined = torch.cat([x.unsqueeze(-2).expand(*x_lead, 9, 5, 4), candidates], -1).flatten(-3, -2)
    with plain_torch(monkeypatch):
        on_joined = results(lambda t: mlp(joined, t[:3], t[3:]).unflatten(-2, (9, 5)))
    with plain_torch(monkeypatch) if kernels not in KERNELS else matmul.using(MatmulBackend(kernels)):
        on_pairs = results(lambda t: mlp_on_pairs(x, candidates, t[:3], t[3:]))
    for actual, expected in zip(on_pairs, on_joined, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-4)


# --- second derivatives ---


def gradient_penalty(
    network: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype
) -> tuple[str, list[Tensor]]:
    """The node of the network, its gradients, and the gradients of the sum of their squares."""
    leaves = [t.detach().to(dtype, copy=True).requires_grad_() for t in inputs]
    out = network(*leaves)
    loss = out.sin().sum()
    first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    penalty = torch.stack([g.square().sum() for g in first]).sum()
    second = torch.autograd.grad(penalty, leaves, materialize_grads=True)
    return type(out.grad_fn).__name__, [*(g.detach() for g in first), *second]


def assert_second_derivatives_agree(network: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """Float32 on the fast path against float64 in plain torch."""
    node, float32 = gradient_penalty(network, inputs, torch.float32)
    assert "Fused" in node
    node, float64 = gradient_penalty(network, inputs, torch.float64)
    assert "Fused" not in node
    for actual, expected in zip(float32, float64, strict=True):
        assert actual.dtype == torch.float32
        assert expected.norm() > 0
        assert (actual.double() - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("lead", "x_lead"), [((3,), (3,)), ((3, 2), (3, 1))])
def test_second_derivatives_agree_with_plain_torch_in_float64(
    lead: tuple, x_lead: tuple, masked: bool, kernels: str
) -> None:
    x, weights, biases, masks = make_inputs(lead, x_lead, masked)

    def network(*t: Tensor) -> Tensor:
        return mlp(t[0], t[1:4], t[4:], [mask.to(t[0].dtype) for mask in masks], 1.25)

    with matmul.using(MatmulBackend(kernels)):
        assert_second_derivatives_agree(network, (x, *weights, *biases))


@pytest.mark.parametrize("lead", [(3,), (2, 2)])
def test_second_derivatives_of_pairs_agree_with_plain_torch_in_float64(lead: tuple) -> None:
    _, weights, biases, _ = make_inputs(lead, lead, False)
    x, candidates = make_pairs((*lead[:1], *(1 for _ in lead[1:])))

    def network(*t: Tensor) -> Tensor:
        return mlp_on_pairs(x.to(t[0].dtype), candidates.to(t[0].dtype), t[:3], t[3:])

    assert_second_derivatives_agree(network, (*weights, *biases))


def test_gradient_penalty_on_the_input_trains_the_weights() -> None:
    """As in WGAN-GP: the input's gradient, differentiated with respect to the weights only."""
    x, weights, biases, _ = make_inputs((2,), (2,), False)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs, *leaves = (t.to(dtype, copy=True).requires_grad_() for t in (x, *weights))
        out = mlp(inputs, leaves, [b.to(dtype) for b in biases])
        (gradient,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
        gradient.square().sum().backward()
        gradients.append([leaf.grad.double() for leaf in leaves])
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_right_where_the_input_depends_on_the_weights() -> None:
    x, weights, biases, _ = make_inputs((2,), (2,), False)

    def network(*t: Tensor) -> Tensor:
        hidden = mlp(t[0], t[1:4], t[4:])  # (2, 40, 3)
        return mlp(torch.cat([hidden, hidden.square()], -1), t[1:4], t[4:])

    assert_second_derivatives_agree(network, (x, *weights, *biases))


def test_first_derivatives_are_the_same_with_and_without_a_kept_graph() -> None:
    x, weights, biases, _ = make_inputs((2,), (2,), False)
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    loss = mlp(leaves[0], leaves[1:4], leaves[4:]).square().sum()
    once = torch.autograd.grad(loss, leaves, retain_graph=True)
    plain = torch.autograd.grad(loss, leaves, create_graph=True)
    again = torch.autograd.grad(loss, leaves)
    assert all(map(torch.equal, once, again))
    assert not any(g.requires_grad for g in once)
    for actual, expected in zip(plain, once, strict=True):
        assert actual.requires_grad
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-4)


# --- the other private operators ---


def test_private_torch_operators_are_in_one_file() -> None:
    root = Path(__file__).parents[1]
    paths = {*root.glob("algos/*.py"), *root.glob("experiments/**/*.py")}
    users = {path.name for path in paths if re.search(r"torch\.(_(?!_)|ops\.)", path.read_text())}
    assert users == {"_fast_cpu.py"}


def test_relu_backward_fallback_is_the_same_to_the_last_bit(monkeypatch) -> None:
    g, output = torch.randn(2, 50, 7, generator=torch.Generator().manual_seed(0)).unbind()
    output = output.relu()
    g[0, 0] = output[0, 1] = torch.nan
    private = _fast_cpu.relu_backward_(g.clone(), output)
    monkeypatch.setattr(_fast_cpu, "PRIVATE_OPERATORS", False)
    torch.testing.assert_close(_fast_cpu.relu_backward_(g, output), private, rtol=0, atol=0, equal_nan=True)


def test_lerp_fallback_is_the_same_to_the_last_bit(monkeypatch) -> None:
    targets, sources = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).unbind()
    private = [target.clone() for target in targets]
    _fast_cpu.lerp_(private, list(sources), 0.005)
    monkeypatch.setattr(_fast_cpu, "PRIVATE_OPERATORS", False)
    public = [target.clone() for target in targets]
    _fast_cpu.lerp_(public, list(sources), 0.005)
    assert all(map(torch.equal, public, private))
    assert not any(map(torch.equal, public, targets))


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("as_tensor", [False, True])
def test_adamw_is_torchs(as_tensor: bool, float64: None) -> None:
    expected = torch.linspace(-1, 1, 6).requires_grad_()
    optimizer = torch.optim.AdamW([expected], 0.1, weight_decay=0.3)
    p, m, v, step = expected.detach().clone(), torch.zeros(6), torch.zeros(6), torch.zeros(())
    rate = torch.tensor(0.1) if as_tensor else 0.1
    for update in range(5):
        expected.grad = (expected.detach() - update).pow(3)
        step += 1
        _fast_cpu.adamw_([p], [(p - update).pow(3)], [m], [v], step, rate, 0.3)
        optimizer.step()
        torch.testing.assert_close(p, expected.detach(), rtol=0, atol=1e-12)
