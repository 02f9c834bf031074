"""Networks of R replicas: actors and critics as the algorithms here use them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from seqeval.algorithm import stream

from ._mlp import mlp, mlp_of_pairs

Init = Literal["uniform", "orthogonal"]


class MLP(nn.Module):
    """R networks, or R × `copies` where that is given: ReLU between linear layers, nothing after the last.

    Initial weights come from each seed's own stream. `uniform`: torch's default, weights and biases from
    U(±1/√fan_in). `orthogonal`: gain √2 and zero biases, the last layer with `last_gain`.
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
            # Contiguous, which a transposed draw is not: products with others are many times slower.
            stacked = [torch.from_numpy(np.ascontiguousarray(np.stack(v))) for v in values]
            return nn.ParameterList(s.unflatten(0, lead).to(device, dtype) for s in stacked)

        self.weights, self.biases = parameters(weights), parameters(biases)
        self._layers = tuple(self.weights), tuple(self.biases)  # the same: torch's lists are slow to read

    def forward(self, x: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        """(*lead, B, in) -> (*lead, B, out); what the hidden layers put out is multiplied by `gain` and by
        the `masks` of 0 and 1, where there are any."""
        return mlp(x, *self._layers, masks, gain)


def _initial(
    init: Init, rng: np.random.Generator, fan_in: int, fan_out: int, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's first weight (in, out) and bias (out,), float64."""
    if init == "uniform":
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)
    tall = torch.from_numpy(rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out))))
    q, r = torch.linalg.qr(tall)  # on torch's threads: NumPy's own get in each other's way between processes
    q *= r.diag().sign()  # uniform over orthogonal matrices, not as QR happens to choose
    return gain * (q if fan_in >= fan_out else q.T).numpy(), np.zeros(fan_out)


class Critics(MLP):
    """Twin critics Q₁ and Q₂ of each replica."""

    def __init__(
        self,
        spec_sizes: tuple[int, int],
        hidden: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        last_gain: float = math.sqrt(2),
    ) -> None:
        sizes = [sum(spec_sizes), *hidden, 1]
        super().__init__("critics", sizes, seeds, device, init, copies=2, last_gain=last_gain)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        """(R, B, observation), (R, B, action) -> (R, 2, B)."""
        return super().forward(torch.cat([observations, actions], -1).unsqueeze(1)).squeeze(-1)

    def of_sets(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Several actions in each state: (R, B, observation), (R, B, S, action) -> (R, 2, B, S).

        The part of the first layer that sees the state is computed once a state. Gradients go to the weights
        alone.
        """
        x, sets = observations.unsqueeze(1), actions.unsqueeze(1)
        return mlp_of_pairs(x, sets, *self._layers).squeeze(-1)

    def frozen(self, observations: Tensor, actions: Tensor) -> Tensor:
        """As `forward`, with gradients to the actions and not to the weights."""
        weights, biases = ([p.detach() for p in params] for params in self._layers)
        x = torch.cat([observations, actions], -1).unsqueeze(1)
        return mlp(x, weights, biases).squeeze(-1)

    def first(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q₁ alone, with gradients to the actions and not to its weights: -> (R, B)."""
        x = torch.cat([observations, actions], -1)
        weights, biases = ([p.detach()[:, 0] for p in params] for params in self._layers)
        return mlp(x, weights, biases).squeeze(-1)


class GaussianActor(nn.Module):
    """A normal policy of each replica: its mean tanh of a network, its std the same in every state."""

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
        """Actions, not confined to [-1, 1], by way of N(0, 1) `noise` (R, B, action)."""
        return self.mean(observations) + self.log_std.clamp(*self.log_std_range).exp() * noise

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density of the actions: (R, B, observation), (R, B, action) -> (R, B)."""
        log_std = self.log_std.clamp(*self.log_std_range)
        z = (actions - self.mean(observations)) / log_std.exp()
        return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def products(batch_size: int, *sizes: int) -> tuple[int, int]:
    """FLOPs of a network's matrix products in a forward pass: all of them, and all but the first layer's.

    A backward pass takes as many again for the weights, and for the inputs of the layers as many again if
    the network's own input needs gradients, else all but the first layer's.
    """
    layers = [2 * batch_size * a * b for a, b in pairwise(sizes)]
    return sum(layers), sum(layers[1:])


class TanhGaussianActor(nn.Module):
    """A normal policy of each replica, squashed by tanh; the state decides its mean and its std.

    log std = scale · network + offset, clipped, where scale and offset are learnt, from 1 and -1.
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
        """Mean, not squashed yet, and log std: (R, B, observation) -> (R, B, action) each."""
        mean, log_std = self.net(observations).chunk(2, -1)
        return mean, (self.log_std_scale * log_std + self.log_std_offset).clamp(*self.log_std_range)


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std · noise), shaped as `noise` (..., action), and its log-density (...)."""
    raw = mean + log_std.exp() * noise
    # log(1 - tanh²) without a difference of nearly equal numbers, and of functions whose every element is
    # rounded alike wherever it stands in a tensor (softplus is not).
    log_slope = 2 * (math.log(2) - raw.abs() - (-2 * raw.abs()).exp().log1p())
    log_normal = -(0.5 * noise.square() + log_std + 0.5 * math.log(2 * math.pi))
    return raw.tanh(), (log_normal - log_slope).sum(-1)


class PerReplica(nn.Module):
    """One learnable number for each replica."""

    def __init__(self, value: float, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((len(seeds),), value, device=device))


M = TypeVar("M", bound=nn.Module)


def target_of(network: M) -> M:
    """A copy that follows its network through `follow` alone."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(targets: Iterable[nn.Module], networks: Iterable[nn.Module], rate: float) -> None:
    """Target weights move the share `rate` of the way to the networks' (Polyak averaging)."""
    torch._foreach_lerp_(
        [p for target in targets for p in target.parameters()],
        [p for network in networks for p in network.parameters()],
        rate,
    )


