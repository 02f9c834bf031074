"""Networks with a replica axis: actors, critics, and the FLOPs of their matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from seqeval.algorithm import stream

from ._fast_cpu import mlp, mlp_on_pairs

Init = Literal["uniform", "orthogonal"]


class MLP(nn.Module):
    """R networks, or R × `copies` if given: linear layers with ReLU between them, no activation at the end.

    Initial weights come from the rng stream of each seed. `uniform`: torch's default, weights and biases from
    U(±1/√fan_in). `orthogonal`: gain √2, or `last_gain` in the last layer, and zero biases.
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
                    weight, bias = _initial(init, rng, sizes[layer], sizes[layer + 1], gain)
                    weights[layer].append(weight)
                    biases[layer].append(bias)

        def parameters(values: list[list[np.ndarray]]) -> nn.ParameterList:
            dtype = torch.get_default_dtype()
            # A transposed matrix is not contiguous, and its products are many times slower.
            stacked = [torch.from_numpy(np.ascontiguousarray(np.stack(v))) for v in values]
            return nn.ParameterList(s.unflatten(0, lead).to(device, dtype) for s in stacked)

        self.weights, self.biases = parameters(weights), parameters(biases)
        self._layers = tuple(self.weights), tuple(self.biases)  # reading torch's lists is slow

    def forward(self, x: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        """(*lead, B, in) -> (*lead, B, out).

        The output of each hidden layer is multiplied by `gain` and by its mask of 0 and 1, if any are given.
        """
        return mlp(x, *self._layers, masks, gain)


def _initial(
    init: Init, rng: np.random.Generator, fan_in: int, fan_out: int, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Initial weight (in, out) and bias (out,) of a layer, float64."""
    if init == "uniform":
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)
    tall = torch.from_numpy(rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out))))
    q, r = torch.linalg.qr(tall)  # not NumPy's, whose threads compete between processes
    q *= r.diag().sign()  # makes the distribution uniform over orthogonal matrices
    return gain * (q if fan_in >= fan_out else q.T).numpy(), np.zeros(fan_out)


class Critics(MLP):
    """Twin critics Q₁ and Q₂ of each replica."""

    def __init__(
        self,
        input_sizes: tuple[int, int],
        hidden: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        last_gain: float = math.sqrt(2),
    ) -> None:
        sizes = [sum(input_sizes), *hidden, 1]
        super().__init__("critics", sizes, seeds, device, init, copies=2, last_gain=last_gain)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        """(R, B, observation), (R, B, action) -> (R, 2, B)."""
        return super().forward(torch.cat([observations, actions], -1).unsqueeze(1)).squeeze(-1)

    def forward_many_actions(self, observations: Tensor, actions: Tensor) -> Tensor:
        """S actions in each state: (R, B, observation), (R, B, S, action) -> (R, 2, B, S).

        The part of the first layer that sees the state is computed once per state. Gradients flow to the
        weights only.
        """
        return mlp_on_pairs(observations.unsqueeze(1), actions.unsqueeze(1), *self._layers).squeeze(-1)

    def forward_frozen(self, observations: Tensor, actions: Tensor) -> Tensor:
        """As `forward`, with gradients to the actions but not to the weights."""
        weights, biases = ([p.detach() for p in params] for params in self._layers)
        x = torch.cat([observations, actions], -1).unsqueeze(1)
        return mlp(x, weights, biases).squeeze(-1)

    def q1_forward_frozen(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q₁ only, -> (R, B), with gradients to the actions but not to the weights."""
        x = torch.cat([observations, actions], -1)
        weights, biases = ([p.detach()[:, 0] for p in params] for params in self._layers)
        return mlp(x, weights, biases).squeeze(-1)


class GaussianActor(nn.Module):
    """A normal policy per replica: the mean is tanh of a network, the std does not depend on the state."""

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        log_std_range: tuple[float, float],
    ) -> None:
        super().__init__()
        self.net = MLP("actor", sizes, seeds, device, "orthogonal")
        self.log_std = nn.Parameter(torch.zeros(len(seeds), 1, sizes[-1], device=device))
        self.log_std_range = log_std_range

    def mean(self, observations: Tensor) -> Tensor:
        """(R, B, observation) -> (R, B, action), within (-1, 1)."""
        return self.net(observations).tanh()

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Sampled actions, not clipped to [-1, 1], from N(0, 1) `noise` (R, B, action)."""
        return self.mean(observations) + self.log_std.clamp(*self.log_std_range).exp() * noise

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density of the actions: (R, B, observation), (R, B, action) -> (R, B)."""
        log_std = self.log_std.clamp(*self.log_std_range)
        z = (actions - self.mean(observations)) / log_std.exp()
        return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


class TanhGaussianActor(nn.Module):
    """A normal policy per replica, squashed by tanh; mean and std depend on the state.

    log std = scale · network + offset, clipped; scale and offset are learned, starting at 1 and -1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        log_std_range: tuple[float, float],
        last_gain: float,
    ) -> None:
        super().__init__()
        outputs = [*sizes[:-1], 2 * sizes[-1]]
        self.net = MLP("actor", outputs, seeds, device, "orthogonal", last_gain=last_gain)
        self.log_std_scale = nn.Parameter(torch.ones(len(seeds), 1, 1, device=device))
        self.log_std_offset = nn.Parameter(-torch.ones(len(seeds), 1, 1, device=device))
        self.log_std_range = log_std_range

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean before tanh, and log std: (R, B, observation) -> (R, B, action) each."""
        mean, log_std = self.net(observations).chunk(2, -1)
        return mean, (self.log_std_scale * log_std + self.log_std_offset).clamp(*self.log_std_range)


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


def matmul_flops(batch_size: int, *sizes: int) -> tuple[int, int]:
    """FLOPs of the matrix products in a network's forward pass: of all layers, and of all but the first.

    The backward pass costs the first number for the weights, plus, for the gradients of the layers' inputs,
    the first number if the network's input needs a gradient and the second one if not.
    """
    layers = [2 * batch_size * a * b for a, b in pairwise(sizes)]
    return sum(layers), sum(layers[1:])
