"""The fast CPU path: a replica-batched multi-layer perceptron, and every private torch operator.

On the CPU in float32 the replicas are computed one after the other, on 2-D tensors only. So the numbers of a
replica do not depend, to the last bit, on how many others there are, and each product is computed by the
kernel that is fastest for its shape (`seqeval.training.matmul`). In all other cases, and where second
derivatives are asked for, the network is plain torch.

Each private operator has a public fallback, taken where torch lacks the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqeval.training import matmul
from seqeval.training.matmul import aligned

CHUNK = 512  # pairs of an input and a candidate that are computed together
NARROW = 32  # a product with a dimension below this leaves the vector units idle
PRIVATE_OPERATORS = hasattr(torch, "_foreach_lerp_") and hasattr(torch, "_fused_adamw_")
# Looked up once, since a look-up at each call costs measurable time.
_linear_pointwise = torch.ops.mkldnn._linear_pointwise.default if matmul.HAS_ONEDNN else None
_threshold_backward = torch.ops.aten.threshold_backward.grad_input


def mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    masks: Sequence[Tensor] = (),
    gain: float = 1.0,
) -> Tensor:
    """Linear layers with ReLU between them, for each replica.

    x (*lead, B, in), weights (*lead, in, out) and biases (*lead, out) of each layer -> (*lead, B, out); axes
    of size 1 in the lead of `x` are broadcast. The output of each hidden layer is multiplied by `gain` and by
    its mask (*lead, B, out) of 0 and 1; give one mask per hidden layer or none.
    """
    if gain != 1:
        # ReLU commutes with positive factors, so all gains are applied at the input, the smallest tensor.
        hidden = len(weights) - 1
        x, biases = gain**hidden * x, [gain ** (hidden - layer) * b for layer, b in enumerate(biases)]
    x = x.expand(*weights[0].shape[:-2], *x.shape[-2:])
    if not takes_fast_path(x, weights[0]):
        return _plain_mlp(x, weights, biases, masks)
    if torch.is_grad_enabled() and (x.requires_grad or weights[0].requires_grad):
        return FusedMLP.apply(len(weights), x, *weights, *biases, *masks)
    return _values(x, weights, biases, masks)


def mlp_on_pairs(
    x: Tensor, candidates: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    """`mlp` on each row of `x` joined with each of its candidates, with gradients to the weights only.

    x (*lead, B, n), candidates (*lead, B, S, m), first weight (*lead, n + m, ·) -> (*lead, B, S, out); axes
    of size 1 in the leads of `x` and `candidates` are broadcast. The first layer's product with a row of `x`
    is computed once for all its candidates.
    """
    lead, rows = weights[0].shape[:-2], x.shape[-2]
    x, candidates = x.expand(*lead, *x.shape[-2:]), candidates.expand(*lead, rows, *candidates.shape[-2:])
    if takes_fast_path(x, weights[0]):
        return FusedPairMLP.apply(len(weights), x, candidates, *weights, *biases)
    return _plain_mlp_on_pairs(x, candidates, weights, biases)


def takes_fast_path(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


def _plain_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], masks: Sequence[Tensor] = ()
) -> Tensor:
    lead = weights[0].shape[:-2]
    x = x.flatten(0, -3)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.baddbmm(bias.flatten(0, -2).unsqueeze(1), x, weight.flatten(0, -3))
        if layer < len(weights) - 1:
            x = x.relu()
            x = x * masks[layer].flatten(0, -3) if masks else x
    return x.unflatten(0, lead)


def _plain_mlp_on_pairs(
    x: Tensor, candidates: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    width, lead = x.shape[-1], weights[0].shape[:-2]
    from_x = _plain_mlp(x, [weights[0][..., :width, :]], [biases[0]])
    from_candidates = candidates.flatten(-3, -2).flatten(0, -3).bmm(weights[0][..., width:, :].flatten(0, -3))
    hidden = from_x.unsqueeze(-2) + from_candidates.view(*lead, *candidates.shape[-3:-1], -1)
    outputs = _plain_mlp(hidden.relu().flatten(-3, -2), weights[1:], biases[1:])
    return outputs.unflatten(-2, candidates.shape[-3:-1])


def _values(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], masks: Sequence[Tensor]
) -> Tensor:
    """`mlp` without gradients; hidden values are dropped at once, and so stay in the cache."""
    products, tensors = LayerProducts(), (*weights, *biases, *masks)
    outputs = [_forward(products, replica) for replica in _replicas(len(weights), x, tensors)]
    return _stack(outputs, x.shape[:-2])


def _forward(products: LayerProducts, replica: _Replica, hidden: list[Tensor] | None = None) -> Tensor:
    """The output of one replica's network; `hidden` receives the input of every layer but the first."""
    value, weights, biases, masks = replica
    for layer in range(len(weights) - 1):
        value = products.linear(value, weights[layer], biases[layer], relu=True)
        if masks:
            value.mul_(masks[layer])
        value = products.round_operand(value, weights[layer + 1])
        if hidden is not None:
            hidden.append(value)
    return products.linear(value, weights[-1], biases[-1]).float()


