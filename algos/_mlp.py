"""The replica-batched multi-layer perceptron, and which kernel computes it.

On the CPU in float32 products run through oneDNN's operator, which on many processors is about twice as fast
as the BLAS behind `torch.mm`, and which adds the bias and the ReLU on its way. The operator is private to
torch and has sharp edges (a 3-D weight crashes the process, float64 is refused), so it is called here alone,
on 2-D float32 tensors alone, one replica at a time. That also makes a replica's numbers independent, to the
last bit, of how many others there are. Everywhere else the network is plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    if ONEDNN and x.device.type == "cpu" and x.dtype == weights[0].dtype == torch.float32:
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


def _multiply(x: Tensor, y: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x @ y (+ bias): (m, k), (k, n) -> (m, n). The operator wants its second factor as (n, k)."""
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
