"""The replica-batched multi-layer perceptron, and how it is computed.

On the CPU in float32 the replicas are computed one after the other, on 2-D tensors alone: that makes a
replica's numbers independent, to the last bit, of how many others there are, and lets each product be made by
the kernel that is fastest for it (`seqeval.training.matmul`). Everywhere else the network is plain torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqeval.training import matmul

CHUNK = 512  # pairs taken at once
NARROW = 32  # products with a dimension below this leave the arithmetic units waiting


def mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    masks: Sequence[Tensor] = (),
    gain: float = 1.0,
) -> Tensor:
    """Linear layers with ReLU between them, for each replica.

    x (*lead, B, in), weights (*lead, in, out) and biases (*lead, out) of each layer -> (*lead, B, out); axes
    of 1 in the lead of `x` are repeated. What the ReLU puts out is multiplied by `gain` and by `masks`
    (*lead, B, out) of 0 and 1, one for each hidden layer or none at all.
    """
    lead = weights[0].shape[:-2]
    if gain != 1:
        # ReLU keeps factors, so that each layer's can go in at the front, where there is least to multiply.
        hidden = len(weights) - 1
        x, biases = gain**hidden * x, [gain ** (hidden - layer) * b for layer, b in enumerate(biases)]
    x = x.expand(*lead, *x.shape[-2:])
    if _one_by_one(x, weights[0]):
        return _Network.apply(len(weights), x, *weights, *biases, *masks)
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
    if _one_by_one(x, weights[0]):
        return _NetworkOfPairs.apply(len(weights), members, x, sets, *weights, *biases)
    own = mlp(x, [weights[0][..., :width, :]], [biases[0]])
    theirs = sets.flatten(0, -3).bmm(weights[0][..., width:, :].flatten(0, -3)).unflatten(0, lead)
    hidden = (own.unsqueeze(-2) + theirs.unflatten(-2, (rows, members))).relu().flatten(-3, -2)
    return mlp(hidden, weights[1:], biases[1:]).unflatten(-2, (rows, members))


def _one_by_one(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _Network(torch.autograd.Function):
    """`mlp` with the replicas one after the other, so that only what goes in and out is ever stacked."""

    @staticmethod
    def forward(ctx: Any, layers: int, x: Tensor, *tensors: Tensor) -> Tensor:
        products, parts = Products(), list(_of_replicas(layers, x, tensors))
        outputs: list[Tensor] = []
        kept: list[Tensor] = []  # of each replica the input of every layer but the first
        for value, weights, biases, masks in parts:
            for layer in range(layers - 1):
                value = products.layer(value, weights[layer], biases[layer], relu=True)
                if masks:
                    value.mul_(masks[layer])
                value = products.operand(value, weights[layer + 1])
                kept.append(value)
            outputs.append(products.layer(value, weights[-1], biases[-1]).float())
        # The tensors are saved so that autograd sees whether they change; their parts are what is used.
        ctx.save_for_backward(*kept, x, *tensors)
        ctx.products, ctx.parts = products, parts
        return _stack(outputs, x.shape[:-2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, products, layers = iter(ctx.saved_tensors), ctx.products, len(ctx.parts[0][1])
        wants_x, wants_weights = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        lead = grad.shape[:-2]
        of_x: list[Tensor] = []
        of_weights, of_biases = _room(ctx.parts) if wants_weights else ([], [])
        grads = _parts(grad.contiguous(), len(lead))
        for replica, ((value, weights, _, _), g) in enumerate(zip(ctx.parts, grads, strict=True)):
            inputs = [value, *(next(kept) for _ in range(layers - 1))]
            for layer in reversed(range(layers)):
                if wants_weights:
                    products.for_weight(inputs[layer], g, out=of_weights[layer][replica])
                    torch.sum(g, 0, dtype=torch.float32, out=of_biases[layer][replica])
                if layer:
                    # Where the ReLU or the mask gave 0 nothing comes back.
                    g = _through_relu(products.for_input(g, weights[layer]), inputs[layer])
                elif wants_x:
                    of_x.append(products.for_input(g, weights[0]).float())
        of_tensors = [tensor.view(*lead, *tensor.shape[1:]) for tensor in (*of_weights, *of_biases)]
        nothing = [None] * (len(ctx.needs_input_grad) - 2 - len(of_tensors))
        return (None, _stack(of_x, lead) if wants_x else None, *of_tensors, *nothing)


class _NetworkOfPairs(torch.autograd.Function):
    """`mlp_of_pairs` a few rows of `x` at a time, so that what passes between layers stays in the cache."""

    @staticmethod
    def forward(ctx: Any, layers: int, members: int, x: Tensor, sets: Tensor, *tensors: Tensor) -> Tensor:
        products, width = Products(), x.shape[-1]
        parts = list(_of_replicas(layers, x, tensors))
        outputs: list[Tensor] = []
        kept: list[Tensor] = []
        for (mine, weights, biases, _), theirs in zip(parts, _parts(sets, sets.dim() - 2), strict=True):
            own = products.layer(mine, weights[0][:width], biases[0]).float()
            out = []
            for rows, members_in in _chunks(own, theirs, members):
                value = products.layer(members_in, weights[0][width:]).float()
                value.unflatten(0, (-1, members)).add_(own[rows].unsqueeze(1)).relu_()
                for layer in range(1, layers):
                    value = products.operand(value, weights[layer])
                    kept.append(value)
                    value = products.layer(value, weights[layer], biases[layer], relu=layer < layers - 1)
                out.append(value.float())
            outputs.append(torch.cat(out))
        ctx.save_for_backward(*kept, x, sets, *tensors)
        ctx.products, ctx.parts, ctx.members = products, parts, members
        return _stack(outputs, x.shape[:-2]).unflatten(-2, (x.shape[-2], members))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        products, members, layers = ctx.products, ctx.members, len(ctx.parts[0][1])
        kept, sets = iter(ctx.saved_tensors), ctx.saved_tensors[-1 - 2 * layers]
        lead = grad.shape[:-3]
        of_weights, of_biases = _room(ctx.parts)
        grads = _parts(grad.flatten(-3, -2).contiguous(), len(lead))
        for replica, ((mine, weights, _, _), theirs, g_all) in enumerate(
            zip(ctx.parts, _parts(sets, len(lead)), grads, strict=True)
        ):
            of_weight = [tensor[replica].zero_() for tensor in of_weights]
            of_bias = [tensor[replica].zero_() for tensor in of_biases]
            of_own = torch.empty(len(mine), weights[0].shape[1])
            width = mine.shape[-1]
            for rows, members_in in _chunks(of_own, theirs, members):
                inputs = [next(kept) for _ in range(layers - 1)]
                g = g_all[rows.start * members : rows.stop * members]
                for layer in reversed(range(1, layers)):
                    value = inputs[layer - 1]
                    products.for_weight(value, g, out=of_weight[layer], add=True)
                    of_bias[layer].add_(g.sum(0, dtype=torch.float32))
                    g = _through_relu(products.for_input(g, weights[layer]), value)
                g = g.float()
                products.for_weight(members_in, g, out=of_weight[0][width:], add=True)
                torch.sum(g.unflatten(0, (-1, members)), 1, out=of_own[rows])
            products.for_weight(mine, of_own, out=of_weight[0][:width])
            torch.sum(of_own, 0, out=of_bias[0])
        of_tensors = [tensor.view(*lead, *tensor.shape[1:]) for tensor in (*of_weights, *of_biases)]
        return (None, None, None, None, *of_tensors)


class Products:
    """The products of a linear layer of one replica, forward and backward, each by the kernel that is fastest
    for its shape on this processor, as `arithmetic` has it.

    oneDNN's operator is private to torch and has sharp edges (a 3-D weight crashes the process, float64 is
    refused): it is given 2-D tensors of float32 or bfloat16 alone. Its second factor is stored as (columns,
    rows). Where products are made of bfloat16, as many as are wide, what passes between them stays bfloat16.
    """

    def __init__(self) -> None:
        how = matmul.current()
        self.rounded = how.operands == "bfloat16"
        self.wide_onednn = how.kernels == "onednn"
        self.narrow_onednn = how.kernels != "blas"

    def operand(self, value: Tensor, weight: Tensor) -> Tensor:
        """A factor of a product that a weight (in, out) has part in, as that product takes it."""
        if not self.rounded:
            return value
        return value.to(torch.bfloat16 if min(weight.shape) >= NARROW else torch.float32)

    def layer(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
        """x (B, in), weight (in, out) -> (B, out)."""
        x, factor = self.operand(x, weight), self.operand(weight, weight)
        if self._by_onednn(x, *weight.shape):
            bias = None if bias is None else self.operand(bias, weight)
            return _onednn(x, factor.t(), bias, "relu" if relu else "none", [], "")
        out = x.mm(factor) if bias is None else torch.addmm(bias, x, factor)
        return out.relu_() if relu else out

    def for_weight(self, x: Tensor, g: Tensor, out: Tensor, add: bool = False) -> None:
        """Puts the gradient of the weight, from x (B, in) and g (B, out), into `out` (in, out)."""
        x, g = self.operand(x, out), self.operand(g, out)
        if x.dtype == torch.bfloat16:
            product = x.t().mm(g)
        elif not self._by_onednn(x, x.shape[1], g.shape[1]):
            if add:
                out.addmm_(x.t(), g)
            else:
                torch.mm(x.t(), g, out=out)
            return
        elif g.shape[1] < NARROW:  # the operator copies its first factor: that is the smaller one so
            product = _onednn(g.t(), x.t(), None, "none", [], "").t()
        else:
            product = _onednn(x.t(), g.t(), None, "none", [], "")
        if add:
            out.add_(product)
        else:
            out.copy_(product)

    def for_input(self, g: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the input: g (B, out) and weight (in, out) -> (B, in)."""
        g, factor = self.operand(g, weight), self.operand(weight, weight)
        if self._by_onednn(g, weight.shape[1], weight.shape[0]):
            return _onednn(g, factor, None, "none", [], "")
        return g.mm(factor.t())

    def _by_onednn(self, x: Tensor, inner: int, columns: int) -> bool:
        """Whether its operator multiplies `x` (·, inner) with (inner, columns)."""
        if x.dtype == torch.bfloat16:
            return True
        if min(inner, x.shape[0]) < NARROW or columns == 1:
            return False
        return self.narrow_onednn if columns < NARROW else self.wide_onednn