class FusedMLP(torch.autograd.Function):
    """`mlp`, one replica after the other: only inputs and outputs are stacked."""

    @staticmethod
    def forward(ctx: Any, layers: int, x: Tensor, *tensors: Tensor) -> Tensor:
        products, replicas = LayerProducts(), list(_replicas(layers, x, tensors))
        hidden: list[Tensor] = []  # of each replica, the input of every layer but the first
        outputs = [_forward(products, replica, hidden) for replica in replicas]
        # The inputs are saved so that autograd detects changes; `replicas` holds views of them.
        ctx.save_for_backward(x, *tensors, *hidden)
        ctx.products, ctx.replicas, ctx.layers = products, replicas, layers
        return _stack(outputs, x.shape[:-2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers, inputs = ctx.layers, len(ctx.needs_input_grad) - 1
        saved = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are asked for (create_graph=True)

            def plain(x: Tensor, *tensors: Tensor) -> Tensor:
                return _plain_mlp(x, tensors[:layers], tensors[layers : 2 * layers], tensors[2 * layers :])

            return None, *_differentiable_gradients(plain, saved[:inputs], ctx.needs_input_grad[1:], grad)
        products, hidden = ctx.products, iter(saved[inputs:])
        needs_x, needs_weights = ctx.needs_input_grad[1:3]
        lead = grad.shape[:-2]
        x_grads: list[Tensor] = []
        weight_grads, bias_grads = _empty_gradients(ctx.replicas) if needs_weights else ([], [])
        output_grads = _unbind(grad.contiguous(), len(lead))
        for index, ((x, weights, _, _), g) in enumerate(zip(ctx.replicas, output_grads, strict=True)):
            values = [x, *(next(hidden) for _ in range(layers - 1))]
            for layer in reversed(range(layers)):
                if needs_weights:
                    products.weight_gradient(values[layer], g, out=weight_grads[layer][index])
                    torch.sum(g, 0, dtype=torch.float32, out=bias_grads[layer][index])
                if layer:
                    # Zero where the ReLU or the mask gave 0.
                    g = relu_backward_(products.input_gradient(g, weights[layer]), values[layer])
                elif needs_x:
                    x_grads.append(products.input_gradient(g, weights[0]).float())
        grads = [tensor.view(*lead, *tensor.shape[1:]) for tensor in (*weight_grads, *bias_grads)]
        no_grads = [None] * (inputs - 1 - len(grads))
        return None, _stack(x_grads, lead) if needs_x else None, *grads, *no_grads


class FusedPairMLP(torch.autograd.Function):
    """`mlp_on_pairs`, a few rows of `x` at a time, so that the hidden values stay in the cache."""

    @staticmethod
    def forward(ctx: Any, layers: int, x: Tensor, candidates: Tensor, *tensors: Tensor) -> Tensor:
        products, width, per_row = LayerProducts(), x.shape[-1], candidates.shape[-2]
        replicas, all_candidates = list(_replicas(layers, x, tensors)), _candidates_of_replicas(candidates)
        outputs: list[Tensor] = []
        hidden: list[Tensor] = []
        for (row_inputs, weights, biases, _), pair_inputs in zip(replicas, all_candidates, strict=True):
            from_rows = products.linear(row_inputs, weights[0][:width], biases[0]).float()
            chunks = []
            for rows, pairs in _chunks(len(row_inputs), per_row):
                value = products.linear(pair_inputs[pairs], weights[0][width:]).float()
                value.unflatten(0, (-1, per_row)).add_(from_rows[rows].unsqueeze(1)).relu_()
                for layer in range(1, layers):
                    value = products.round_operand(value, weights[layer])
                    hidden.append(value)
                    value = products.linear(value, weights[layer], biases[layer], relu=layer < layers - 1)
                chunks.append(value.float())
            outputs.append(torch.cat(chunks))
        ctx.save_for_backward(x, candidates, *tensors, *hidden)
        ctx.products, ctx.replicas, ctx.layers = products, replicas, layers
        return _stack(outputs, x.shape[:-2]).unflatten(-2, (-1, per_row))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers, saved = ctx.layers, ctx.saved_tensors
        inputs = len(ctx.needs_input_grad) - 1
        if torch.is_grad_enabled():  # second derivatives are asked for (create_graph=True)

            def plain(x: Tensor, candidates: Tensor, *tensors: Tensor) -> Tensor:
                return _plain_mlp_on_pairs(x, candidates, tensors[:layers], tensors[layers:])

            needs = False, False, *ctx.needs_input_grad[3:]
            return None, *_differentiable_gradients(plain, saved[:inputs], needs, grad)
        products, hidden, candidates = ctx.products, iter(saved[inputs:]), saved[1]
        lead, per_row = grad.shape[:-3], candidates.shape[-2]
        weight_grads, bias_grads = _empty_gradients(ctx.replicas)
        output_grads = _unbind(grad.flatten(-3, -2).contiguous(), len(lead))
        for index, ((x, weights, _, _), pair_inputs, output_grad) in enumerate(
            zip(ctx.replicas, _candidates_of_replicas(candidates), output_grads, strict=True)
        ):
            weight_grad = [tensor[index].zero_() for tensor in weight_grads]
            bias_grad = [tensor[index].zero_() for tensor in bias_grads]
            row_grad = torch.empty(len(x), weights[0].shape[1])
            width = x.shape[-1]
            for rows, pairs in _chunks(len(x), per_row):
                values = [next(hidden) for _ in range(layers - 1)]
                g = output_grad[pairs]
                for layer in reversed(range(1, layers)):
                    value = values[layer - 1]
                    products.weight_gradient(value, g, out=weight_grad[layer], add=True)
                    bias_grad[layer].add_(g.sum(0, dtype=torch.float32))
                    g = relu_backward_(products.input_gradient(g, weights[layer]), value)
                g = g.float()
                products.weight_gradient(pair_inputs[pairs], g, out=weight_grad[0][width:], add=True)
                torch.sum(g.unflatten(0, (-1, per_row)), 1, out=row_grad[rows])
            products.weight_gradient(x, row_grad, out=weight_grad[0][:width])
            torch.sum(row_grad, 0, out=bias_grad[0])
        grads = [tensor.view(*lead, *tensor.shape[1:]) for tensor in (*weight_grads, *bias_grads)]
        return None, None, None, *grads


def _differentiable_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], needs_grad: Sequence[bool], grad: Tensor
) -> Iterator[Tensor | None]:
    """The gradient of each input of `function` that needs one, itself differentiable, given the output's."""
    # Gradients are taken at views: an input may depend on another, whose gradient must not include that path.
    views = [tensor.view_as(tensor) for tensor in inputs]
    wanted = [view for view, needed in zip(views, needs_grad, strict=True) if needed]
    grads = iter(torch.autograd.grad(function(*views), wanted, grad, create_graph=True))
    return (next(grads) if needed else None for needed in needs_grad)


