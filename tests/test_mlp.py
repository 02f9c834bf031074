"""The two ways of computing the network agree, in values and in gradients."""

from __future__ import annotations

from itertools import pairwise

import pytest
import seqeval.algos._mlp as kernels
import torch
from seqeval.algos._mlp import mlp, mlp_of_pairs

pytestmark = pytest.mark.skipif(not kernels.ONEDNN, reason="this torch has no oneDNN")


def problem(lead: tuple[int, ...], x_lead: tuple[int, ...], masked: bool) -> tuple:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sizes = [6, 32, 16, 3]
    weights = [draw(*lead, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [draw(*lead, b) for b in sizes[1:]]
    masks = (
        [(torch.rand(*lead, 8, n, generator=generator) < 0.8) * 1.25 for n in sizes[1:-1]] if masked else []
    )
    return draw(*x_lead, 8, 6), weights, biases, masks


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("lead", "x_lead"), [((3,), (3,)), ((1,), (1,)), ((3, 2), (3, 1)), ((1, 2), (1, 1))])
def test_onednn_and_plain_torch_agree(lead: tuple, x_lead: tuple, masked: bool, monkeypatch) -> None:
    x, weights, biases, masks = problem(lead, x_lead, masked)
    found = {}
    for onednn in (True, False):
        monkeypatch.setattr(kernels, "ONEDNN", onednn)
        leaves = [t.clone().requires_grad_() for t in (x, *weights, *biases)]
        out = mlp(leaves[0], leaves[1:4], leaves[4:], masks)
        assert ("_OneDNN" in type(out.grad_fn).__name__) == onednn
        out.square().sum().backward()
        found[onednn] = [out.detach(), *(leaf.grad for leaf in leaves)]
    for fast, plain in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_float64_takes_the_plain_path(float64: None) -> None:
    x, weights, biases, _ = problem((2,), (2,), False)
    out = mlp(x.requires_grad_(), weights, biases)
    assert out.dtype == torch.float64
    assert "_OneDNN" not in type(out.grad_fn).__name__


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


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("lead", [(3,), (2, 2), (1, 1)])
def test_pairs_are_the_network_on_each_pair(lead: tuple, onednn: bool, monkeypatch) -> None:
    _, weights, biases, _ = problem(lead, lead, False)
    generator = torch.Generator().manual_seed(1)
    x_lead = (*lead[:1], *(1 for _ in lead[1:]))
    x, sets = (
        torch.randn(*x_lead, 9, 4, generator=generator),
        torch.randn(*x_lead, 9, 5, 2, generator=generator),
    )
    found = []
    for pairs in (True, False):
        monkeypatch.setattr(kernels, "ONEDNN", onednn and pairs)
        monkeypatch.setattr(kernels, "CHUNK", 17)  # three rows at a time
        leaves = [t.clone().requires_grad_() for t in (*weights, *biases)]
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