_onednn = torch.ops.mkldnn._linear_pointwise.default if matmul.ONEDNN else None


def _through_relu(g: Tensor, value: Tensor) -> Tensor:
    """The gradient of what a ReLU got, in the place of the gradient of its `value`."""
    return torch.ops.aten.threshold_backward.grad_input(g, value, 0, grad_input=g)


def _room(parts: Sequence[Part]) -> tuple[list[Tensor], list[Tensor]]:
    """For the gradients of all replicas: each layer's weights' (replicas, in, out), and biases'."""
    _, weights, biases, _ = parts[0]
    return [w.new_empty(len(parts), *w.shape) for w in weights], [
        b.new_empty(len(parts), *b.shape) for b in biases
    ]


def _chunks(own: Tensor, sets: Tensor, members: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows of `own` (B, out), and the part of `sets` (B · members, m) that is theirs."""
    step = max(1, CHUNK // members)
    for begin in range(0, len(own), step):
        rows = slice(begin, min(begin + step, len(own)))
        yield rows, sets[rows.start * members : rows.stop * members]


Part = tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]


def _of_replicas(layers: int, x: Tensor, tensors: Sequence[Tensor]) -> Iterator[Part]:
    """Of each replica the input, and the weights, biases and masks of its layers."""
    axes = x.dim() - 2
    parts = zip(*(_parts(tensor, axes) for tensor in tensors), strict=True)
    for value, mine in zip(_parts(x, axes), parts, strict=True):
        yield value, mine[:layers], mine[layers : 2 * layers], mine[2 * layers :]


def _parts(values: Tensor, axes: int) -> Sequence[Tensor]:
    """The parts of a tensor that its first axes number, none of them a copy."""
    parts: Sequence[Tensor] = [values]
    for _ in range(axes):
        parts = (
            parts[0].unbind() if len(parts) == 1 else [part for tensor in parts for part in tensor.unbind()]
        )
    return parts


def _stack(parts: Sequence[Tensor], lead: Sequence[int]) -> Tensor:
    """(*lead, ...) from its parts; a single part is not copied."""
    stacked = parts[0] if len(parts) == 1 else torch.stack(parts)
    return stacked.view(*lead, *parts[0].shape)