class Adam:
    """Adam (Kingma & Ba, arXiv 1412.6980) over the weights of a network; with a weight decay, AdamW
    (Loshchilov & Hutter, arXiv 1711.05101).

    On the CPU each replica's part of a weight is stepped as a tensor of its own: the fused kernel rounds the
    last few elements of a tensor differently from the others, and which those are would depend on how many
    replicas there are.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.0,
        decay_over: int | None = None,
    ) -> None:
        """`decay_over`: the learning rate falls by a cosine over so many steps, and there are no more."""
        self.parameters = list(network.parameters())
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.first = [torch.zeros_like(p) for p in self.parameters]  # moments of the gradient
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.steps = torch.zeros((), device=self.parameters[0].device)
        self._parts = [_by_replica(tensors) for tensors in (self.parameters, self.first, self.second)]
        # Of each step, counted from 1, and looked up by a count that is a tensor: what a CUDA graph replays
        # sees no number of the host's. On a GPU the fused kernel wants float32.
        self.rates: Tensor | None = None
        if decay_over is not None:
            rates = [learning_rate * cosine_decay(step, decay_over) for step in range(1, decay_over + 1)]
            dtype = torch.float64 if self.steps.is_cpu else torch.float32
            self.rates = torch.tensor([0.0, *rates], dtype=dtype, device=self.steps.device)

    @torch.no_grad()
    def descend(self, losses: Tensor) -> None:
        """One step down the losses (R,), each of which depends on its own replica's weights alone."""
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            losses.sum().backward()
        parameters, first, second = self._parts
        grads = _by_replica([p.grad for p in self.parameters if p.grad is not None])
        self.steps += 1
        torch._fused_adamw_(
            parameters,
            grads,
            first,
            second,
            [],
            [self.steps] * len(parameters),
            lr=self.learning_rate if self.rates is None else self.rates.take(self.steps.long()),
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "first": list(self.first), "second": list(self.second)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps.copy_(state["steps"])
        for mine, saved in zip((*self.first, *self.second), (*state["first"], *state["second"]), strict=True):
            mine.copy_(saved)


def cosine_decay(update: int, total: int) -> float:
    """From 1 at the first of `total` updates, counted from 1, towards 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * (update - 1) / total))


def _by_replica(tensors: Sequence[Tensor]) -> list[Tensor]:
    """On the CPU the replicas' parts of tensors (R, ...), as views; elsewhere the tensors."""
    on_cpu = tensors[0].device.type == "cpu"
    return [part for tensor in tensors for part in tensor.detach().unbind()] if on_cpu else list(tensors)
