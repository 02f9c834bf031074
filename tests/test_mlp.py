"""The ways of computing the network agree, in values and in gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import seqeval.algos._mlp as kernels
import torch
from seqeval.algos._mlp import mlp, mlp_of_pairs

from seqeval.training import matmul
from seqeval.training.matmul import Arithmetic

KERNELS = ["blas", *(["narrow-onednn", "onednn"] if matmul.ONEDNN else [])]


@contextmanager
def plain_torch(monkeypatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_one_by_one", lambda x, weight: False)
        yield


def problem(lead: tuple[int, ...], x_lead: tuple[int, ...], masked: bool) -> tuple:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sizes = [6, 48, 40, 3]  # wide ones and narrow ones
    weights = [draw(*lead, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [draw(*lead, b) for b in sizes[1:]]
    masks = (
        [(torch.rand(*lead, 40, n, generator=generator) < 0.8).float() for n in sizes[1:-1]] if masked else []
    )
    return draw(*x_lead, 40, 6), weights, biases, masks


def gradients(x, weights, biases, masks, gain=1.0) -> tuple[str, list[torch.Tensor]]:
    """What computed the network, its outputs, and the gradients of all that it hangs on."""
    leaves = [t.clone().requires_grad_() for t in (x, *weights, *biases)]
    out = mlp(leaves[0], leaves[1:4], leaves[4:], masks, gain)
    out.square().sum().backward()
    return type(out.grad_fn).__name__, [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("by", KERNELS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("lead", "x_lead"), [((3,), (3,)), ((1,), (1,)), ((3, 2), (3, 1)), ((1, 2), (1, 1))])
def test_every_kernel_and_plain_torch_agree(
    lead: tuple, x_lead: tuple, masked: bool, by: str, monkeypatch
) -> None:
    wanted = problem(lead, x_lead, masked)
    with plain_torch(monkeypatch):
        name, plain = gradients(*wanted)
        assert "_Network" not in name
    with matmul.using(Arithmetic(by)):
        name, fast = gradients(*wanted)
        assert "_Network" in name
    for mine, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=2e-4)


@pytest.mark.skipif(not matmul.has_bfloat16(), reason="this processor has no products of bfloat16")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("by", KERNELS)
def test_products_of_bfloat16_err_as_their_eight_bits_do(by: str, masked: bool) -> None:
    wanted = problem((2,), (2,), masked)
    found = {}
    for operands in ("float32", "bfloat16"):
        with matmul.using(Arithmetic(by, operands)):
            found[operands] = gradients(*wanted)[1]
    for rounded, full in zip(found["bfloat16"], found["float32"], strict=True):
        assert rounded.dtype == torch.float32
        error = (rounded - full).norm() / full.norm()
        # A few roundings of 2**-9 at most, and the ReLUs whose sums are so near to 0 that these decide.
        assert error < 2**-5
    assert all(not torch.equal(a, b) for a, b in zip(*found.values(), strict=True))


@pytest.mark.parametrize("by", ["plain torch", *KERNELS])
def test_gain_multiplies_what_every_hidden_layer_puts_out(by: str, monkeypatch) -> None:
    x, weights, biases, masks = problem((2,), (2,), True)
    with plain_torch(monkeypatch):
        _, by_masks = gradients(x, weights, biases, [1.25 * mask for mask in masks])
    with matmul.using(Arithmetic(by)) if by in KERNELS else plain_torch(monkeypatch):
        _, gained = gradients(x, weights, biases, masks, 1.25)
    for mine, other in zip(gained, by_masks, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=2e-4)


def test_float64_takes_the_plain_path(float64: None) -> None:
    x, weights, biases, _ = problem((2,), (2,), False)
    out = mlp(x.requires_grad_(), weights, biases)
    assert out.dtype == torch.float64
    assert "_Network" not in type(out.grad_fn).__name__


def test_gradients_pass_gradcheck_on_the_plain_path(float64: None) -> None:
    x, weights, biases, masks = problem((2,), (2,), True)
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    assert torch.autograd.gradcheck(lambda *t: mlp(t[0], t[1:4], t[4:], masks), leaves)


def test_frozen_weights_give_gradients_to_the_input_alone() -> None:
    x, weights, biases, _ = problem((2,), (2,), False)
    x.requires_grad_()
    mlp(x, weights, biases).sum().backward()
    assert x.grad is not None
    assert all(w.grad is None for w in weights)


@pytest.mark.parametrize("by", ["plain torch", *KERNELS])
@pytest.mark.parametrize("lead", [(3,), (2, 2), (1, 1)])
def test_pairs_are_the_network_on_each_pair(lead: tuple, by: str, monkeypatch) -> None:
    _, weights, biases, _ = problem(lead, lead, False)
    generator = torch.Generator().manual_seed(1)
    x_lead = (*lead[:1], *(1 for _ in lead[1:]))
    x, sets = (
        torch.randn(*x_lead, 9, 4, generator=generator),
        torch.randn(*x_lead, 9, 5, 2, generator=generator),
    )
    found = []
    for pairs in (True, False):
        monkeypatch.setattr(kernels, "CHUNK", 17)  # three rows at a time
        leaves = [t.clone().requires_grad_() for t in (*weights, *biases)]
        way = plain_torch(monkeypatch) if by not in KERNELS or not pairs else matmul.using(Arithmetic(by))
        with way:
            if pairs:
                out = mlp_of_pairs(x, sets, leaves[:3], leaves[3:])
            else:
                joined = torch.cat([x.unsqueeze(-2).expand(*x_lead, 9, 5, 4), sets], -1).flatten(-3, -2)
                out = mlp(joined, leaves[:3], leaves[3:]).unflatten(-2, (9, 5))
            assert out.shape == (*lead, 9, 5, 3)
            (out.square() * torch.arange(1.0, 6.0)[:, None]).sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=2e-4)
