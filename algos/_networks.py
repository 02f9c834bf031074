"""Networks with a replica axis: actors, critics, and the FLOPs of their matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqeval.algorithm import Noise, stream

from ._action_gradients import values_and_action_gradients
from ._fast_cpu import mlp, mlp_on_pairs

Init = Literal["uniform", "orthogonal", "xavier"]
Activation = Literal["relu", "gelu"]
LayerNorm = Literal["before", "after"]  # the activation

NORM_EPSILON = 1e-6  # added to the variance in layer normalisation
VECTOR = 64  # a multiple of the elements that the CPU's kernels treat alike


class Layers(NamedTuple):
    """The parameters of a network, those of its layer normalisation included."""

    weights: tuple[Tensor, ...]  # (*lead, in, out) of each layer
    biases: tuple[Tensor, ...]  # (*lead, out) of each layer
    scales: tuple[Tensor, ...]  # (*lead, width) of each hidden layer; none without layer normalisation
    shifts: tuple[Tensor, ...]

    def detached(self) -> Layers:
        return Layers(*(tuple(p.detach() for p in group) for group in self))

    def first_copy(self) -> Layers:
        """Those of the first of a replica's copies."""
        return Layers(*(tuple(p[:, 0] for p in group) for group in self))


class MLP(nn.Module):
    """R networks, or R × `copies` if given: linear layers, and an activation after each but the last.

    Initial weights come from the rng stream of each seed. `uniform`: torch's default, weights and biases from
    U(±1/√fan_in). `orthogonal`: gain √2, or `last_gain` in the last layer, and zero biases. `xavier`: U(±a)
    with a = √(6/(fan_in + fan_out)), and zero biases. `hidden_bias` replaces the biases of all layers but the
    last by a constant; `last_bound` draws weights and biases of the last layer from U(±last_bound).

    `gelu` is the tanh approximation, JAX's default. `layer_norm` normalises each hidden layer's outputs
    before or after the activation, with learned scale and shift (Ba, Kiros, Hinton, arXiv 1607.06450).
    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        copies: int | None = None,
        last_gain: float = math.sqrt(2),
        hidden_bias: float | None = None,
        last_bound: float | None = None,
        activation: Activation = "relu",
        layer_norm: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        gains = [math.sqrt(2)] * (len(sizes) - 2) + [last_gain]
        lead = (len(seeds),) if copies is None else (len(seeds), copies)
        weights: list[list[np.ndarray]] = [[] for _ in gains]
        biases: list[list[np.ndarray]] = [[] for _ in gains]
        for seed in seeds:
            rng = stream(seed, "weights", name)
            for _ in range(copies or 1):
                for layer, gain in enumerate(gains):
                    shape = sizes[layer], sizes[layer + 1]
                    weight, bias = _initial(init, rng, *shape, gain)
                    if layer == len(gains) - 1:
                        if last_bound is not None:
                            weight = rng.uniform(-last_bound, last_bound, shape)
                            bias = rng.uniform(-last_bound, last_bound, shape[1])
                    elif hidden_bias is not None:
                        bias = np.full(shape[1], hidden_bias)
                    weights[layer].append(weight)
                    biases[layer].append(bias)

        def parameters(values: list[list[np.ndarray]]) -> nn.ParameterList:
            dtype = torch.get_default_dtype()
            # A transposed matrix is not contiguous, and its products are many times slower.
            stacked = [torch.from_numpy(np.ascontiguousarray(np.stack(v))) for v in values]
            return nn.ParameterList(s.unflatten(0, lead).to(device, dtype) for s in stacked)

        self.weights, self.biases = parameters(weights), parameters(biases)
        self.activation, self.layer_norm = activation, layer_norm
        widths = sizes[1:-1] if layer_norm else ()
        self.scales = nn.ParameterList(torch.ones(*lead, width, device=device) for width in widths)
        self.shifts = nn.ParameterList(torch.zeros(*lead, width, device=device) for width in widths)
        # Reading torch's lists is slow.
        self._layers = Layers(tuple(self.weights), tuple(self.biases), tuple(self.scales), tuple(self.shifts))

    def forward(self, x: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        """(*lead, B, in) -> (*lead, B, out).

        The output of each hidden layer is multiplied by `gain` and by its mask of 0 and 1, if any are given.
        """
        return self._compute(self._layers, x, masks, gain)

    def _compute(self, layers: Layers, x: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        """The output of a network of this kind whose parameters are `layers`."""
        if self.activation == "relu" and self.layer_norm is None:
            return mlp(x, layers.weights, layers.biases, masks, gain)
        last = len(layers.weights) - 1
        # Where a linear layer follows, scale and shift are part of its weights, which are fewer numbers.
        folds = self.layer_norm == "after" and not masks and gain == 1
        for layer, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
            if folds and layer:
                scale, shift = layers.scales[layer - 1], layers.shifts[layer - 1]
                bias = bias + (shift.unsqueeze(-1) * weight).sum(-2)
                weight = scale.unsqueeze(-1) * weight
            x = mlp(x, [weight], [bias])
            if layer == last:
                return x
            if self.layer_norm == "before":
                x = _normalize(x, layers.scales[layer], layers.shifts[layer])
            x = x.relu() if self.activation == "relu" else _gelu(x)
            if folds:
                x = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
            elif self.layer_norm == "after":
                x = _normalize(x, layers.scales[layer], layers.shifts[layer])
            x = gain * x if gain != 1 else x
            x = x * masks[layer] if masks else x
        return x


def _normalize(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer normalisation over the last axis: x (*lead, B, width), scale and shift (*lead, width)."""
    normal = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
    return normal * scale.unsqueeze(-2) + shift.unsqueeze(-2)