class LayerProducts:
    """The products of one linear layer of one replica, forward and backward.

    Each uses the kernel that is fastest for its shape on this processor, as the matmul backend says. If its
    operands are bfloat16, the factors of wide products are rounded, and so are the values between them. All
    operands are aligned, so that a replica's products round as they do solo.
    """

    def __init__(self) -> None:
        backend = matmul.current()
        self.bfloat16 = backend.operands == "bfloat16"
        self.wide_onednn = backend.kernels == "onednn"
        self.narrow_onednn = backend.kernels != "blas"

    def round_operand(self, value: Tensor, weight: Tensor) -> Tensor:
        """`value`, aligned, in the type of the products that `weight` (in, out) takes part in."""
        if not self.bfloat16:
            return aligned(value)
        return aligned(value.to(torch.bfloat16 if min(weight.shape) >= NARROW else torch.float32))

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
        """x (B, in), weight (in, out) -> (B, out)."""
        x, factor = self.round_operand(x, weight), self.round_operand(weight, weight)
        if self._uses_onednn(x, *weight.shape):
            bias = None if bias is None else self.round_operand(bias, weight)
            return onednn_linear(x, factor.t(), bias, relu)
        out = x.mm(factor) if bias is None else torch.addmm(bias, x, factor)
        return out.relu_() if relu else out

    def weight_gradient(self, x: Tensor, g: Tensor, out: Tensor, add: bool = False) -> None:
        """Write the gradient of the weight, from x (B, in) and g (B, out), to `out` (in, out), or add it."""
        x, g = self.round_operand(x, out), self.round_operand(g, out)
        if x.dtype == torch.bfloat16:
            product = x.t().mm(g)
        elif not self._uses_onednn(x, x.shape[1], g.shape[1]):
            product = aligned(out).addmm_(x.t(), g, beta=int(add))
            if product is not out:
                out.copy_(product)
            return
        elif g.shape[1] < NARROW:  # the operator copies its first factor, so that is the smaller one
            product = onednn_linear(g.t(), x.t()).t()
        else:
            product = onednn_linear(x.t(), g.t())
        if add:
            out.add_(product)
        else:
            out.copy_(product)

    def input_gradient(self, g: Tensor, weight: Tensor) -> Tensor:
        """g (B, out), weight (in, out) -> (B, in)."""
        g, factor = self.round_operand(g, weight), self.round_operand(weight, weight)
        if self._uses_onednn(g, weight.shape[1], weight.shape[0]):
            return onednn_linear(g, factor)
        return g.mm(factor.t())

    def _uses_onednn(self, x: Tensor, inner: int, columns: int) -> bool:
        """Whether oneDNN multiplies `x` (·, inner) with (inner, columns)."""
        if x.dtype == torch.bfloat16:
            return True
        if min(inner, x.shape[0]) < NARROW or columns == 1:
            return False
        return self.narrow_onednn if columns < NARROW else self.wide_onednn


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x (B, in), weight (out, in) -> (B, out), by oneDNN.

    2-D tensors of float32 or bfloat16 only: the operator crashes on a 3-D weight and refuses float64.
    """
    if PRIVATE_OPERATORS:
        return _linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    out = functional.linear(x, weight, bias)
    return out.relu_() if relu else out


def relu_backward_(g: Tensor, output: Tensor) -> Tensor:
    """Replace the gradient of a ReLU's output by that of its input."""
    if PRIVATE_OPERATORS:
        return _threshold_backward(g, output, 0, grad_input=g)
    return g.masked_fill_(output <= 0, 0)


