"""Adam with a replica axis, and target networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from seqeval.algorithm import per_replica, replica_values

from . import _fast_cpu

H = TypeVar("H")
M = TypeVar("M", bound=nn.Module)


class Adam:
    """Adam (Kingma & Ba, arXiv 1412.6980) for the parameters of a network; with weight decay, AdamW
    (Loshchilov & Hutter, arXiv 1711.05101).

    On the CPU each replica's part of a parameter is updated as a separate tensor: the fused kernel rounds the
    last few elements of a tensor differently from the others, and which those are would depend on the number
    of replicas.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float | Tensor,
        weight_decay: float | Tensor = 0.0,
        decay_over: int | None = None,
        warm_up: int | None = None,
        clip: float | None = None,
    ) -> None:
        """Learning rate and weight decay: a number, or one for each replica (R,). `decay_over`: total number
        of steps, over which the learning rate decays by a cosine. `warm_up`: steps over which it rises
        linearly. `clip`: the norm of a replica's gradient, at most."""
        self.parameters = list(network.parameters())
        self.exp_avg = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p) for p in self.parameters]
        self.clip = clip
        self.steps = torch.zeros((), device=self.parameters[0].device)
        replicas = len(self.parameters[0])
        rates, decays = replica_values(learning_rate, replicas), replica_values(weight_decay, replicas)
        # On a GPU with equal settings, a step is one call for all replicas.
        self._split = self.steps.is_cpu or len(set(zip(rates, decays, strict=True))) > 1
        self._groups = [
            self._group(place, rate, decay, _rate_factors(decay_over, warm_up))
            for (rate, decay), place in _places(zip(rates, decays, strict=True)).items()
        ]

    def _group(
        self, replicas: list[int], rate: float, weight_decay: float, factors: Sequence[float]
    ) -> _Group:
        parts = self._parts_of(replicas, self.parameters, self.exp_avg, self.exp_avg_sq)
        rates = None
        if factors:
            # The learning rate of each step, counted from 1, indexed by a tensor: a CUDA graph replays no
            # number of the host. On a GPU the fused kernel requires float32.
            values = [0.0, *(rate * factor for factor in factors)]
            dtype = torch.float64 if self.steps.is_cpu else torch.float32
            rates = torch.tensor(values, dtype=dtype, device=self.steps.device)
        return _Group(replicas, *parts, rate, rates, weight_decay)

    def _parts_of(self, replicas: list[int], *tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Of each list of tensors (R, ...), the views of these replicas' parts, or the tensors themselves."""
        if not self._split:
            return [[tensor.detach() for tensor in of_kind] for of_kind in tensors]
        parts = ([tensor.detach().unbind() for tensor in of_kind] for of_kind in tensors)
        return [[part[replica] for part in of_kind for replica in replicas] for of_kind in parts]

    @torch.no_grad()
    def minimize(self, losses: Tensor) -> None:
        """Take one step on the losses (R,), each of which depends on its own replica's parameters only."""
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            losses.sum().backward()
        grads = [p.grad for p in self.parameters if p.grad is not None]
        if self.clip is not None:
            clip_norms(grads, self.clip)
        self.steps += 1
        for group in self._groups:
            (parts,) = self._parts_of(group.replicas, grads)
            rate: float | Tensor = group.rate
            if group.rates is not None:  # the last one stays
                rate = group.rates.take(self.steps.long().clamp(max=len(group.rates) - 1))
            _fast_cpu.adamw_(
                group.parameters,
                parts,
                group.exp_avg,
                group.exp_avg_sq,
                self.steps,
                rate,
                group.weight_decay,
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "exp_avg": list(self.exp_avg),
            "exp_avg_sq": list(self.exp_avg_sq),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps.copy_(state["steps"])
        saved = (*state["exp_avg"], *state["exp_avg_sq"])
        for tensor, value in zip((*self.exp_avg, *self.exp_avg_sq), saved, strict=True):
            tensor.copy_(value)


def _rate_factors(decay_over: int | None, warm_up: int | None) -> list[float]:
    """The factor of the learning rate at each step; empty if it is constant."""
    steps = range(1, (decay_over or warm_up or 0) + 1)
    decay = [1.0 if decay_over is None else cosine_decay(step, decay_over) for step in steps]
    rise = [1.0 if warm_up is None else min(1.0, step / warm_up) for step in steps]
    return [a * b for a, b in zip(decay, rise, strict=True)]


def cosine_decay(update: int, total: int) -> float:
    """Factor of the learning rate at an update counted from 1: from 1 towards 0 (arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * (update - 1) / total))


def clip_norms(grads: Sequence[Tensor], maximum: float) -> None:
    """Scales the gradients (R, ...) of each replica so that their norm over all parameters is at most
    `maximum`, as torch.nn.utils.clip_grad_norm_ does."""
    squares = torch.zeros(len(grads[0]), dtype=grads[0].dtype, device=grads[0].device)
    for grad in grads:
        # Replica by replica on the CPU: how torch sums a tensor there depends on its shape.
        parts = [part.square().sum() for part in grad] if grad.is_cpu else None
        squares = squares + (grad.flatten(1).square().sum(1) if parts is None else torch.stack(parts))
    factors = (maximum / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factors.view(-1, *(1,) * (grad.dim() - 1)))


def target_copy(network: M) -> M:
    """A copy without gradients, to be updated by `polyak_update`."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def polyak_update(targets: Iterable[nn.Module], networks: Iterable[nn.Module], rate: float | Tensor) -> None:
    """target ← (1 - rate) · target + rate · network, for each parameter of each pair; `rate` is a number or
    one for each replica (R,)."""
    old = [p for target in targets for p in target.parameters()]
    new = [p for network in networks for p in network.parameters()]
    if not isinstance(rate, Tensor):
        _fast_cpu.lerp_(old, new, rate)
        return
    for target, parameter in zip(old, new, strict=True):
        target.lerp_(parameter, per_replica(rate, parameter))


class _Group(NamedTuple):
    """Replicas with equal settings, and their parts of the parameters and averages."""

    replicas: list[int]
    parameters: list[Tensor]
    exp_avg: list[Tensor]
    exp_avg_sq: list[Tensor]
    rate: float
    rates: Tensor | None  # of each step, if the rate decays
    weight_decay: float


def _places(values: Iterable[H]) -> dict[H, list[int]]:
    """The places of each value."""
    places: dict[H, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return places
