"""Values of an ensemble of critics together with their gradients with respect to the action.

For a ReLU network that ends in one number the gradient is a product of its weights, with the units that are
off left out. So it is computed and differentiated by hand: its derivative and that of the value share their
matrix products, of which autograd would compute nearly twice as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ._fast_cpu import LayerProducts, relu_backward_, takes_fast_path


class Products(Protocol):
    """The products of a linear layer: of one network in 2-D tensors, or of many in 3-D tensors."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor: ...
    def weight_gradient(self, x: Tensor, g: Tensor, out: Tensor) -> None: ...
    def input_gradient(self, g: Tensor, weight: Tensor) -> Tensor: ...


class BatchedProducts:
    """The products of many networks at a time, with plain torch."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
        """x (·, B, in), weight (·, in, out), bias (·, out) -> (·, B, out)."""
        out = x.bmm(weight) if bias is None else torch.baddbmm(bias.unsqueeze(-2), x, weight)
        return out.relu_() if relu else out

    def weight_gradient(self, x: Tensor, g: Tensor, out: Tensor) -> None:
        torch.bmm(x.mT, g, out=out)

    def input_gradient(self, g: Tensor, weight: Tensor) -> Tensor:
        return g.bmm(weight.mT)


def values_and_action_gradients(
    observations: Tensor, actions: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Q(s, a) of N ReLU networks of each replica, and ∂Q/∂a; both with gradients to the weights only.

    (R, B, observation), (R, B, action), weights (R, N, in, out), biases (R, N, out) -> (R, N, B),
    (R, N, B, action).
    """
    return ValuesAndActionGradients.apply(len(weights), observations, actions, *weights, *biases)


class ValuesAndActionGradients(torch.autograd.Function):
    """`values_and_action_gradients`; on the CPU in float32 one network after the other."""

    @staticmethod
    def forward(
        ctx: Any, layers: int, observations: Tensor, actions: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs = _inputs(observations, actions, parameters[0])
        values = inputs.new_empty(*inputs.shape[:-1], 1)
        slopes = inputs.new_empty(*inputs.shape[:-1], actions.shape[-1])
        products, kept, split = _products(inputs, parameters[0]), [], observations.shape[-1]
        for x, value, slope, *tensors in _networks(products, inputs, values, slopes, *parameters):
            hidden, gradients = _forward(products, x, tensors[:layers], tensors[layers:], split, value, slope)
            kept += [*hidden, *gradients]
        ctx.save_for_backward(observations, actions, *parameters, *kept)
        ctx.layers, ctx.products = layers, products
        return values.squeeze(-1), slopes

    @staticmethod
    def backward(ctx: Any, value_grads: Tensor, slope_grads: Tensor) -> tuple[Tensor | None, ...]:
        layers, (observations, actions, *saved) = ctx.layers, ctx.saved_tensors
        parameters, kept = saved[: 2 * layers], iter(saved[2 * layers :])
        grads = [torch.empty_like(p, memory_format=torch.contiguous_format) for p in parameters]
        inputs = _inputs(observations, actions, parameters[0])
        of_networks = _networks(
            ctx.products, inputs, value_grads.unsqueeze(-1), slope_grads, *parameters[:layers], *grads
        )
        for x, value_grad, slope_grad, *tensors in of_networks:
            values = [x, *(next(kept) for _ in range(layers - 1))]
            gradients = [next(kept) for _ in range(layers - 1)]
            weights, out = tensors[:layers], tensors[layers:]
            _backward(ctx.products, values, gradients, weights, value_grad, slope_grad, out)
        return None, None, None, *grads


def _inputs(observations: Tensor, actions: Tensor, weight: Tensor) -> Tensor:
    """(R, N, B, observation + action): the same for all N networks."""
    joined = torch.cat([observations, actions], -1).unsqueeze(1)
    return joined.expand(-1, weight.shape[1], -1, -1)


def _networks(products: Products, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The parts of tensors (R, N, ...) that are computed together: one network's, or those of all."""
    if isinstance(products, BatchedProducts):
        return iter([tuple(tensor.flatten(0, 1) for tensor in tensors)])
    of_each = ([part for parts in tensor.unbind() for part in parts.unbind()] for tensor in tensors)
    return zip(*of_each, strict=True)


def _forward(
    products: Products,
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    split: int,
    value: Tensor,
    slope: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """Writes a network's values (B, 1) and their gradients to the inputs from `split` on (B, action).

    Returns the hidden values h₁, h₂, … and the gradients g₁, g₂, … of the value to what their ReLUs get.
    """
    hidden = [x]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden.append(products.linear(hidden[-1], weight, bias, relu=True))
    value.copy_(products.linear(hidden[-1], weights[-1], biases[-1]))
    gradient = weights[-1].mT.expand_as(hidden[-1]).contiguous()
    gradients = [relu_backward_(gradient, hidden[-1])]
    for layer in reversed(range(1, len(weights) - 1)):
        gradient = products.input_gradient(gradients[0], weights[layer])
        gradients.insert(0, relu_backward_(gradient, hidden[layer]))
    slope.copy_(products.input_gradient(gradients[0], weights[0][..., split:, :].contiguous()))
    return hidden[1:], gradients


def _backward(
    products: Products,
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    value_grad: Tensor,
    slope_grad: Tensor,
    out: Sequence[Tensor],
) -> None:
    """Writes the gradients of a network's weights and biases to `out`.

    With hₗ the input of layer l, dq the gradient of the loss to the value (B, 1), and uₗ that to gₗ through
    the slope, the gradient to layer l's weight is (dq·hₗ + uₗ)ᵀ gₗ₊₁, and that to its bias is Σ dq·gₗ₊₁.
    """
    layers, split = len(weights), inputs[0].shape[-1] - slope_grad.shape[-1]
    carried = slope_grad  # uₗ
    for layer in range(layers):
        last = layer == layers - 1
        if layer:
            factor = torch.addcmul(carried, value_grad, inputs[layer])
        else:
            factor = value_grad * inputs[layer]
            factor[..., split:] += carried
        weight_out, bias_out = out[layer], out[layers + layer]
        if last:
            torch.sum(factor, -2, out=weight_out.squeeze(-1))
            torch.sum(value_grad, -2, out=bias_out)
        else:
            products.weight_gradient(factor, gradients[layer], weight_out)
            products.weight_gradient(value_grad, gradients[layer], bias_out.unsqueeze(-2))
            weight = weights[layer] if layer else weights[layer][..., split:, :]
            carried = relu_backward_(products.linear(carried, weight), inputs[layer + 1])


def _products(x: Tensor, weight: Tensor) -> Products:
    return LayerProducts() if takes_fast_path(x, weight) else BatchedProducts()