def _gelu(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (Hendrycks & Gimpel, arXiv 1606.08415), for x (R, ...).

    torch's operator rounds the last few elements of a tensor differently from the others on a CPU. It is used
    only where these are none, so that a replica's numbers do not depend on how many others there are.
    """
    if not x.is_cpu or x[0].numel() % VECTOR == 0:
        return functional.gelu(x, approximate="tanh")
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)).tanh())


def _initial(
    init: Init, rng: np.random.Generator, fan_in: int, fan_out: int, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Initial weight (in, out) and bias (out,) of a layer, float64."""
    if init == "uniform":
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)
    if init == "xavier":
        bound = math.sqrt(6 / (fan_in + fan_out))
        return rng.uniform(-bound, bound, (fan_in, fan_out)), np.zeros(fan_out)
    tall = torch.from_numpy(rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out))))
    q, r = torch.linalg.qr(tall)  # not NumPy's, whose threads compete between processes
    q *= r.diag().sign()  # makes the distribution uniform over orthogonal matrices
    return gain * (q if fan_in >= fan_out else q.T).numpy(), np.zeros(fan_out)


class Critics(MLP):
    """An ensemble of `copies` critics Q₁, Q₂, … of each replica: twins by default."""

    def __init__(
        self,
        input_sizes: tuple[int, int],
        hidden: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        copies: int = 2,
        **network: Any,
    ) -> None:
        """`network` are further arguments of the `MLP`."""
        super().__init__("critics", [sum(input_sizes), *hidden, 1], seeds, device, init, copies, **network)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        """(R, B, observation), (R, B, action) -> (R, N, B)."""
        return super().forward(_joined(observations, actions)).squeeze(-1)

    def forward_many_actions(self, observations: Tensor, actions: Tensor) -> Tensor:
        """S actions in each state: (R, B, observation), (R, B, S, action) -> (R, N, B, S).

        The part of the first layer that sees the state is computed once per state. Gradients flow to the
        weights only. For ReLU networks without layer normalisation.
        """
        assert (self.activation, self.layer_norm) == ("relu", None), "not for this kind of network"
        weights, biases = self._layers[:2]
        return mlp_on_pairs(observations.unsqueeze(1), actions.unsqueeze(1), weights, biases).squeeze(-1)

    def forward_subset(self, observations: Tensor, actions: Tensor, chosen: Tensor) -> Tensor:
        """As `forward`, of M critics of each replica: `chosen` (R, M) are their places -> (R, M, B)."""
        replicas = torch.arange(len(chosen), device=chosen.device).unsqueeze(1)
        layers = Layers(*(tuple(p[replicas, chosen] for p in group) for group in self._layers))
        return self._compute(layers, _joined(observations, actions)).squeeze(-1)

    def forward_frozen(self, observations: Tensor, actions: Tensor) -> Tensor:
        """As `forward`, with gradients to the actions but not to the weights."""
        return self._compute(self._layers.detached(), _joined(observations, actions)).squeeze(-1)

    def with_action_gradients(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Q and ∂Q/∂a: (R, B, observation), (R, B, action) -> (R, N, B), (R, N, B, action).

        Gradients of both flow to the weights only. For ReLU networks without layer normalisation.
        """
        assert (self.activation, self.layer_norm) == ("relu", None), "not for this kind of network"
        return values_and_action_gradients(observations, actions, *self._layers[:2])

    def q1_forward_frozen(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q₁ only, -> (R, B), with gradients to the actions but not to the weights."""
        layers = self._layers.detached().first_copy()
        return self._compute(layers, torch.cat([observations, actions], -1)).squeeze(-1)


def _joined(observations: Tensor, actions: Tensor) -> Tensor:
    """The input of an ensemble: (R, 1, B, observation + action)."""
    return torch.cat([observations, actions], -1).unsqueeze(1)


class GaussianActor(nn.Module):
    """A normal policy per replica: the mean is tanh of a network, the std does not depend on the state."""

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        log_std_range: tuple[float, float],
        last_gain: float = math.sqrt(2),
    ) -> None:
        super().__init__()
        self.net = MLP("actor", sizes, seeds, device, "orthogonal", last_gain=last_gain)
        self.log_std = nn.Parameter(torch.zeros(len(seeds), 1, sizes[-1], device=device))
        self.log_std_range = log_std_range

    def mean(self, observations: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        """(R, B, observation) -> (R, B, action), within (-1, 1); masks and gain as in `MLP`."""
        return self.net(observations, masks, gain).tanh()

    def distribution(
        self, observations: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0
    ) -> DiagonalNormal:
        """The policy at (R, B, observation); masks and gain as in `MLP`."""
        mean = self.mean(observations, masks, gain)
        return DiagonalNormal(mean, self.log_std.clamp(*self.log_std_range))

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """As `DiagonalNormal.sample`."""
        return self.distribution(observations).sample(noise)

    def log_prob(
        self, observations: Tensor, actions: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0
    ) -> Tensor:
        """As `DiagonalNormal.log_prob`; masks and gain as in `MLP`."""
        return self.distribution(observations, masks, gain).log_prob(actions)


class DiagonalNormal(NamedTuple):
    """A normal distribution of actions for each state."""

    mean: Tensor  # (R, B, action)
    log_std: Tensor  # (R, 1, action)

    def sample(self, noise: Tensor) -> Tensor:
        """Sampled actions, not clipped to [-1, 1], from N(0, 1) `noise` (R, B, action)."""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of actions: (R, B, action) -> (R, B)."""
        z = (actions - self.mean) / self.log_std.exp()
        return -(0.5 * z.square() + self.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


class TanhGaussianActor(nn.Module):
    """A normal policy per replica, squashed by tanh; mean and std depend on the state.

    The log std is the network's second half, clipped to `log_std_range`; if `learned_scale` is set, after
    scale · log std + offset, which are learned, starting at 1 and -1. `network` are further arguments of the
    `MLP`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        log_std_range: tuple[float, float],
        init: Init,
        learned_scale: bool = False,
        **network: Any,
    ) -> None:
        super().__init__()
        outputs = [*sizes[:-1], 2 * sizes[-1]]
        self.net = MLP("actor", outputs, seeds, device, init, **network)
        self.log_std_range, self.learned_scale = log_std_range, learned_scale
        if learned_scale:
            self.log_std_scale = nn.Parameter(torch.ones(len(seeds), 1, 1, device=device))
            self.log_std_offset = nn.Parameter(-torch.ones(len(seeds), 1, 1, device=device))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean before tanh, and log std: (R, B, observation) -> (R, B, action) each."""
        mean, log_std = self.net(observations).chunk(2, -1)
        if self.learned_scale:
            log_std = self.log_std_scale * log_std + self.log_std_offset
        return mean, log_std.clamp(*self.log_std_range)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density of actions within (-1, 1): (R, B, observation), (R, B, action) -> (R, B)."""
        mean, log_std = self(observations)
        # The sample that is these actions; those of the data stay 1e-5 away from the bounds. Not by atanh,
        # which rounds the last few elements of a tensor differently from the others.
        raw = 0.5 * (actions.log1p() - (-actions).log1p())
        return squashed_sample(mean, log_std, (raw - mean) / log_std.exp())[1]


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std · noise), of the shape of `noise` (..., action), and its log-density (...)."""
    raw = mean + log_std.exp() * noise
    # log(1 - tanh²) without cancellation, by functions that round an element alike wherever it is in a
    # tensor (softplus does not).
    log_slope = 2 * (math.log(2) - raw.abs() - (-2 * raw.abs()).exp().log1p())
    log_normal = -(0.5 * noise.square() + log_std + 0.5 * math.log(2 * math.pi))
    return raw.tanh(), (log_normal - log_slope).sum(-1)


class Scalar(nn.Module):
    """One learnable number per replica."""

    def __init__(self, value: float, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((len(seeds),), value, device=device))


def dropout_masks(batch_size: int, hidden: Sequence[int], dropout: float) -> dict[str, Noise]:
    """The masks of hidden layers that leave out a unit with probability `dropout`; none if that is 0.

    The other units are multiplied by `gain` = 1 / (1 - dropout).
    """
    if dropout == 0:
        return {}
    return {f"keep_{i}": Noise("bernoulli", (batch_size, n), 1 - dropout) for i, n in enumerate(hidden)}


def matmul_flops(batch_size: int, *sizes: int) -> tuple[int, int]:
    """FLOPs of the matrix products in a network's forward pass: of all layers, and of all but the first.

    The backward pass costs the first number for the weights, plus, for the gradients of the layers' inputs,
    the first number if the network's input needs a gradient and the second one if not.
    """
    layers = [2 * batch_size * a * b for a, b in pairwise(sizes)]
    return sum(layers), sum(layers[1:])
