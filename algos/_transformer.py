"""A causal transformer with a replica axis: the GPT of the Decision Transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqeval.algorithm import Noise, stream

from ._fast_cpu import aligned, mlp

INITIAL_STD = 0.02  # of all weights, as in GPT-2
NORM_EPSILON = 1e-5  # added to the variance in layer normalisation


class Weights:
    """Draws initial weights of R networks, each from the rng stream of its seed."""

    def __init__(self, name: str, seeds: Sequence[int], device: torch.device) -> None:
        self._streams = [stream(seed, "weights", name) for seed in seeds]
        self._device = device

    def normal(self, *shape: int) -> nn.Parameter:
        """(R, *shape) from N(0, 0.02²)."""
        values = np.stack([INITIAL_STD * rng.standard_normal(shape) for rng in self._streams])
        return nn.Parameter(torch.from_numpy(values).to(self._device, torch.get_default_dtype()))

    def constant(self, value: float, *shape: int) -> nn.Parameter:
        """(R, *shape) of one value."""
        return nn.Parameter(torch.full((len(self._streams), *shape), value, device=self._device))


class Linear(nn.Module):
    """R linear layers, (R, rows, in) -> (R, rows, out)."""

    def __init__(self, weights: Weights, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight, self.bias = weights.normal(fan_in, fan_out), weights.constant(0.0, fan_out)

    def forward(self, x: Tensor) -> Tensor:
        return mlp(x, [self.weight], [self.bias])


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba, Kiros, Hinton, arXiv 1607.06450), (R, rows, width)."""

    def __init__(self, weights: Weights, width: int) -> None:
        super().__init__()
        self.scale, self.shift = weights.constant(1.0, 1, width), weights.constant(0.0, 1, width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON) * self.scale + self.shift


class Block(nn.Module):
    """Causal self-attention and a network with one hidden layer of 4 × width ReLUs, each behind a layer
    normalisation and added to its input (Vaswani et al., arXiv 1706.03762, in the order of GPT-2)."""

    def __init__(self, weights: Weights, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(weights, width), LayerNorm(weights, width)
        self.inputs, self.outputs = Linear(weights, width, 3 * width), Linear(weights, width, width)
        self.up, self.down = Linear(weights, width, 4 * width), Linear(weights, 4 * width, width)

    def forward(self, x: Tensor, length: int, dropout: Callable[[str, Tensor], Tensor]) -> Tensor:
        """(R, B · length, width) -> the same shape."""
        x = x + dropout("attended", self.outputs(self._attend(self.norm1(x), length, dropout)))
        weights, biases = [self.up.weight, self.down.weight], [self.up.bias, self.down.bias]
        return x + dropout("mlp", mlp(self.norm2(x), weights, biases))

    def _attend(self, x: Tensor, length: int, dropout: Callable[[str, Tensor], Tensor]) -> Tensor:
        # (R, B, heads, length, width of a head) each
        query, key, value = (
            part.unflatten(1, (-1, length)).unflatten(-1, (self.heads, -1)).transpose(2, 3).contiguous()
            for part in self.inputs(x).chunk(3, -1)
        )
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = products(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
        shares = dropout("shares", scores.masked_fill(future, -torch.inf).softmax(-1))
        return products(shares, value).transpose(2, 3).flatten(-2).flatten(1, 2)


def products(one: Tensor, other: Tensor) -> Tensor:
    """The matrix products of (R, ..., n, k) and (R, ..., k, m): (R, ..., n, m)."""
    return ReplicaProducts.apply(one, other) if one.is_cpu else one @ other


class ReplicaProducts(torch.autograd.Function):
    """`products` on the CPU, one replica after the other, so that they round as they do solo."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(one, other)
        return _replica_products(one, other)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        one, other = ctx.saved_tensors
        return _replica_products(grad, other.mT), _replica_products(one.mT, grad)


def _replica_products(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack([aligned(a) @ aligned(b) for a, b in zip(one, other, strict=True)])


class GPT(nn.Module):
    """R causal transformers on sequences of tokens that are embedded already.

    Dropout is applied to the tokens, to the attention shares and to what each half of a block adds; its masks
    of 0 and 1 are declared by `noise`.
    """

    def __init__(self, weights: Weights, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.first_norm, self.last_norm = LayerNorm(weights, width), LayerNorm(weights, width)
        self.blocks = nn.ModuleList(Block(weights, width, heads) for _ in range(layers))

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None, gain: float = 1.0) -> Tensor:
        """(R, B, length, width) -> the same shape. Kept values are multiplied by `gain`; without `masks`
        nothing is dropped."""
        length = x.shape[2]

        def dropout(name: str, values: Tensor) -> Tensor:
            return values if not masks else values * masks[name].view(values.shape) * gain

        hidden = dropout("keep_tokens", self.first_norm(x.flatten(1, 2)))
        for layer, block in enumerate(self.blocks):

            def of_layer(name: str, values: Tensor, layer: int = layer) -> Tensor:
                return dropout(f"keep_{name}_{layer}", values)

            hidden = block(hidden, length, of_layer)
        return self.last_norm(hidden).unflatten(1, (-1, length))


def dropout_noise(
    batch_size: int, length: int, layers: int, heads: int, width: int, dropout: float
) -> dict[str, Noise]:
    """The masks of a `GPT` for one replica; none without dropout."""
    if dropout == 0:
        return {}
    rows, shares = (batch_size, length, width), (batch_size, heads, length, length)
    shapes = {"keep_tokens": rows}
    for layer in range(layers):
        shapes |= {f"keep_{name}_{layer}": rows for name in ("attended", "mlp")}
        shapes[f"keep_shares_{layer}"] = shares
    return {name: Noise("bernoulli", shape, 1 - dropout) for name, shape in shapes.items()}


def gpt_flops(batch_size: int, length: int, layers: int, width: int) -> int:
    """FLOPs of the matrix products in a forward pass of a `GPT`; the backward pass costs twice as many."""
    rows = batch_size * length
    linear = 2 * rows * width * width * (3 + 1 + 4 + 4)
    return layers * (linear + 2 * 2 * rows * length * width)