def lerp_(targets: Sequence[Tensor], sources: Sequence[Tensor], weight: float) -> None:
    """Move each target by the share `weight` of its distance to its source."""
    if PRIVATE_OPERATORS:
        torch._foreach_lerp_(targets, sources, weight)
        return
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source, weight)


def adamw_(
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    step: Tensor,
    learning_rate: float | Tensor,
    weight_decay: float,
) -> None:
    """One step of AdamW (β = 0.9, 0.999; ε = 1e-8), the `step`-th counted from 1, on each parameter."""
    if PRIVATE_OPERATORS:
        torch._fused_adamw_(
            parameters,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            [step] * len(parameters),
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
        return
    correction, correction_sq = 1 - 0.9 ** step.double(), 1 - 0.999 ** step.double()
    for p, g, exp_avg, exp_avg_sq in zip(parameters, grads, exp_avgs, exp_avg_sqs, strict=True):
        exp_avg.lerp_(g, 1 - 0.9)
        exp_avg_sq.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
        p.mul_(1 - learning_rate * weight_decay)
        p.sub_(learning_rate * (exp_avg / correction) / ((exp_avg_sq / correction_sq).sqrt() + 1e-8))


class _Replica(NamedTuple):
    """The input and the layers of one replica."""

    x: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]


def _replicas(layers: int, x: Tensor, tensors: Sequence[Tensor]) -> Iterator[_Replica]:
    axes = x.dim() - 2
    by_replica = zip(*(_unbind(tensor, axes) for tensor in tensors), strict=True)
    for value, layer_tensors in zip(_unbind(x, axes), by_replica, strict=True):
        weights, biases = layer_tensors[:layers], layer_tensors[layers : 2 * layers]
        yield _Replica(value, weights, biases, layer_tensors[2 * layers :])


def _candidates_of_replicas(candidates: Tensor) -> Sequence[Tensor]:
    """(*lead, B, S, m) -> (B · S, m) of each replica."""
    return _unbind(candidates.flatten(-3, -2), candidates.dim() - 3)


def _empty_gradients(replicas: Sequence[_Replica]) -> tuple[list[Tensor], list[Tensor]]:
    """Uninitialised gradients of all replicas: (replicas, in, out) of each weight, and those of each bias."""
    of_layers = replicas[0][1:3]
    weights, biases = ([t.new_empty(len(replicas), *t.shape) for t in tensors] for tensors in of_layers)
    return weights, biases


def _chunks(rows: int, per_row: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive slices of the rows, each with the slice of their pairs."""
    step = max(1, CHUNK // per_row)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        yield slice(begin, end), slice(begin * per_row, end * per_row)


def _unbind(tensor: Tensor, axes: int) -> Sequence[Tensor]:
    """Views of a tensor, one for each index of its first `axes` axes."""
    views: Sequence[Tensor] = [tensor]
    for _ in range(axes):
        views = views[0].unbind() if len(views) == 1 else [v for view in views for v in view.unbind()]
    return views


def _stack(tensors: Sequence[Tensor], lead: Sequence[int]) -> Tensor:
    """One tensor (*lead, ...) from those of all replicas; a single one is not copied."""
    stacked = tensors[0] if len(tensors) == 1 else torch.stack(tensors)
    return stacked.view(*lead, *tensors[0].shape)
