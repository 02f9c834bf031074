"""The replica-batched multi-layer perceptron, and which kernel computes it.

On the CPU in float32 products run through oneDNN's operator, which on many processors is about twice as fast
as the BLAS behind `torch.mm`, and which adds the bias and the ReLU on its way. The operator is private to
torch and has sharp edges (a 3-D weight crashes the process, float64 is refused), so it is called here alone,
on 2-D float32 tensors alone, one replica at a time. That also makes a replica's numbers independent, to the
last bit, of how many others there are. Everywhere else the network is plain torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 512  # pairs taken at once
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], masks: Sequence[Tensor] = ()
) -> Tensor:
    """Linear layers with ReLU between them, for each replica.

    x (*lead, B, in), weights (*lead, in, out) and biases (*lead, out) of each layer -> (*lead, B, out); axes
    of 1 in the lead of `x` are repeated. `masks` (*lead, B, out), one for each hidden layer or none at all,
    multiply what comes out of the ReLU.
    """
    lead = weights[0].shape[:-2]
    x = x.expand(*lead, *x.shape[-2:])
    if _use_onednn(x, weights[0]):
        return _OneDNN.apply(len(weights), x, *weights, *biases, *masks)
    x, weights, biases = (
        x.flatten(0, -3),
        [w.flatten(0, -3) for w in weights],
        [b.flatten(0, -2) for b in biases],
    )
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.baddbmm(bias.unsqueeze(1), x, weight)
        if layer < len(weights) - 1:
            x = x.relu()
            x = x * masks[layer].flatten(0, -3) if masks else x
    return x.unflatten(0, lead)


def mlp_of_pairs(x: Tensor, sets: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """`mlp` on each row of `x` paired with each member of its set, with gradients to the weights alone.

    x (*lead, B, n) and sets (*lead, B, S, m), for a first weight of (*lead, n + m, ·) -> (*lead, B, S, out);
    axes of 1 in the leads of `x` and `sets` are repeated. The first layer's product with a row of `x` is
    made once for all of its set.
    """
    lead, (rows, members) = weights[0].shape[:-2], sets.shape[-3:-1]
    width = x.shape[-1]
    x = x.expand(*lead, *x.shape[-2:])
    sets = sets.flatten(-3, -2).expand(*lead, rows * members, sets.shape[-1])
    if _use_onednn(x, weights[0]):
        return _OneDNNPairs.apply(len(weights), members, x, sets, *weights, *biases)
    own = mlp(x, [weights[0][..., :width, :]], [biases[0]])
    theirs = sets.flatten(0, -3).bmm(weights[0][..., width:, :].flatten(0, -3)).unflatten(0, lead)
    hidden = (own.unsqueeze(-2) + theirs.unflatten(-2, (rows, members))).relu().flatten(-3, -2)
    return mlp(hidden, weights[1:], biases[1:]).unflatten(-2, (rows, members))


def _use_onednn(x: Tensor, weight: Tensor) -> bool:
    return ONEDNN and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _OneDNN(torch.autograd.Function):
    """`mlp` with the replicas one after the other, so that only what goes in and out is ever stacked."""

    @staticmethod
    def forward(ctx: Any, layers: int, x: Tensor, *tensors: Tensor) -> Tensor:
        ctx.layers, ctx.lead = layers, x.shape[:-2]
        inputs, outputs = _replicas(x), []
        weights, biases, masks = _split(layers, tensors)
        kept: list[Tensor] = []  # of each replica the input of every layer but the first
        for replica, value in enumerate(inputs):
            for layer in range(layers):
                hidden = layer < layers - 1
                value = _multiply(value, weights[layer][replica], biases[layer][replica], relu=hidden)
                if hidden:
                    value = value * masks[layer][replica] if masks else value
                    kept.append(value)
            outputs.append(value)
        ctx.save_for_backward(x, *tensors, *kept)
        ctx.count = len(tensors)
        return _stack(outputs, ctx.lead)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        tensors, kept = rest[: ctx.count], rest[ctx.count :]
        weights, _, masks = _split(ctx.layers, tensors)
        wants_x, wants_weights = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        grad_x: list[Tensor] = []
        grad_weights: list[list[Tensor]] = [[] for _ in range(ctx.layers)]
        grad_biases: list[list[Tensor]] = [[] for _ in range(ctx.layers)]
        hidden = ctx.layers - 1
        for replica, (first, g) in enumerate(zip(_replicas(x), _replicas(grad.contiguous()), strict=True)):
            inputs = [first, *kept[replica * hidden : (replica + 1) * hidden]]
            for layer in reversed(range(ctx.layers)):
                if wants_weights:
                    grad_weights[layer].append(_multiply(inputs[layer].t(), g))
                    grad_biases[layer].append(g.sum(0))
                if layer > 0:
                    g = _multiply(g, weights[layer][replica].t())
                    g = g * masks[layer - 1][replica] if masks else g
                    # Where the ReLU or the mask gave 0 nothing comes back.
                    g = torch.ops.aten.threshold_backward(g, inputs[layer], 0)
                elif wants_x:
                    grad_x.append(_multiply(g, weights[0][replica].t()))
        out: list[Tensor | None] = [None, _stack(grad_x, ctx.lead) if wants_x else None]
        for grads in (*grad_weights, *grad_biases):
            out.append(_stack(grads, ctx.lead) if wants_weights else None)
        return (*out, *[None] * len(masks))


class _OneDNNPairs(torch.autograd.Function):
    """`mlp_of_pairs` a few rows of `x` at a time, so that what passes between layers stays in the cache."""

    @staticmethod
    def forward(ctx: Any, layers: int, members: int, x: Tensor, sets: Tensor, *tensors: Tensor) -> Tensor:
        ctx.layers, ctx.members, ctx.lead = layers, members, x.shape[:-2]
        weights, biases, _ = _split(layers, tensors)
        width = x.shape[-1]
        outputs: list[Tensor] = []
        kept: list[Tensor] = []
        for replica, (mine, theirs) in enumerate(zip(_replicas(x), _replicas(sets), strict=True)):
            first = weights[0][replica]
            own = _multiply(mine, first[:width], biases[0][replica])
            parts = []
            for rows, value in _chunks(own, theirs, members):
                value = _multiply(value, first[width:])
                value.unflatten(0, (-1, members)).add_(own[rows].unsqueeze(1)).relu_()
                for layer in range(1, layers):
                    kept.append(value)
                    hidden = layer < layers - 1
                    value = _multiply(value, weights[layer][replica], biases[layer][replica], relu=hidden)
                parts.append(value)
            outputs.append(torch.cat(parts))
        ctx.save_for_backward(x, sets, *tensors, *kept)
        return _stack(outputs, ctx.lead).unflatten(-2, (x.shape[-2], members))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers, members = ctx.layers, ctx.members
        x, sets, *rest = ctx.saved_tensors
        weights, _, _ = _split(layers, rest[: 2 * layers])
        kept = iter(rest[2 * layers :])
        grad_weights: list[list[Tensor]] = [[] for _ in range(layers)]
        grad_biases: list[list[Tensor]] = [[] for _ in range(layers)]
        replicas = zip(
            _replicas(x), _replicas(sets), _replicas(grad.flatten(-3, -2).contiguous()), strict=True
        )
        for replica, (mine, theirs, g_all) in enumerate(replicas):
            of_weights: list[Tensor | None] = [None] * layers
            of_biases: list[Tensor | None] = [None] * layers
            of_own = torch.empty(len(mine), weights[0][replica].shape[1])
            for rows, members_in in _chunks(of_own, theirs, members):
                inputs = [next(kept) for _ in range(layers - 1)]
                g = g_all[rows.start * members : rows.stop * members]
                for layer in reversed(range(1, layers)):
                    value = inputs[layer - 1]
                    of_weights[layer] = _add(of_weights[layer], _multiply(value.t(), g))
                    of_biases[layer] = _add(of_biases[layer], g.sum(0))
                    g = _multiply(g, weights[layer][replica].t())
                    g = torch.ops.aten.threshold_backward(g, value, 0)
                of_weights[0] = _add(of_weights[0], _multiply(members_in.t(), g))
                torch.sum(g.unflatten(0, (-1, members)), 1, out=of_own[rows])
            of_weights[0] = torch.cat([_multiply(mine.t(), of_own), of_weights[0]])
            of_biases[0] = of_own.sum(0)
            for layer in range(layers):
                grad_weights[layer].append(of_weights[layer])
                grad_biases[layer].append(of_biases[layer])
        grads = [_stack(parts, ctx.lead) for parts in (*grad_weights, *grad_biases)]
        return (None, None, None, None, *grads)


def _chunks(own: Tensor, sets: Tensor, members: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows of `own` (B, out), and the part of `sets` (B · members, m) that is theirs."""
    step = max(1, CHUNK // members)
    for begin in range(0, len(own), step):
        rows = slice(begin, min(begin + step, len(own)))
        yield rows, sets[rows.start * members : rows.stop * members]


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _multiply(x: Tensor, y: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x @ y (+ bias): (m, k), (k, n) -> (m, n). The operator wants its second factor as (n, k).

    Where n or k is 1 the product is `torch.mm`'s: the operator takes many times as long for some of these.
    """
    if y.shape[1] == 1 or y.shape[0] == 1:
        product = torch.mm(x, y) if bias is None else torch.addmm(bias, x, y)
        return product.relu_() if relu else product
    return torch.ops.mkldnn._linear_pointwise(x, y.t(), bias, "relu" if relu else "none", [], "")


def _split(layers: int, tensors: Sequence[Tensor]) -> tuple[list[list[Tensor]], ...]:
    """Weights, biases and masks: for each layer the replicas' own."""
    cuts = (0, layers, 2 * layers, len(tensors))
    weights, biases, masks = (tensors[begin:end] for begin, end in pairwise(cuts))
    return (
        [_replicas(w) for w in weights],
        [list(b.flatten(0, -2).unbind()) for b in biases],
        [_replicas(m) for m in masks],
    )


def _replicas(values: Tensor) -> list[Tensor]:
    """The 2-D parts of a tensor (*lead, m, n), none of them a copy."""
    parts = [values]
    for _ in range(values.dim() - 2):
        parts = [part for tensor in parts for part in tensor.unbind()]
    return parts


def _stack(parts: list[Tensor], lead: Sequence[int]) -> Tensor:
    """(*lead, ...) from its parts; a single part is not copied."""
    stacked = parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)
    return stacked.unflatten(0, tuple(lead))
